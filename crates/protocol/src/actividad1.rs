//! Actividad 1: messages and their replies, one a line, so that a person with `nc` can speak it.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | client | any UTF-8 text | a message |
//! | server | `OK mensaje recibido correctamente: <message>` | it is in `log.txt`, on disk |
//! | server | `ERROR <code>: <reason>` | it is not; [`RefusalCode`] lists the codes |
//!
//! A line end ends a message; so does the end of the stream, and the silence of the client, as the server is configured.
//! Replies come in the order of the messages. After an error about one line (`message-too-long`, `invalid-utf8`,
//! `disk-full`) the connection goes on; after any other it closes.

use std::fmt;
use std::str::FromStr;

/// What a client says when it is given nothing to say.
pub const DEFAULT_GREETING: &str = "Hola, servidor";

/// The largest `--max-message-bytes` of the server, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 * 1024 * 1024;

/// The longest reply that a client has to expect, in bytes: the longest message and what stands in front of it.
pub const MAX_REPLY_BYTES: usize = MAX_TEXT_BYTES + 1024;

const RECEIVED: &str = "OK mensaje recibido correctamente: ";
const ERROR: &str = "ERROR ";

/// Why a message or a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// The line is longer than the server allows.
    MessageTooLong,
    /// The line is not UTF-8 text.
    InvalidUtf8,
    /// The server serves as many connections as it may.
    TooManyConnections,
    /// No whole message came in the allowed time.
    IdleTimeout,
    /// There is no room for the record.
    DiskFull,
    /// The record may not be on disk, and the server stops.
    StorageFailed,
}

impl RefusalCode {
    const ALL: [Self; 6] = [
        Self::MessageTooLong,
        Self::InvalidUtf8,
        Self::TooManyConnections,
        Self::IdleTimeout,
        Self::DiskFull,
        Self::StorageFailed,
    ];

    /// The code as it travels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MessageTooLong => "message-too-long",
            Self::InvalidUtf8 => "invalid-utf8",
            Self::TooManyConnections => "too-many-connections",
            Self::IdleTimeout => "idle-timeout",
            Self::DiskFull => "disk-full",
            Self::StorageFailed => "storage-failed",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The server's answer to one message, or its word about the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerReply<'a> {
    /// The message is on disk; it is repeated here.
    Received(&'a str),
    /// It is not.
    Refused {
        /// What kind of refusal.
        code: RefusalCode,
        /// The cause and the way out, for a person.
        reason: &'a str,
    },
}

/// The line is no reply of Actividad 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reply of this protocol (neither `OK …` nor `ERROR <code>: …`)")]
pub struct NotAReply;

impl fmt::Display for ServerReply<'_> {
    /// The line as it travels, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received(message) => write!(f, "{RECEIVED}{message}"),
            Self::Refused { code, reason } => write!(f, "{ERROR}{code}: {reason}"),
        }
    }
}

impl<'a> ServerReply<'a> {
    /// Reads a line, without its end, as a reply.
    ///
    /// # Errors
    /// [`NotAReply`] if it is none.
    pub fn parse(line: &'a str) -> Result<Self, NotAReply> {
        if let Some(message) = line.strip_prefix(RECEIVED) {
            return Ok(Self::Received(message));
        }
        let (code, reason) =
            line.strip_prefix(ERROR).and_then(|rest| rest.split_once(": ")).ok_or(NotAReply)?;
        Ok(Self::Refused { code: code.parse()?, reason })
    }

    /// Whether a reply can begin with `bytes`; what cannot be one needs no line end to be told apart.
    #[must_use]
    pub fn can_begin_with(bytes: &[u8]) -> bool {
        [RECEIVED, ERROR].iter().any(|start| bytes.iter().zip(start.as_bytes()).all(|(a, b)| a == b))
    }
}

impl FromStr for RefusalCode {
    type Err = NotAReply;

    fn from_str(text: &str) -> Result<Self, NotAReply> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or(NotAReply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that other implementations see: a change here breaks them.
    #[test]
    fn golden_replies() {
        let received = ServerReply::Received("Hola, ¿qué tal?");
        assert_eq!(received.to_string(), "OK mensaje recibido correctamente: Hola, ¿qué tal?");
        let refused = |code| ServerReply::Refused { code, reason: "why: because" }.to_string();
        let golden = [
            (RefusalCode::MessageTooLong, "ERROR message-too-long: why: because"),
            (RefusalCode::InvalidUtf8, "ERROR invalid-utf8: why: because"),
            (RefusalCode::TooManyConnections, "ERROR too-many-connections: why: because"),
            (RefusalCode::IdleTimeout, "ERROR idle-timeout: why: because"),
            (RefusalCode::DiskFull, "ERROR disk-full: why: because"),
            (RefusalCode::StorageFailed, "ERROR storage-failed: why: because"),
        ];
        assert_eq!(golden.len(), RefusalCode::ALL.len());
        for (code, line) in golden {
            assert_eq!(refused(code), line);
            assert_eq!(ServerReply::parse(line), Ok(ServerReply::Refused { code, reason: "why: because" }));
        }
    }

    #[test]
    fn a_message_cannot_pass_for_a_refusal() {
        let line = ServerReply::Received("ERROR disk-full: no").to_string();
        assert_eq!(ServerReply::parse(&line), Ok(ServerReply::Received("ERROR disk-full: no")));
    }

    #[test]
    fn other_lines_are_no_replies() {
        for line in ["", "OK", "hola", "ERROR", "ERROR x", "ERROR unheard-of: x", "HTTP/1.1 400 Bad Request"]
        {
            assert_eq!(ServerReply::parse(line), Err(NotAReply), "{line:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_reply_is_told_from_other_text() {
        for begun in ["", "OK", "OK mensaje recibido correctamente: Hol", "ERR", "ERROR disk-full"] {
            assert!(ServerReply::can_begin_with(begun.as_bytes()), "{begun:?}");
        }
        for other in ["ok", "OK recibido", "Mensaje recibido", "ERROR:"] {
            assert!(!ServerReply::can_begin_with(other.as_bytes()), "{other:?}");
        }
    }
}
