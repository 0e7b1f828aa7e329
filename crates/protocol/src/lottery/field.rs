//! The fields of a bet, what they may hold, and what is wrong with those that cannot travel.

use std::fmt;

/// How many fields a bet has on the wire.
pub(super) const FIELDS: usize = 5;

/// A field of a bet or of a winner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum BetField {
    Agency,
    FirstName,
    LastName,
    Document,
    Birthdate,
    Number,
}

impl BetField {
    pub(super) const OF_BET: [Self; FIELDS] =
        [Self::FirstName, Self::LastName, Self::Document, Self::Birthdate, Self::Number];
}

impl fmt::Display for BetField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agency => "agency",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Document => "document",
            Self::Birthdate => "birthdate",
            Self::Number => "number",
        })
    }
}

/// Why something is no bet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BetError {
    /// Fields are missing, or there are too many: a `,` within a field looks like that too.
    #[error(
        "{found} fields separated by commas, not the 5 of first_name,last_name,document,birthdate,number"
    )]
    Fields {
        /// The number of fields.
        found: usize,
    },
    /// A field without anything in it.
    #[error("{field} is empty")]
    Empty {
        /// The field.
        field: BetField,
    },
    /// A character that would break the grammar.
    #[error(
        "{field} holds {character:?}, which cannot travel: commas, colons, line ends and control characters are refused"
    )]
    Forbidden {
        /// The field.
        field: BetField,
        /// The character.
        character: char,
    },
    /// Not a day.
    #[error("birthdate {text:?} is not a day written YYYY-MM-DD")]
    Birthdate {
        /// The text of the field.
        text: String,
    },
    /// Not a number.
    #[error("number {text:?} is not a whole number from 0 to 4294967295")]
    Number {
        /// The text of the field.
        text: String,
    },
    /// The agency's name is too long.
    #[error("agency has {bytes} bytes; at most {} are allowed", super::limits::MAX_AGENCY_BYTES)]
    LongAgency {
        /// The length.
        bytes: usize,
    },
    /// The bet does not fit into a message.
    #[error("the bet has {bytes} bytes, too many for a message of {limit}")]
    TooLong {
        /// The length.
        bytes: usize,
        /// The longest message.
        limit: usize,
    },
}

/// Whether a field with this byte has to be looked at closely: it is forbidden, or may begin a control character of two
/// bytes (U+0080 to U+009F).
pub(super) const fn is_suspicious(byte: u8) -> bool {
    matches!(byte, 0..b' ' | b':' | 0x7f | 0xc2)
}

/// Checks what holds for every field.
pub(super) fn check_text(field: BetField, text: &str) -> Result<(), BetError> {
    if text.is_empty() {
        return Err(BetError::Empty { field });
    }
    if !text.bytes().any(|byte| is_suspicious(byte) || byte == b',') {
        return Ok(());
    }
    match text.chars().find(|character| character.is_control() || matches!(character, ',' | ':')) {
        Some(character) => Err(BetError::Forbidden { field, character }),
        None => Ok(()),
    }
}
