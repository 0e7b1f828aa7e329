//! Why a scan fails, in words for people, or as the widening that helps.

use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::error::ArrowError;
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::{Compression, Dtype};
use datafusion::error::DataFusionError;

use super::conversion::{ConversionError, MisfitValue, fits};
use super::file_bytes::FileState;
use super::files::{check_unchanged, unreadable};
use super::inference::{not_utf8, shown_line, too_many_fields};
use super::inspection::CsvColumn;
use super::layout::ScanLayout;
use super::null_words::NullWords;
use super::records::{RecordsError, find_record, for_each_chunk, newlines, record_starts};
use super::values::{ValueKind, is_read_by_arrow, kind_of};
use crate::error::{FrameError, Widening, dtype_name};

/// How much of a value an error shows.
const SHOWN_CHARACTERS: usize = 80;

/// The part of a file that is being read.
#[derive(Debug, Clone)]
pub(super) struct ScanPlace {
    pub(super) layout: Arc<ScanLayout>,
    pub(super) null_words: Arc<NullWords>,
    pub(super) range: FileRange,
    pub(super) compression: Compression,
    /// A quote has been met.
    pub(super) quote_seen: Arc<AtomicBool>,
}

/// What arrow's parser says about a value or a record. Records and columns of the file count from 0, with the header.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ParserComplaint {
    Value { value: String, column: usize, record: u64 },
    Fields { record: u64 },
    Utf8 { record: u64, field: usize },
}

impl ScanPlace {
    /// The file as it was when the job was planned.
    pub(super) fn state(&self) -> FileState {
        self.layout.state(&self.range)
    }

    /// Explains the error of a conversion.
    pub(super) fn explain_conversion(&self, error: ConversionError) -> FrameError {
        match error {
            ConversionError::Value(misfit) => {
                self.check().err().unwrap_or_else(|| self.explain_value(&misfit))
            }
            ConversionError::Arrow(error) => self.explain(&DataFusionError::from(error)),
        }
    }

    /// Explains the error of a scan. Reads the file to find the line.
    pub(super) fn explain(&self, error: &DataFusionError) -> FrameError {
        if let Err(known) = self.check() {
            return known;
        }
        match find_source::<ArrowError>(error) {
            Some(ArrowError::ParseError(text)) => match parse_complaint(text) {
                Some(ParserComplaint::Value { value, column, record }) => {
                    let column = self.layout.frame_column(&self.range.path, column);
                    self.explain_value(&MisfitValue { record, column, value })
                }
                _ => self.find_misfit(text),
            },
            Some(ArrowError::CsvError(text)) => match parse_complaint(text) {
                Some(ParserComplaint::Fields { record }) => self.explain_fields(record),
                Some(ParserComplaint::Utf8 { record, field }) => {
                    let line = self.find(record).ok().flatten().map(|(line, _)| line);
                    not_utf8(&self.range.path, line, field)
                }
                _ => FrameError::BadJob(format!("{}: {text}", self.range.path)),
            },
            _ => classify(error, Some(&self.range.path)),
        }
    }

    /// Fails if the file has changed, or if it was cut as if it had no quotes and has some: then nothing else that a part of
    /// the file shows is sure.
    fn check(&self) -> Result<(), FrameError> {
        check_unchanged(std::slice::from_ref(&self.range))?;
        if self.is_watched() && (self.quote_seen.load(Ordering::Relaxed) || self.has_quote()) {
            return Err(FrameError::Widen(Widening::Quotes { file: self.range.path.clone() }));
        }
        Ok(())
    }

    /// Whether a quoted field may be open at the end of this part. What a compressed file holds is not seen on the way.
    pub(super) fn may_end_in_quotes(&self) -> bool {
        self.range.end >= self.range.size
            && (self.compression != Compression::None || self.quote_seen.load(Ordering::Relaxed))
    }

    /// Fails if a quoted field is open at the end of the file: the parser takes all that follows the quote for one value, and
    /// says nothing. Reads the part once more.
    pub(super) fn check_end(&self) -> Result<(), FrameError> {
        let path = &self.range.path;
        let (input, lines_before) = self.open().map_err(|error| unreadable(path, &error))?;
        match record_starts(input, self.layout.dialect, &[u64::MAX]) {
            Ok(_) => Ok(()),
            Err(RecordsError::Io(error)) => Err(unreadable(path, &error)),
            Err(RecordsError::OpenQuote { line }) => {
                let error = RecordsError::OpenQuote { line: lines_before + line };
                Err(FrameError::BadJob(format!("{path}: {error}")))
            }
        }
    }

    /// Whether a quote would make the cuts of the file wrong.
    pub(super) fn is_watched(&self) -> bool {
        self.layout.watch_quotes && (self.range.start > 0 || self.range.end < self.range.size)
    }

    fn has_quote(&self) -> bool {
        let mut found = false;
        let read = self.state().open().and_then(|file| {
            for_each_chunk(file, |chunk| {
                found = memchr::memchr(self.layout.dialect.quote, chunk).is_some();
                !found
            })
        });
        read.is_ok() && found
    }

    fn explain_value(&self, misfit: &MisfitValue) -> FrameError {
        let Some(column) = self.layout.columns.get(misfit.column) else {
            return FrameError::Internal(format!(
                "{}: the parser names column {}",
                self.range.path, misfit.column
            ));
        };
        let (file, name) = (self.range.path.clone(), column.name.clone());
        if !column.careful && fits(column, &self.null_words, &misfit.value) {
            return FrameError::Widen(Widening::Spelling { file, name });
        }
        if column.fixed {
            return self.explain_fixed(misfit);
        }
        let dtype = match (column.dtype, kind_of(&misfit.value)) {
            (Dtype::Int64, ValueKind::Float) => Dtype::Float64,
            _ => Dtype::String,
        };
        FrameError::Widen(Widening::Column { file, name, dtype })
    }

    fn explain_fixed(&self, misfit: &MisfitValue) -> FrameError {
        let column = &self.layout.columns[misfit.column];
        let line = self.find(misfit.record).ok().flatten().map(|(line, _)| line);
        let (path, line, name, dtype) =
            (&self.range.path, shown_line(line), &column.name, dtype_name(column.dtype));
        let value: String = misfit.value.chars().take(SHOWN_CHARACTERS).collect();
        FrameError::BadJob(format!(
            "{path}: {line}, column {name:?}: the value {value:?} is not of the type {dtype} that is given for the column: \
             correct the value, give another type (string holds every value), or name it as a null word"
        ))
    }

    fn explain_fields(&self, record: u64) -> FrameError {
        let (line, fields) = match self.find(record) {
            Ok(Some((line, record))) => (Some(line), record.len()),
            Ok(None) => (None, self.layout.columns.len() + 1),
            Err(error) => return unreadable(&self.range.path, &error),
        };
        too_many_fields(&self.range.path, line, fields, self.layout.columns.len())
    }

    /// Looks for the first value that does not fit, where the parser's words are not understood.
    fn find_misfit(&self, text: &str) -> FrameError {
        let input = match self.open() {
            Ok((input, _)) => input,
            Err(error) => return unreadable(&self.range.path, &error),
        };
        let mut reader = self.layout.dialect.reader(input);
        let skipped = usize::from(self.begins_with_header());
        for (number, record) in reader.byte_records().enumerate().skip(skipped) {
            let Ok(record) = record else { break };
            for (field, value) in record.iter().enumerate() {
                let column = self.layout.frame_column(&self.range.path, field);
                let Ok(value) = std::str::from_utf8(value) else { continue };
                let known = self.layout.columns.get(column);
                if known.is_some_and(|known| !self.is_readable(known, value)) {
                    return self.explain_value(&MisfitValue {
                        record: number as u64,
                        column,
                        value: value.to_owned(),
                    });
                }
            }
        }
        FrameError::Internal(format!("{}: the parser of CSV says: {text}", self.range.path))
    }

    fn is_readable(&self, column: &CsvColumn, value: &str) -> bool {
        let by_arrow = column.careful || value.is_empty() || is_read_by_arrow(value, column.dtype);
        by_arrow && fits(column, &self.null_words, value)
    }

    fn begins_with_header(&self) -> bool {
        self.layout.dialect.header && self.range.start == 0
    }

    /// The line and the fields of a record of this part of the file.
    fn find(&self, record: u64) -> io::Result<Option<(u64, ::csv::ByteRecord)>> {
        let (input, lines_before) = self.open()?;
        let Some(found) = find_record(input, self.layout.dialect, record)? else { return Ok(None) };
        let mut fields = ::csv::ByteRecord::new();
        self.layout.dialect.reader(found.bytes.as_slice()).read_byte_record(&mut fields)?;
        Ok(Some((lines_before + found.line, fields)))
    }

    /// Opens the file at the first record of the part, and counts the newlines before it.
    fn open(&self) -> io::Result<(Box<dyn Read + Send>, u64)> {
        if self.range.start == 0 {
            return Ok((self.state().decompressed(self.compression)?, 0));
        }
        let mut file = self.state().open()?;
        // The first record is the first one that begins at `start` or later.
        let before = self.range.start - 1;
        let mut lines = 0;
        for_each_chunk(file.by_ref().take(before), |chunk| {
            lines += newlines(chunk);
            true
        })?;
        file.seek(SeekFrom::Start(before))?;
        let mut start = before;
        for_each_chunk(file.by_ref(), |chunk| match memchr::memchr(b'\n', chunk) {
            Some(at) => {
                (start, lines) = (start + at as u64 + 1, lines + 1);
                false
            }
            None => {
                start += chunk.len() as u64;
                true
            }
        })?;
        file.seek(SeekFrom::Start(start))?;
        Ok((Box::new(file), lines))
    }
}

/// Reads the words of arrow-csv 59. A test pins them to that version.
fn parse_complaint(text: &str) -> Option<ParserComplaint> {
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(rest) = text.strip_prefix("Error while parsing value '") {
        let (value, rest) = rest.split_once("' as type '")?;
        let (_dtype, rest) = rest.split_once("' for column ")?;
        let (column, rest) = rest.split_once(" at line ")?;
        let (line, _) = rest.split_once(". Row data: '")?;
        let column = usize::try_from(number(column)?).ok()?;
        return Some(ParserComplaint::Value { value: value.to_owned(), column, record: number(line)? });
    }
    if let Some(rest) = text.strip_prefix("incorrect number of fields for line ") {
        let (line, _) = rest.split_once(", expected ")?;
        return Some(ParserComplaint::Fields { record: number(line)?.checked_sub(1)? });
    }
    let rest = text.strip_prefix("Encountered invalid UTF-8 data for line ")?;
    let (line, field) = rest.split_once(" and field ")?;
    let field = usize::try_from(number(field)?).ok()?;
    Some(ParserComplaint::Utf8 { record: number(line)?.checked_sub(1)?, field })
}

fn find_source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut error = Some(error);
    while let Some(inner) = error {
        if let Some(found) = inner.downcast_ref::<E>() {
            return Some(found);
        }
        // Boxes and shared references hide the error that they hold.
        if let Some(boxed) = inner.downcast_ref::<Arc<DataFusionError>>() {
            return find_source(boxed.as_ref());
        }
        error = inner.source();
    }
    None
}

/// Tells why a plan failed: what a scan has found, what the data or an expression did wrong, or what is missing.
///
/// A scan of this module has looked at its file already, so that its words name file, line, column and value.
pub fn explain_scan_error(error: &DataFusionError) -> FrameError {
    classify(error, None)
}

fn classify(error: &DataFusionError, path: Option<&str>) -> FrameError {
    if let Some(known) = find_source::<FrameError>(error) {
        return known.clone();
    }
    let root = error.find_root();
    let told = root.to_string();
    let text = path.map_or_else(|| told.clone(), |path| format!("{path}: {told}"));
    match root {
        DataFusionError::ResourcesExhausted(_) => FrameError::Resources(text),
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => FrameError::File(text),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::IoError(..) => FrameError::File(text),
            ArrowError::MemoryError(_) => FrameError::Resources(text),
            ArrowError::SchemaError(_) | ArrowError::CDataInterface(_) => FrameError::Internal(text),
            _ => FrameError::BadJob(text),
        },
        DataFusionError::SQL(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Plan(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Execution(_) => FrameError::BadJob(text),
        DataFusionError::External(error) if error.downcast_ref::<io::Error>().is_some() => {
            FrameError::File(text)
        }
        _ => FrameError::Internal(text),
    }
}

#[cfg(test)]
mod tests {
    use arrow::csv::ReaderBuilder;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn complaint(dtype: DataType, text: &[u8]) -> Option<ParserComplaint> {
        let schema = Schema::new(vec![Field::new("x", DataType::Utf8, true), Field::new("y", dtype, true)]);
        let builder = ReaderBuilder::new(Arc::new(schema)).with_header(true).with_truncated_rows(true);
        let error = builder.build(text).unwrap().collect::<Result<Vec<_>, _>>().unwrap_err();
        match error {
            ArrowError::ParseError(text) | ArrowError::CsvError(text) => parse_complaint(&text),
            error => panic!("another error: {error}"),
        }
    }

    #[test]
    fn the_words_of_arrows_parser_are_understood() {
        let value =
            |value: &str| Some(ParserComplaint::Value { value: value.to_owned(), column: 1, record: 2 });
        for dtype in [DataType::Int64, DataType::Float64, DataType::Boolean] {
            assert_eq!(complaint(dtype.clone(), b"x,y\n'a' at line 7,\n'b',c's\n"), value("c's"), "{dtype}");
        }
        assert_eq!(
            complaint(DataType::Int64, b"x,y\n1,2\n1,2,3\n"),
            Some(ParserComplaint::Fields { record: 2 })
        );
        let utf8 = Some(ParserComplaint::Utf8 { record: 1, field: 2 });
        assert_eq!(complaint(DataType::Utf8, b"x,y\na,\xff\n"), utf8);
        assert_eq!(parse_complaint("Error while parsing something else"), None);
    }

    #[test]
    fn errors_are_found_under_what_engines_put_around_them() {
        let inner = FrameError::File("gone".to_owned());
        let external = DataFusionError::External(Box::new(inner.clone()));
        let shared = DataFusionError::Shared(Arc::new(external.context("in a plan")));
        let arrow = ArrowError::ExternalError(Box::new(shared));
        assert_eq!(explain_scan_error(&DataFusionError::from(arrow)), inner);
        let exhausted = DataFusionError::ResourcesExhausted("no memory".to_owned());
        assert!(matches!(explain_scan_error(&exhausted.context("a sort")), FrameError::Resources(_)));
        let division = DataFusionError::from(ArrowError::DivideByZero);
        assert!(matches!(explain_scan_error(&division), FrameError::BadJob(_)));
    }
}
