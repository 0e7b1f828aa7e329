//! The values of columns as text.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::FrameError;

/// How values are shown; the same everywhere.
const OPTIONS: FormatOptions<'static> = FormatOptions::new()
    .with_date_format(Some("%Y-%m-%d"))
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_datetime_format(Some("%Y-%m-%d %H:%M:%S%.f"));

/// The columns of a piece of a frame, ready to be written value by value.
pub(crate) struct ColumnTexts<'a> {
    columns: Vec<(&'a ArrayRef, ArrayFormatter<'a>)>,
}

impl<'a> ColumnTexts<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Self, FrameError> {
        let mut columns = Vec::new();
        for column in batch.columns() {
            columns.push((column, ArrayFormatter::try_new(column, &OPTIONS).map_err(|error| wrong(&error))?));
        }
        Ok(Self { columns })
    }

    /// The value as text; empty for null.
    pub(crate) fn push_text(&self, line: &mut String, column: usize, row: usize) -> Result<(), FrameError> {
        let (array, formatter) = &self.columns[column];
        if array.is_null(row) {
            return Ok(());
        }
        match array.data_type() {
            DataType::Float64 => {
                let value = array.as_primitive::<Float64Type>().value(row);
                push_float(line, value);
                Ok(())
            }
            _ => formatter.value(row).write(line).map_err(|error| wrong(&error)),
        }
    }

    /// The value as a field of CSV.
    pub(crate) fn push_csv(&self, line: &mut String, column: usize, row: usize) -> Result<(), FrameError> {
        let (array, _) = &self.columns[column];
        if array.is_null(row) {
            // A line of nothing at all would be no row: one column needs a sign of it.
            if self.columns.len() == 1 {
                line.push_str("\"\"");
            }
            return Ok(());
        }
        match text_of(array, row) {
            Some(text) => {
                push_quoted(line, text, false);
                Ok(())
            }
            None => self.push_text(line, column, row),
        }
    }

    /// The value as JSON.
    pub(crate) fn push_json(&self, line: &mut String, column: usize, row: usize) -> Result<(), FrameError> {
        let (array, _) = &self.columns[column];
        if array.is_null(row) {
            line.push_str("null");
            return Ok(());
        }
        let data_type = array.data_type();
        let finite =
            *data_type != DataType::Float64 || array.as_primitive::<Float64Type>().value(row).is_finite();
        if let Some(text) = text_of(array, row) {
            line.push_str(&serde_json::to_string(text).expect("text is JSON"));
        } else if finite && (data_type.is_numeric() || *data_type == DataType::Boolean) {
            self.push_text(line, column, row)?;
        } else {
            let mut text = String::new();
            self.push_text(&mut text, column, row)?;
            line.push_str(&serde_json::to_string(&text).expect("text is JSON"));
        }
        Ok(())
    }
}

fn text_of(array: &ArrayRef, row: usize) -> Option<&str> {
    match array.data_type() {
        DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(array.as_string_view().value(row)),
        _ => None,
    }
}

/// The shortest digits that read back as the same number, with a point or an exponent, as Python writes them.
fn push_float(line: &mut String, value: f64) {
    let size = value.abs();
    let result = if value.is_infinite() {
        write!(line, "{}", if value > 0.0 { "inf" } else { "-inf" })
    } else if size != 0.0 && !(1e-4..1e16).contains(&size) {
        write!(line, "{value:e}")
    } else {
        write!(line, "{value:?}")
    };
    result.expect("writing to a string does not fail");
}

/// Text as a field of CSV. Empty text has quotes, which tell it from null.
pub(crate) fn push_quoted(line: &mut String, text: &str, is_name: bool) {
    let plain = !text.contains([',', '"', '\n', '\r']) && (is_name || !text.is_empty());
    if plain {
        line.push_str(text);
        return;
    }
    line.push('"');
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            line.push_str("\"\"");
        }
        line.push_str(part);
    }
    line.push('"');
}

/// A separator before each field but the first.
pub(crate) fn separate(line: &mut String, index: usize, separator: char) {
    if index > 0 {
        line.push(separator);
    }
}

fn wrong(error: &arrow::error::ArrowError) -> FrameError {
    FrameError::BadJob(format!("a value cannot be written as text: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64) -> String {
        let mut line = String::new();
        push_float(&mut line, value);
        line
    }

    #[test]
    fn floats_are_short_and_read_back_as_the_same_number() {
        assert_eq!(float(1.0), "1.0");
        assert_eq!(float(0.1 + 0.2), "0.30000000000000004");
        assert_eq!(float(1e300), "1e300");
        assert_eq!(float(-1.5e-7), "-1.5e-7");
        assert_eq!(float(f64::NEG_INFINITY), "-inf");
        for value in [1e15, 123_456_789.123, 5e-324, 1.797_693_134_862_315_7e308] {
            assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn text_is_quoted_where_it_must_be() {
        let mut line = String::new();
        for text in ["a", "", "a,b", "say \"hi\"", "two\nlines"] {
            push_quoted(&mut line, text, false);
            line.push('|');
        }
        assert_eq!(line, "a|\"\"|\"a,b\"|\"say \"\"hi\"\"\"|\"two\nlines\"|");
    }
}
