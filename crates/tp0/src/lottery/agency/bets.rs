//! Where an agency's bets come from.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use protocol::lottery::{Bet, MAX_BATCH_BYTES};

/// Variables of a single bet, in the order of the wire, and the prefix that they may have.
const VARIABLES: [&str; 5] = ["NOMBRE", "APELLIDO", "DOCUMENTO", "NACIMIENTO", "NUMERO"];
const PREFIX: &str = "CLI_";
/// A first line that names the columns is no bet.
const COLUMNS: [&str; 5] = ["first_name", "last_name", "document", "birthdate", "number"];
const READ_BYTES: usize = 64 * 1024;
/// A longer record fits into no message, also without its quotes.
const MAX_RECORD_BYTES: usize = 3 * MAX_BATCH_BYTES;
/// Some spreadsheets put it in front.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where the bets come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The environment.
    Single([String; 5]),
    /// A file of CSV.
    File(PathBuf),
}

impl Source {
    /// The bet in the environment, if there is one.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Self>> {
        let values = VARIABLES.map(|name| {
            let prefixed = variable(&format!("{PREFIX}{name}"));
            prefixed.or_else(|| variable(name)).filter(|value| !value.is_empty())
        });
        if values.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut fields = [const { String::new() }; 5];
        for ((field, value), name) in fields.iter_mut().zip(values).zip(VARIABLES) {
            *field = value
                .ok_or_else(|| anyhow!("{name} is not set: a single bet needs {}", VARIABLES.join(", ")))?;
        }
        Bet::new(fields.each_ref().map(String::as_str)).context("the bet in the environment")?;
        Ok(Some(Self::Single(fields)))
    }

    /// Whether it is a single bet from the environment.
    pub fn is_single(&self) -> bool {
        matches!(self, Self::Single(_))
    }

    /// Starts reading from the first bet on.
    pub fn open(&self) -> anyhow::Result<Reader<'_>> {
        match self {
            Self::Single(fields) => Ok(Reader::Single(Some(fields))),
            Self::File(path) => {
                let name = path.display().to_string();
                let file = File::open(path).with_context(|| format!("cannot read the bets of {name}"))?;
                let file = BufReader::with_capacity(READ_BYTES, file);
                let text = Vec::with_capacity(256);
                Ok(Reader::File(Lines { name, file, next: 1, line: 0, text, unquoted: String::new() }))
            }
        }
    }
}

/// Gives one bet after the other.
pub(super) enum Reader<'a> {
    Single(Option<&'a [String; 5]>),
    File(Lines),
}

/// The records of a file of CSV.
pub(super) struct Lines {
    name: String,
    file: BufReader<File>,
    /// The number of the next line.
    next: u64,
    /// The number of the record's first line.
    line: u64,
    /// The record, without its line end.
    text: Vec<u8>,
    unquoted: String,
}

/// A line of the file that is no bet; the ones behind it may be.
#[derive(Debug, thiserror::Error)]
#[error("{name} line {line}: {cause}")]
pub(super) struct NoBet {
    name: String,
    line: u64,
    cause: anyhow::Error,
}

impl Reader<'_> {
    /// The file that is open, if there is one.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Single(_) => None,
            Self::File(lines) => Some(&lines.name),
        }
    }

    /// Closes the file; gives back its name, if there was one.
    pub fn close(self) -> Option<String> {
        match self {
            Self::Single(_) => None,
            Self::File(lines) => Some(lines.name),
        }
    }

    /// The next bet.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next(&mut self) -> anyhow::Result<Option<Result<Bet<'_>, NoBet>>> {
        let lines = match self {
            Self::Single(bet) => {
                let Some(fields) = bet.take() else { return Ok(None) };
                return Ok(Some(Ok(Bet::new(fields.each_ref().map(String::as_str))?)));
            }
            Self::File(lines) => lines,
        };
        loop {
            if !lines.read().with_context(|| format!("cannot read {}", lines.name))? {
                return Ok(None);
            }
            let is_title = lines.line == 1 && lines.text == COLUMNS.join(",").as_bytes();
            if !is_title && !lines.text.is_empty() {
                break;
            }
        }
        let (name, line) = (&lines.name, lines.line);
        let bet = bet(&lines.text, &mut lines.unquoted);
        Ok(Some(bet.map_err(|cause| NoBet { name: name.clone(), line, cause })))
    }
}

impl Lines {
    /// Reads the next record into `text`; `false` at the end. A quoted field may hold line ends; it is no bet then, but
    /// the record behind it may be.
    fn read(&mut self) -> io::Result<bool> {
        self.text.clear();
        self.line = self.next;
        loop {
            if !self.read_line()? {
                break;
            }
            self.next += 1;
            if self.text.len() > MAX_RECORD_BYTES || !ends_in_quotes(&self.text) {
                break;
            }
        }
        if self.text.is_empty() {
            return Ok(false);
        }
        if self.line == 1 && self.text.starts_with(BYTE_ORDER_MARK) {
            self.text.drain(..BYTE_ORDER_MARK.len());
        }
        while matches!(self.text.last(), Some(b'\n' | b'\r')) {
            self.text.pop();
        }
        Ok(true)
    }

    /// Adds a line, with its end, to `text`; `false` at the end. Of an over-long one only the beginning is kept.
    fn read_line(&mut self) -> io::Result<bool> {
        let limit = MAX_RECORD_BYTES as u64 + 1;
        let read = (&mut self.file).take(limit).read_until(b'\n', &mut self.text)?;
        if read as u64 == limit && self.text.last() != Some(&b'\n') {
            self.file.skip_until(b'\n')?;
        }
        Ok(read > 0)
    }
}

/// Whether the record so far ends within a quoted field: its line end is not the record's.
fn ends_in_quotes(record: &[u8]) -> bool {
    if memchr::memchr(b'"', record).is_none() {
        return false;
    }
    // A quote matters at the start of a field, and in a field that began with one; there two of them close it and open
    // it again.
    let (mut quoted, mut began_with_quote, mut at_start) = (false, false, true);
    for byte in record {
        match byte {
            b'"' if at_start => (quoted, began_with_quote) = (true, true),
            b'"' if began_with_quote => quoted = !quoted,
            b',' if !quoted => began_with_quote = false,
            _ => {}
        }
        at_start = *byte == b',' && !quoted;
    }
    quoted
}

/// Reads a record; `unquoted` is for what stands in quotes.
fn bet<'a>(record: &'a [u8], unquoted: &'a mut String) -> anyhow::Result<Bet<'a>> {
    anyhow::ensure!(record.len() <= MAX_RECORD_BYTES, "longer than {MAX_RECORD_BYTES} bytes");
    let text = std::str::from_utf8(record).context("it is not UTF-8")?;
    if memchr::memchr(b'"', record).is_none() {
        return Ok(Bet::parse(text)?);
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(record);
    let mut fields = csv::StringRecord::new();
    reader.read_record(&mut fields)?;
    let columns = fields.len();
    anyhow::ensure!(columns == COLUMNS.len(), "{columns} columns, not the 5 of {}", COLUMNS.join(","));
    unquoted.clear();
    let mut ends = [0; COLUMNS.len()];
    for (field, end) in fields.iter().zip(&mut ends) {
        unquoted.push_str(field);
        *end = unquoted.len();
    }
    let [a, b, c, d, e] = ends;
    let of = &*unquoted;
    Ok(Bet::new([&of[..a], &of[a..b], &of[b..c], &of[c..d], &of[d..e]])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Result<String, String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agency-1.csv");
        std::fs::write(&path, text).unwrap();
        let source = Source::File(path);
        let mut reader = source.open().unwrap();
        let mut all = Vec::new();
        while let Some(bet) = reader.next().unwrap() {
            all.push(bet.map(|bet| bet.fields().join("|")).map_err(|error| {
                let error = error.to_string();
                error[error.find("line").unwrap()..].to_owned()
            }));
        }
        all
    }

    #[test]
    fn a_file_is_read_with_or_without_names_of_columns() {
        let bets = "Ana,\"Núñez \"\"Tin\"\"\",1,2000-01-01,7\nJuan,Paz,2,2000-01-02,0008\r\n\nEva,Paz,3,2000-01-03,9";
        let expected =
            ["Ana|Núñez \"Tin\"|1|2000-01-01|7", "Juan|Paz|2|2000-01-02|8", "Eva|Paz|3|2000-01-03|9"]
                .map(|bet| Ok(bet.to_owned()));
        assert_eq!(all(bets.as_bytes()), expected);
        assert_eq!(all(format!("{}\n{bets}", COLUMNS.join(",")).as_bytes()), expected);
        assert_eq!(all(format!("\u{feff}{bets}").as_bytes()), expected);
        let quotes = "O\"H,b,1,2000-01-01,1\n\"O\"\"H\",b,2,2000-01-01,2\n";
        let expected_quotes = ["O\"H|b|1|2000-01-01|1", "O\"H|b|2|2000-01-01|2"];
        assert_eq!(all(quotes.as_bytes()), expected_quotes.map(|bet| Ok(bet.to_owned())));
        assert_eq!(all(b""), []);
        let long = format!("{bets}\n{}\n{bets}", "x".repeat(10 * MAX_RECORD_BYTES));
        let told = all(long.as_bytes());
        assert_eq!((&told[..3], &told[4..]), (&expected[..], &expected[..]));
        assert!(told[3].as_ref().unwrap_err().contains("longer than"));
    }

    #[test]
    fn a_line_that_is_no_bet_is_told_and_the_next_one_is_read() {
        let bets = b"Ana,Paz\n\"Paz, Ana\",x,1,2000-01-01,7\n\"a\nb\",x,1,2000-01-01,7\n\xff,x,1,2000-01-01,7\na,b,c,2000-01-01,1\n";
        let told = all(bets);
        let expected = [
            "line 1: 2 fields separated by commas, not the 5",
            "line 2: first_name holds ','",
            "line 3: first_name holds '\\n'",
            "line 5: it is not UTF-8",
        ];
        for (told, expected) in told.iter().zip(expected) {
            let told = told.as_ref().unwrap_err();
            assert!(told.starts_with(expected), "{told}");
        }
        assert_eq!(told[4..], [Ok("a|b|c|2000-01-01|1".to_owned())]);
    }

    #[test]
    fn a_single_bet_comes_from_the_environment_with_or_without_prefix() {
        let some = |name: &str| match name {
            "NOMBRE" => Some("Santiago Lionel".to_owned()),
            "CLI_APELLIDO" => Some("Lorca".to_owned()),
            "DOCUMENTO" => Some("30904465".to_owned()),
            "NACIMIENTO" => Some("1999-03-17".to_owned()),
            "CLI_NUMERO" => Some("7574".to_owned()),
            "NUMERO" => Some("1".to_owned()),
            _ => None,
        };
        let source = Source::from_environment(some).unwrap().unwrap();
        let mut reader = source.open().unwrap();
        assert_eq!(reader.next().unwrap().unwrap().unwrap().number(), 7574);
        assert!(reader.next().unwrap().is_none());
        assert!(Source::from_environment(|_| None).unwrap().is_none());
        let missing =
            Source::from_environment(|name| some(name).filter(|_| name != "DOCUMENTO")).unwrap_err();
        assert!(missing.to_string().starts_with("DOCUMENTO is not set"), "{missing}");
        let wrong = Source::from_environment(|name| some(name).map(|text| format!("{text}:"))).unwrap_err();
        assert!(format!("{wrong:#}").contains("first_name holds ':'"), "{wrong:#}");
    }
}
