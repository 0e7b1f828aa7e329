//! How the records of a file are written.

use std::io::Read;

use dataframe_jobs::operation::CsvOptions;
use serde::{Deserialize, Serialize};

use crate::error::FrameError;

/// The characters that have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dialect {
    /// Between fields.
    pub(super) separator: u8,
    /// Around fields.
    pub(super) quote: u8,
    /// Whether the first record has the names.
    pub(super) header: bool,
}

impl Dialect {
    /// Checks the options.
    pub(super) fn new(options: &CsvOptions) -> Result<Self, FrameError> {
        let byte = |name: &str, character: char| match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(byte),
            _ => Err(FrameError::BadJob(format!("the {name} {character:?} is not one ASCII character"))),
        };
        let separator = byte("separator", options.separator)?;
        let quote = byte("quote", options.quote)?;
        if separator == quote {
            let character = options.quote;
            return Err(FrameError::BadJob(format!(
                "the separator and the quote are the same: {character:?}"
            )));
        }
        Ok(Self { separator, quote, header: options.header })
    }

    /// A reader of records of any number of fields, which takes the header for a record.
    pub(super) fn reader<R: Read>(self, input: R) -> ::csv::Reader<R> {
        ::csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.separator)
            .quote(self.quote)
            .from_reader(input)
    }
}
