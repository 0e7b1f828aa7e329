//! Messages as one JSON object a line.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that is spoken.
pub const VERSION: u32 = 1;

/// The longest frame in bytes, without its line end: a message of the greatest length, each byte of it escaped, and
/// what stands around it.
pub const MAX_FRAME_BYTES: usize = 6 * crate::types::MAX_MESSAGE_BYTES + 1024;

/// A line that is no message: what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// JSON, but no message.
    #[error("not a message: {0}")]
    Shape(String),
    /// Of a version that is not spoken.
    #[error("version {0} is not spoken here; use {VERSION}")]
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
/// Never for the messages of this crate: they hold nothing that JSON cannot.
pub fn encode(message: &impl Serialize, line: &mut Vec<u8>) {
    serde_json::to_writer(&mut *line, message).expect("messages hold nothing that JSON cannot");
    line.push(b'\n');
}

/// Reads a message from a line (or datagram).
///
/// # Errors
/// [`Malformed`].
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(line).map_err(|error| Malformed::from(&error))
}

/// Fails if `line` states a version that is not spoken, whatever else it holds.
pub(crate) fn check_version(line: &[u8]) -> Result<(), Malformed> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u32,
    }
    match serde_json::from_slice::<Versioned>(line) {
        Ok(Versioned { v }) if v != VERSION => Err(Malformed::Version(v)),
        _ => Ok(()),
    }
}

pub(crate) fn version() -> u32 {
    VERSION
}
