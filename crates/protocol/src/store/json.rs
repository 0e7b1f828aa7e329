//! Writes and reads messages as one JSON object per line.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of the protocols of the store.
pub const VERSION: u32 = 1;

/// The longest frame in bytes, without its line end: a message of the greatest length with each byte escaped, and the
/// fields around it.
pub const MAX_FRAME_BYTES: usize = 6 * crate::store::types::MAX_MESSAGE_BYTES + 1024;

/// Why a line is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The line is not JSON.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// The line is JSON, but not a message.
    #[error("not a message: {0}")]
    Shape(String),
    /// The line has a version that is not supported.
    #[error("version {0} is not supported; use {VERSION}")]
    Version(u32),
}

impl Malformed {
    fn from(error: &serde_json::Error) -> Self {
        if error.is_data() { Self::Shape(error.to_string()) } else { Self::Syntax(error.to_string()) }
    }
}

/// Appends `message` and a line end to `line`.
///
/// # Panics
/// Never panics for the messages of this crate: all their fields can be written as JSON.
pub fn encode(message: &impl Serialize, line: &mut Vec<u8>) {
    serde_json::to_writer(&mut *line, message).expect("messages hold nothing that JSON cannot");
    line.push(b'\n');
}

/// Returns the length in bytes of `text` as a JSON string, as [`encode`] writes it.
#[must_use]
pub fn string_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 2
}

/// Reads a message from a line or datagram.
///
/// # Errors
/// Fails with [`Malformed`] if the line is not such a message.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(line).map_err(|error| Malformed::from(&error))
}

/// Fails if `line` states a version that is not supported, whatever else it holds.
pub(crate) fn check_version(line: &[u8]) -> Result<(), Malformed> {
    #[derive(serde::Deserialize)]
    struct VersionOnly {
        v: u32,
    }
    match serde_json::from_slice::<VersionOnly>(line) {
        Ok(VersionOnly { v }) if v != VERSION => Err(Malformed::Version(v)),
        _ => Ok(()),
    }
}

pub(crate) fn version() -> u32 {
    VERSION
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_length_of_a_string_is_known_before_it_is_written(text in any::<String>(), low in "[\\x00-\\x7f]{0,40}") {
            for text in [text, low] {
                let mut line = Vec::new();
                encode(&text, &mut line);
                prop_assert_eq!(string_bytes(&text) + 1, line.len());
            }
        }
    }
}
