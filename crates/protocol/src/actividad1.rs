//! Actividad 1: messages and their replies, one per line, so that a person can use the protocol with `nc`.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | client | any UTF-8 text | a message |
//! | server | `OK mensaje recibido correctamente: <message>` | the message is in `log.txt`, on disk |
//! | server | `ERROR <code>: <reason>` | the message is not logged; [`RefusalCode`] lists the codes |
//!
//! A line end ends a message. The end of the stream and the silence of the client end a message too, if the server is
//! configured so. Replies come in the order of the messages. After an error about one line (`message-too-long`,
//! `invalid-utf8`, `disk-full`) the connection stays open. After any other error it closes.

use std::fmt;
use std::str::FromStr;

/// The message that a client sends if it is given none.
pub const DEFAULT_GREETING: &str = "Hola, servidor";

/// The largest `--max-message-bytes` of the server, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 * 1024 * 1024;

/// The longest reply that a client has to expect, in bytes: the longest message and the words in front of it.
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
    /// The server already serves as many connections as it may.
    TooManyConnections,
    /// No whole message arrived in the allowed time.
    IdleTimeout,
    /// There is no room for the record of the message.
    DiskFull,
    /// It is unknown whether the record is on disk, and the server stops.
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

    /// Returns the code as it is sent.
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

/// The server's answer to one message, or its last line on a connection that it closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerReply<'a> {
    /// The message is on disk. The reply repeats its text.
    Received(&'a str),
    /// The message is not logged, or the connection is closed.
    Refused {
        /// The reason for programs.
        code: RefusalCode,
        /// The cause, and what to do about it, for people.
        reason: &'a str,
    },
}

/// A line is not a reply of Actividad 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reply of this protocol (neither `OK …` nor `ERROR <code>: …`)")]
pub struct NotAReply;

impl fmt::Display for ServerReply<'_> {
    /// Writes the line as it is sent, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received(message) => write!(f, "{RECEIVED}{message}"),
            Self::Refused { code, reason } => write!(f, "{ERROR}{code}: {reason}"),
        }
    }
}

impl<'a> ServerReply<'a> {
    /// Reads a reply from a line without its end.
    ///
    /// # Errors
    /// Fails with [`NotAReply`] if the line is not a reply.
    pub fn parse(line: &'a str) -> Result<Self, NotAReply> {
        if let Some(message) = line.strip_prefix(RECEIVED) {
            return Ok(Self::Received(message));
        }
        let (code, reason) =
            line.strip_prefix(ERROR).and_then(|rest| rest.split_once(": ")).ok_or(NotAReply)?;
        Ok(Self::Refused { code: code.parse()?, reason })
    }

    /// Returns whether a reply can begin with `bytes`. A stream that is not a reply is thus recognised before its first
    /// line end.
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

    /// Checks the exact bytes, which other implementations depend on.
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
