//! Names and types of columns, from the beginning of a file.

use std::collections::HashMap;
use std::io::Read;

use dataframe_jobs::operation::Dtype;
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::files::{CsvFile, unreadable};
use super::null_words::NullWords;
use super::records::{RecordsError, find_record, record_starts};
use super::values::{ValueKind, is_read_by_arrow, kind_of};
use crate::error::FrameError;

/// How far a sample grows until it has a whole record.
const MAX_SAMPLE_BYTES: usize = 64 << 20;

/// What the beginning of a file shows.
#[derive(Debug, Clone, Default)]
pub(super) struct FileSample {
    /// The names of the columns. None if the file has no record at all.
    pub(super) names: Vec<String>,
    pub(super) columns: Vec<ColumnSample>,
    /// Whether there is a quote in it.
    pub(super) quotes: bool,
}

/// What the values of a column were like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ColumnSample {
    rows: bool,
    bools: bool,
    ints: bool,
    big_ints: bool,
    floats: bool,
    texts: bool,
    /// A word for a missing value.
    words: bool,
    /// A value that arrow's parser of integers, or of floats, does not read.
    not_arrow_int: bool,
    not_arrow_float: bool,
}

impl ColumnSample {
    pub(super) fn add(&mut self, value: &str, null_words: &NullWords) {
        self.rows = true;
        if value.is_empty() {
            return;
        }
        if null_words.contains(value) {
            self.words = true;
            self.not_arrow_float |= !is_read_by_arrow(value, Dtype::Float64);
            return;
        }
        match kind_of(value) {
            ValueKind::Bool => self.bools = true,
            ValueKind::Int => self.ints = true,
            ValueKind::BigInt => self.big_ints = true,
            ValueKind::Float => self.floats = true,
            ValueKind::Text => self.texts = true,
        }
        self.not_arrow_int |= !is_read_by_arrow(value, Dtype::Int64);
        self.not_arrow_float |= !is_read_by_arrow(value, Dtype::Float64);
    }

    pub(super) fn join(&mut self, other: Self) {
        self.rows |= other.rows;
        self.bools |= other.bools;
        self.ints |= other.ints;
        self.big_ints |= other.big_ints;
        self.floats |= other.floats;
        self.texts |= other.texts;
        self.words |= other.words;
        self.not_arrow_int |= other.not_arrow_int;
        self.not_arrow_float |= other.not_arrow_float;
    }

    /// The type that pandas finds. A column without values is `float64`, and `string` in a file without rows, as in Dask.
    pub(super) fn dtype(self) -> Dtype {
        let numbers = self.ints || self.big_ints || self.floats;
        match self {
            _ if self.texts || (self.bools && numbers) => Dtype::String,
            _ if self.bools => Dtype::Bool,
            _ if self.floats => Dtype::Float64,
            _ if self.big_ints => Dtype::String,
            _ if self.ints => Dtype::Int64,
            _ if self.rows => Dtype::Float64,
            _ => Dtype::String,
        }
    }

    /// Whether a column of this type has values that arrow's parser does not read.
    pub(super) fn is_careful(self, dtype: Dtype) -> bool {
        match dtype {
            Dtype::Bool => self.words,
            Dtype::Int64 => self.words || self.not_arrow_int,
            Dtype::Float64 => self.not_arrow_float,
            Dtype::Date | Dtype::Datetime | Dtype::String => false,
        }
    }
}

/// Reads names and values from the beginning of a file.
pub(super) fn sample_file(
    file: &CsvFile,
    dialect: Dialect,
    null_words: &NullWords,
    bytes: usize,
) -> Result<FileSample, FrameError> {
    let mut bytes = bytes;
    loop {
        let (sample, is_whole) = read_start(file, bytes)?;
        let enough = is_whole || bytes >= MAX_SAMPLE_BYTES;
        let found = FileReader { file, dialect, null_words, sample: &sample, is_whole }.read()?;
        match found {
            Some(found) => return Ok(found),
            None if enough => {
                return Err(FrameError::BadJob(format!(
                    "{}: the first record does not end within {MAX_SAMPLE_BYTES} bytes: is the quote right?",
                    file.path
                )));
            }
            None => bytes *= 8,
        }
    }
}

fn read_start(file: &CsvFile, bytes: usize) -> Result<(Vec<u8>, bool), FrameError> {
    let mut sample = Vec::new();
    let read = file.open()?.take(bytes as u64 + 1).read_to_end(&mut sample);
    read.map_err(|error| unreadable(&file.path, &error))?;
    let is_whole = sample.len() <= bytes;
    sample.truncate(bytes);
    Ok((sample, is_whole))
}

struct FileReader<'a> {
    file: &'a CsvFile,
    dialect: Dialect,
    null_words: &'a NullWords,
    sample: &'a [u8],
    is_whole: bool,
}

impl FileReader<'_> {
    /// Returns nothing if the sample ends before its first records do.
    fn read(&self) -> Result<Option<FileSample>, FrameError> {
        let quotes = memchr::memchr(self.dialect.quote, self.sample).is_some();
        if quotes && self.is_whole {
            self.check_quotes()?;
        }
        let mut found = FileSample { quotes, ..FileSample::default() };
        let mut reader = self.dialect.reader(self.sample);
        let (mut record, mut next) = (::csv::ByteRecord::new(), ::csv::ByteRecord::new());
        let read_next = |reader: &mut ::csv::Reader<_>, next: &mut _| {
            reader.read_byte_record(next).map_err(|error| self.bad(&error.to_string()))
        };
        if !read_next(&mut reader, &mut record)? {
            return Ok(self.is_whole.then_some(found));
        }
        let mut number = 0;
        loop {
            let is_last = !read_next(&mut reader, &mut next)?;
            // The last record of a sample is a part of a record.
            if is_last && !self.is_whole {
                return Ok((number > u64::from(self.dialect.header)).then_some(found));
            }
            self.add(&mut found, &record, number)?;
            if is_last {
                return Ok(Some(found));
            }
            std::mem::swap(&mut record, &mut next);
            number += 1;
        }
    }

    fn add(&self, found: &mut FileSample, record: &::csv::ByteRecord, number: u64) -> Result<(), FrameError> {
        if number == 0 {
            found.names = if self.dialect.header {
                let texts = (0..record.len()).map(|field| self.text(record, field, number));
                unique_names(&texts.collect::<Result<Vec<_>, _>>()?)
            } else {
                (0..record.len()).map(|field| field.to_string()).collect()
            };
            found.columns = vec![ColumnSample::default(); found.names.len()];
            if self.dialect.header {
                return Ok(());
            }
        }
        if record.len() > found.columns.len() {
            return Err(too_many_fields(
                &self.file.path,
                self.line(number),
                record.len(),
                found.columns.len(),
            ));
        }
        for (field, column) in found.columns.iter_mut().enumerate() {
            let value = if field < record.len() { self.text(record, field, number)? } else { "" };
            column.add(value, self.null_words);
        }
        Ok(())
    }

    fn text<'r>(
        &self,
        record: &'r ::csv::ByteRecord,
        field: usize,
        number: u64,
    ) -> Result<&'r str, FrameError> {
        std::str::from_utf8(&record[field])
            .map_err(|_| not_utf8(&self.file.path, self.line(number), field + 1))
    }

    fn line(&self, record: u64) -> Option<u64> {
        find_record(self.sample, self.dialect, record).ok().flatten().map(|found| found.line)
    }

    fn check_quotes(&self) -> Result<(), FrameError> {
        match record_starts(self.sample, self.dialect, &[u64::MAX]) {
            Err(error @ RecordsError::OpenQuote { .. }) => Err(self.bad(&error.to_string())),
            Ok(_) | Err(RecordsError::Io(_)) => Ok(()),
        }
    }

    fn bad(&self, problem: &str) -> FrameError {
        FrameError::BadJob(format!("{}: {problem}", self.file.path))
    }
}

/// The error of a record that has more fields than there are columns.
pub(super) fn too_many_fields(path: &str, line: Option<u64>, fields: usize, columns: usize) -> FrameError {
    let line = shown_line(line);
    FrameError::BadJob(format!(
        "{path}: {line} has {fields} fields, and the file has {columns} columns: quote fields that hold the separator, \
         or name the right separator"
    ))
}

/// The error of a record that is not UTF-8.
pub(super) fn not_utf8(path: &str, line: Option<u64>, field: usize) -> FrameError {
    let line = shown_line(line);
    FrameError::BadJob(format!(
        "{path}: {line}, field {field} is not UTF-8: convert the file, for example with iconv"
    ))
}

/// A line as it is named in errors.
pub(super) fn shown_line(line: Option<u64>) -> String {
    line.map_or_else(|| "a line".to_owned(), |line| format!("line {line}"))
}

/// Gives names to columns as pandas does: `x`, `x.1` for a name that is there twice, `Unnamed: 2` for no name.
fn unique_names(header: &[&str]) -> Vec<String> {
    let named = |(column, name): (usize, &&str)| {
        if name.is_empty() { format!("Unnamed: {column}") } else { (*name).to_owned() }
    };
    let given: Vec<String> = header.iter().enumerate().map(named).collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut names = Vec::with_capacity(given.len());
    for name in &given {
        let mut unique = name.clone();
        let mut count = counts.get(name).copied().unwrap_or(0);
        while count > 0 {
            counts.insert(name.clone(), count + 1);
            unique = format!("{name}.{count}");
            let is_taken = given.contains(&unique);
            count = if is_taken { count + 1 } else { counts.get(&unique).copied().unwrap_or(0) };
        }
        *counts.entry(unique.clone()).or_insert(0) += 1;
        names.push(unique);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtype(values: &[&str]) -> (Dtype, bool) {
        let words = NullWords::new(None);
        let mut sample = ColumnSample::default();
        for value in values {
            sample.add(value, &words);
        }
        (sample.dtype(), sample.is_careful(sample.dtype()))
    }

    #[test]
    fn types_are_those_of_pandas() {
        assert_eq!(dtype(&["1", "2"]), (Dtype::Int64, false));
        assert_eq!(dtype(&["1", ""]), (Dtype::Int64, false));
        assert_eq!(dtype(&["1", "NA"]), (Dtype::Int64, true));
        assert_eq!(dtype(&["1", "NaN"]), (Dtype::Int64, true));
        assert_eq!(dtype(&["1", "1.5"]), (Dtype::Float64, false));
        assert_eq!(dtype(&["1.5", "NaN", "inf"]), (Dtype::Float64, false));
        assert_eq!(dtype(&["1.5", "NA"]), (Dtype::Float64, true));
        assert_eq!(dtype(&["True", "false", ""]), (Dtype::Bool, false));
        assert_eq!(dtype(&["True", "None"]), (Dtype::Bool, true));
        assert_eq!(dtype(&["True", "1"]), (Dtype::String, false));
        assert_eq!(dtype(&["1", "x"]), (Dtype::String, false));
        assert_eq!(dtype(&["1", "18446744073709551615"]), (Dtype::String, false));
        assert_eq!(dtype(&["1.5", "18446744073709551615"]), (Dtype::Float64, false));
        assert_eq!(dtype(&["", "NA"]), (Dtype::Float64, true));
        assert_eq!(dtype(&["2020-01-01"]), (Dtype::String, false));
        assert_eq!(dtype(&[]), (Dtype::String, false));
    }

    #[test]
    fn names_are_those_of_pandas() {
        assert_eq!(unique_names(&["a", "a", "a.1", "b"]), ["a", "a.2", "a.1", "b"]);
        assert_eq!(unique_names(&["a", "", ""]), ["a", "Unnamed: 1", "Unnamed: 2"]);
        assert_eq!(unique_names(&["x", "x", "x"]), ["x", "x.1", "x.2"]);
    }
}
