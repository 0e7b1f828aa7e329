//! Reads the bets of an agency: one from the environment, or those in a file of CSV.

use std::fs::File;
use std::io::{Chain, Read as _};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use csv::{ByteRecord, ReaderBuilder, Terminator};
use protocol::lottery::{Bet, BetError, MAX_BATCH_BYTES};

/// Variables of a single bet, in the order of the wire, and the prefix that they may have.
const VARIABLES: [&str; 5] = ["NOMBRE", "APELLIDO", "DOCUMENTO", "NACIMIENTO", "NUMERO"];
const PREFIX: &str = "CLI_";
/// A first line that names the columns is no bet.
const COLUMNS: [&str; 5] = ["first_name", "last_name", "document", "birthdate", "number"];
const READ_BYTES: usize = 64 * 1024;
/// A longer record fits into no message.
const MAX_RECORD_BYTES: usize = 3 * MAX_BATCH_BYTES;

/// Where the bets come from.
#[derive(Debug)]
pub enum BetSource {
    /// The environment.
    Single([String; 5]),
    /// A file of CSV.
    File(PathBuf),
}

impl BetSource {
    /// Returns the bet in the environment, if there is one.
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

    /// Whether the source is a single bet from the environment.
    pub fn is_single(&self) -> bool {
        matches!(self, Self::Single(_))
    }

    /// Starts reading from the first bet on.
    pub fn open(&self) -> anyhow::Result<BetReader<'_>> {
        match self {
            Self::Single(fields) => Ok(BetReader::Single(Some(fields))),
            Self::File(path) => {
                let name = path.display().to_string();
                let file = File::open(path).with_context(|| format!("cannot read the bets of {name}"))?;
                let reader = ReaderBuilder::new()
                    .has_headers(false)
                    .flexible(true)
                    // A `\r` alone ends no line; that of a line end is taken off the last field.
                    .terminator(Terminator::Any(b'\n'))
                    .buffer_capacity(READ_BYTES)
                    // So that every line has an end, and can be counted.
                    .from_reader(file.chain(&b"\n"[..]));
                Ok(BetReader::File(BetFile { name, reader, record: ByteRecord::new() }))
            }
        }
    }
}

/// Gives one bet after the other.
pub enum BetReader<'a> {
    Single(Option<&'a [String; 5]>),
    File(BetFile),
}

/// A file of bets that is open.
pub struct BetFile {
    name: String,
    reader: csv::Reader<Chain<File, &'static [u8]>>,
    record: ByteRecord,
}

/// A record of the file that is no bet; the ones behind it may be.
#[derive(Debug, thiserror::Error)]
#[error("{name} line {line}: {cause}")]
pub struct NoBet {
    name: String,
    line: u64,
    cause: anyhow::Error,
}

impl BetReader<'_> {
    /// Returns the name of the file that is open, if there is one.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Single(_) => None,
            Self::File(file) => Some(&file.name),
        }
    }

    /// Returns the next bet.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next(&mut self) -> anyhow::Result<Option<Result<Bet<'_>, NoBet>>> {
        let file = match self {
            Self::Single(bet) => {
                let Some(fields) = bet.take() else { return Ok(None) };
                return Ok(Some(Ok(Bet::new(fields.each_ref().map(String::as_str))?)));
            }
            Self::File(file) => file,
        };
        let Some(line) = file.read().with_context(|| format!("cannot read {}", file.name))? else {
            return Ok(None);
        };
        let name = &file.name;
        Ok(Some(bet(&file.record).map_err(|cause| NoBet { name: name.clone(), line, cause })))
    }
}

impl BetFile {
    /// Reads the next record that is neither empty nor the names of the columns, and returns the number of its first line.
    fn read(&mut self) -> csv::Result<Option<u64>> {
        while self.reader.read_byte_record(&mut self.record)? {
            // A quoted field may hold line ends.
            let line_ends = memchr::memchr_iter(b'\n', self.record.as_slice()).count() as u64;
            let first = self.record.position().map_or(1, csv::Position::line);
            // Empty lines before the record count as part of it, so they are jumped over from behind.
            let line = (self.reader.position().line() - 1 - line_ends).max(first);
            let mut fields = self.record.iter().map(<[u8]>::trim_ascii_end);
            let is_title = line == 1 && fields.clone().eq(COLUMNS.map(str::as_bytes));
            let is_empty = self.record.len() == 1 && fields.all(<[u8]>::is_empty);
            if !is_title && !is_empty {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

fn bet(record: &ByteRecord) -> anyhow::Result<Bet<'_>> {
    ensure!(record.as_slice().len() <= MAX_RECORD_BYTES, "longer than {MAX_RECORD_BYTES} bytes");
    let mut fields = [""; COLUMNS.len()];
    for (field, bytes) in fields.iter_mut().zip(record) {
        *field = std::str::from_utf8(bytes).context("it is not UTF-8")?;
    }
    if record.len() != COLUMNS.len() {
        return Err(BetError::Fields { found: record.len() }.into());
    }
    fields[COLUMNS.len() - 1] = fields[COLUMNS.len() - 1].trim_end_matches('\r');
    Ok(Bet::new(fields)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Result<String, String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agency-1.csv");
        std::fs::write(&path, text).unwrap();
        let source = BetSource::File(path);
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
        assert_eq!(all(b"\n\r\n\n"), []);
        assert_eq!(all(b"a,b,1,2000-01-01,7\ra,b,2,2000-01-01,7\n").len(), 1, "a line, and no bet");
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
        let told = all(b"\n\r\n\nAna\n\na,\"b\nc\n\",c,2000-01-01,1\r\n\nx");
        let lines: Vec<_> = told.iter().map(|told| &told.as_ref().unwrap_err()[..6]).collect();
        assert_eq!(lines, ["line 4", "line 6", "line 10"].map(|line| &line[..6]));
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
        let source = BetSource::from_environment(some).unwrap().unwrap();
        let mut reader = source.open().unwrap();
        assert_eq!(reader.next().unwrap().unwrap().unwrap().number(), 7574);
        assert!(reader.next().unwrap().is_none());
        assert!(BetSource::from_environment(|_| None).unwrap().is_none());
        let missing =
            BetSource::from_environment(|name| some(name).filter(|_| name != "DOCUMENTO")).unwrap_err();
        assert!(missing.to_string().starts_with("DOCUMENTO is not set"), "{missing}");
        let wrong =
            BetSource::from_environment(|name| some(name).map(|text| format!("{text}:"))).unwrap_err();
        assert!(format!("{wrong:#}").contains("first_name holds ':'"), "{wrong:#}");
    }
}
