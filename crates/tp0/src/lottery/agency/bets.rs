//! Where an agency's bets come from.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use protocol::lottery::{Bet, Field};

/// Variables of a single bet, in the order of the wire, and the prefix that they may have.
const VARIABLES: [&str; 5] = ["NOMBRE", "APELLIDO", "DOCUMENTO", "NACIMIENTO", "NUMERO"];
const PREFIX: &str = "CLI_";
/// A first line that names the columns is no bet.
const COLUMNS: [&str; 5] = ["first_name", "last_name", "document", "birthdate", "number"];
const READ_BYTES: usize = 64 * 1024;

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
                let told = || format!("cannot read the bets of {}", path.display());
                let file = File::open(path).with_context(told)?;
                let reader = csv::ReaderBuilder::new()
                    .has_headers(false)
                    .flexible(true)
                    .buffer_capacity(READ_BYTES)
                    .from_reader(file);
                Ok(Reader::File { name: path.display().to_string(), reader, record: csv::ByteRecord::new() })
            }
        }
    }
}

/// Gives one bet after the other.
pub(super) enum Reader<'a> {
    Single(Option<&'a [String; 5]>),
    File { name: String, reader: csv::Reader<File>, record: csv::ByteRecord },
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
    /// The next bet.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next(&mut self) -> anyhow::Result<Option<Result<Bet<'_>, NoBet>>> {
        let (name, reader, record) = match self {
            Self::Single(bet) => {
                let Some(fields) = bet.take() else { return Ok(None) };
                return Ok(Some(Ok(Bet::new(fields.each_ref().map(String::as_str))?)));
            }
            Self::File { name, reader, record } => (name, reader, record),
        };
        loop {
            let more = reader.read_byte_record(record).with_context(|| format!("cannot read {name}"))?;
            if !more {
                return Ok(None);
            }
            let line = record.position().map_or(0, csv::Position::line);
            if line > 1 || !record.iter().eq(COLUMNS.map(str::as_bytes)) {
                break;
            }
        }
        let line = record.position().map_or(0, csv::Position::line);
        Ok(Some(bet(record).map_err(|cause| NoBet { name: name.clone(), line, cause })))
    }
}

fn bet(record: &csv::ByteRecord) -> anyhow::Result<Bet<'_>> {
    let columns = record.len();
    anyhow::ensure!(columns == COLUMNS.len(), "{columns} columns, not the 5 of {}", COLUMNS.join(","));
    let mut fields = [""; 5];
    let names = [Field::FirstName, Field::LastName, Field::Document, Field::Birthdate, Field::Number];
    // The whole record at once, which is quicker; then field by field to tell which one it is.
    let text = std::str::from_utf8(record.as_slice());
    for (index, (field, name)) in fields.iter_mut().zip(names).enumerate() {
        let part = text.ok().and_then(|text| text.get(record.range(index)?));
        *field = match part {
            Some(part) => part,
            None => std::str::from_utf8(&record[index]).with_context(|| format!("{name} is not UTF-8"))?,
        };
    }
    Ok(Bet::new(fields)?)
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
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_that_is_no_bet_is_told_and_the_next_one_is_read() {
        let bets = b"Ana,Paz\n\"Paz, Ana\",x,1,2000-01-01,7\n\"a\nb\",x,1,2000-01-01,7\n\xff,x,1,2000-01-01,7\na,b,c,2000-01-01,1\n";
        let told = all(bets);
        let expected = [
            "line 1: 2 columns, not the 5",
            "line 2: first_name holds ','",
            "line 3: first_name holds '\\n'",
            "line 5: first_name is not UTF-8",
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
