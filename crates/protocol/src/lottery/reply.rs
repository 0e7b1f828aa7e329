//! Replies of the server. An agency reads them as a stream, because winners may be any number.

use std::io;

use bytes::{Buf, BytesMut};
use tokio_util::codec::Decoder;

use super::bet::Winner;
use super::field::BetError;
use super::limits::{MAX_AGENCY_BYTES, MAX_WINNER_BYTES};

/// The longest `<sender>:<type>`, in bytes.
const MAX_HEAD_BYTES: usize = MAX_AGENCY_BYTES + 2;

/// A reply that is complete in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LotteryReply {
    /// The request is done, and on disk.
    Acknowledged,
    /// The request is not done.
    Refused,
    /// The draw was not held yet: the agency may ask again later.
    Wait,
}

impl LotteryReply {
    /// Returns the reply as it travels.
    #[must_use]
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Acknowledged => b"server:0\r\n",
            Self::Refused => b"server:1\r\n",
            Self::Wait => b"server:2\r\n",
        }
    }
}

/// Returns the bytes in front of the winners.
#[must_use]
pub fn start_winners() -> &'static [u8] {
    b"server:3:"
}

/// Returns the bytes behind the winners.
#[must_use]
pub fn end_winners() -> &'static [u8] {
    b"\r\n"
}

/// A part of what the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyPart {
    /// A whole reply.
    Reply(LotteryReply),
    /// Winners follow.
    WinnersBegin,
    /// A line that [`Winner::parse`] reads.
    Winner(String),
    /// There are no more winners.
    WinnersEnd,
}

/// A stream that is not the server's.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// Not `<sender>:<type>`.
    #[error("not a reply of the lottery: {0:?}")]
    Shape(String),
    /// A line that is no winner.
    #[error("not a winner: {0}")]
    Winner(BetError),
    /// A line without an end.
    #[error("a winner of more than {MAX_WINNER_BYTES} bytes")]
    TooLong,
    /// A reply that is no text.
    #[error("a reply that is not UTF-8")]
    InvalidUtf8,
}

impl From<ReplyError> for io::Error {
    fn from(error: ReplyError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ReplyState {
    #[default]
    Head,
    Winners,
    /// Behind a last winner that `\r\n` ended.
    End,
}

/// Reads replies part by part. Memory is bounded by the longest line of a winner.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    state: ReplyState,
    scanned: usize,
}

impl ReplyDecoder {
    /// Whether the stream stands inside a reply: `buffer` is what was read and not yet decoded.
    fn is_mid_reply(&self, buffer: &[u8]) -> bool {
        self.state != ReplyState::Head || !buffer.is_empty()
    }

    fn head(&mut self, buffer: &mut BytesMut) -> Result<Option<ReplyPart>, ReplyError> {
        let shown = &buffer[..buffer.len().min(MAX_HEAD_BYTES + 2)];
        let shape = || ReplyError::Shape(String::from_utf8_lossy(shown).into_owned());
        let Some(colon) = memchr::memchr(b':', shown) else {
            return if shown.len() > MAX_AGENCY_BYTES { Err(shape()) } else { Ok(None) };
        };
        if colon == 0 || shown[..colon].iter().any(u8::is_ascii_control) {
            return Err(shape());
        }
        let (part, rest): (_, &[u8]) = match shown.get(colon + 1) {
            None => return Ok(None),
            Some(b'0') => (ReplyPart::Reply(LotteryReply::Acknowledged), b"\r\n"),
            Some(b'1') => (ReplyPart::Reply(LotteryReply::Refused), b"\r\n"),
            Some(b'2') => (ReplyPart::Reply(LotteryReply::Wait), b"\r\n"),
            Some(b'3') => (ReplyPart::WinnersBegin, b":"),
            Some(_) => return Err(shape()),
        };
        let after = &buffer[colon + 2..];
        if after.len() < rest.len() {
            return if rest.starts_with(after) { Ok(None) } else { Err(shape()) };
        }
        if !after.starts_with(rest) {
            return Err(shape());
        }
        if part == ReplyPart::WinnersBegin {
            self.state = ReplyState::Winners;
        }
        buffer.advance(colon + 2 + rest.len());
        Ok(Some(part))
    }

    fn winner(&mut self, buffer: &mut BytesMut) -> Result<Option<ReplyPart>, ReplyError> {
        let Some(found) = memchr::memchr(b'\n', &buffer[self.scanned..]) else {
            self.scanned = buffer.len();
            return if self.scanned > MAX_WINNER_BYTES + 1 { Err(ReplyError::TooLong) } else { Ok(None) };
        };
        let end = self.scanned + found;
        self.scanned = 0;
        let line = buffer.split_to(end);
        buffer.advance(1);
        let line = match line.strip_suffix(b"\r") {
            None => &line[..],
            Some(last) => {
                self.state = ReplyState::End;
                last
            }
        };
        if line.is_empty() && self.state == ReplyState::End {
            return Ok(Some(self.end()));
        }
        if line.len() > MAX_WINNER_BYTES {
            return Err(ReplyError::TooLong);
        }
        let text = std::str::from_utf8(line).map_err(|_| ReplyError::InvalidUtf8)?;
        Winner::parse(text).map_err(ReplyError::Winner)?;
        Ok(Some(ReplyPart::Winner(text.to_owned())))
    }

    fn end(&mut self) -> ReplyPart {
        self.state = ReplyState::Head;
        ReplyPart::WinnersEnd
    }
}

impl Decoder for ReplyDecoder {
    type Item = ReplyPart;
    /// Wraps a [`ReplyError`] where the stream is not the server's.
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<ReplyPart>> {
        let part = match self.state {
            ReplyState::Head => self.head(buffer)?,
            ReplyState::Winners => self.winner(buffer)?,
            ReplyState::End => Some(self.end()),
        };
        Ok(part)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<ReplyPart>> {
        let part = self.decode(buffer)?;
        if part.is_none() && self.is_mid_reply(buffer) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(part)
    }
}
