//! What an agency says: frames in any segmentation, requests, batches.

use std::io;

use bytes::{Buf, BytesMut};
use tokio_util::codec::Decoder;

use super::{Agency, Bet, BetError, MAX_REQUEST_BYTES};

/// What ends every message.
const END: &[u8] = b"\r\n";

/// A frame that cannot be taken as a message. The stream itself goes on: the next message is read as usual.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Longer than the limit; the rest of it is skipped, unseen and unstored.
    #[error("the message is longer than {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    /// Not UTF-8 text.
    #[error("the message is not UTF-8: invalid at byte {at}")]
    InvalidUtf8 {
        /// Offset of the first wrong byte within the message.
        at: usize,
    },
    /// The stream ended in the middle of a message.
    #[error("the stream ended in the middle of a message, after {bytes} bytes of it")]
    Unterminated {
        /// How much of the message had come.
        bytes: usize,
    },
}

/// Why a frame is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not `<sender>:<type>`.
    #[error("the message is not <sender>:4:<bets>, <sender>:5 or <sender>:6")]
    Shape,
    /// Who sends cannot be an agency.
    #[error("the sender is no agency: {0}")]
    Sender(BetError),
    /// A bets message without bets.
    #[error("the message holds no bets")]
    NoBets,
    /// A bet that cannot be one.
    #[error("bet {number} of the message: {cause}")]
    Bet {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        cause: BetError,
    },
}

/// The bytes of one message, without its `\r\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(BytesMut);

impl Frame {
    /// The text. It is checked here, so call it once.
    ///
    /// # Errors
    /// [`Rejection::InvalidUtf8`].
    pub fn text(&self) -> Result<&str, Rejection> {
        std::str::from_utf8(&self.0).map_err(|error| Rejection::InvalidUtf8 { at: error.valid_up_to() })
    }

    /// Memory that it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Cuts the bytes of an agency into messages. Of an over-long message no more than the limit is ever kept, and no byte
/// is scanned twice.
#[derive(Debug, Default)]
pub struct RequestDecoder {
    /// How much of the buffer is known to hold no end.
    scanned: usize,
    /// Inside an over-long message that was already rejected.
    skipping: bool,
}

impl RequestDecoder {
    /// The offset of the next `\r\n`.
    fn find_end(&mut self, buffer: &[u8]) -> Option<usize> {
        while let Some(found) = memchr::memchr(b'\r', &buffer[self.scanned..]) {
            let at = self.scanned + found;
            match buffer.get(at + 1) {
                Some(b'\n') => return Some(at),
                Some(_) => self.scanned = at + 1,
                None => {
                    self.scanned = at;
                    return None;
                }
            }
        }
        self.scanned = buffer.len();
        None
    }

    /// Keeps a message without an end within bounds; says so once for each such message.
    fn bound_open_message(&mut self, buffer: &mut BytesMut) -> Option<Rejection> {
        // The last byte may be the first one of the end.
        let too_long = buffer.len() > MAX_REQUEST_BYTES + 1;
        if !self.skipping && !too_long {
            return None;
        }
        buffer.advance(self.scanned);
        self.scanned = 0;
        let first = !std::mem::replace(&mut self.skipping, true);
        first.then_some(Rejection::TooLong)
    }
}

impl Decoder for RequestDecoder {
    type Item = Result<Frame, Rejection>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        while let Some(end) = self.find_end(buffer) {
            let skipped = std::mem::take(&mut self.skipping);
            self.scanned = 0;
            if end > MAX_REQUEST_BYTES || skipped {
                buffer.advance(end + END.len());
                if skipped {
                    continue;
                }
                return Ok(Some(Err(Rejection::TooLong)));
            }
            let text = buffer.split_to(end);
            buffer.advance(END.len());
            return Ok(Some(Ok(Frame(text))));
        }
        Ok(self.bound_open_message(buffer).map(Err))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        if let Some(item) = self.decode(buffer)? {
            return Ok(Some(item));
        }
        self.scanned = 0;
        let skipped = std::mem::take(&mut self.skipping);
        let bytes = buffer.len();
        buffer.clear();
        Ok((bytes > 0 && !skipped).then_some(Err(Rejection::Unterminated { bytes })))
    }
}

/// What an agency says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Store these bets.
    Bets {
        /// Who.
        agency: &'a str,
        /// The bets, not looked at yet.
        bets: Bets<'a>,
    },
    /// All bets are sent.
    Finished {
        /// Who.
        agency: &'a str,
    },
    /// Asks for its winners.
    Winners {
        /// Who.
        agency: &'a str,
    },
}

impl<'a> Request<'a> {
    /// Reads the text of a frame. The bets are looked at when they are walked through.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (agency, rest) = text.split_once(':').ok_or(Malformed::Shape)?;
        Agency::check(agency).map_err(Malformed::Sender)?;
        match rest {
            "5" => Ok(Self::Finished { agency }),
            "6" => Ok(Self::Winners { agency }),
            _ => match rest.strip_prefix("4:") {
                None => Err(Malformed::Shape),
                Some("") => Err(Malformed::NoBets),
                Some(bets) => Ok(Self::Bets {
                    agency,
                    bets: Bets { rest: Some(bets.strip_suffix('\n').unwrap_or(bets)), number: 0 },
                }),
            },
        }
    }

    /// Who says it.
    #[must_use]
    pub fn agency(&self) -> &'a str {
        match self {
            Self::Bets { agency, .. } | Self::Finished { agency } | Self::Winners { agency } => agency,
        }
    }

    /// Appends `<agency>:5\r\n`.
    pub fn write_finished(agency: &Agency, out: &mut Vec<u8>) {
        write_short(agency, b":5\r\n", out);
    }

    /// Appends `<agency>:6\r\n`.
    pub fn write_winners(agency: &Agency, out: &mut Vec<u8>) {
        write_short(agency, b":6\r\n", out);
    }
}

fn write_short(agency: &Agency, rest: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(agency.as_str().as_bytes());
    out.extend_from_slice(rest);
}

/// The bets of a message, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bets<'a> {
    /// None when all were given.
    rest: Option<&'a str>,
    number: usize,
}

impl<'a> Iterator for Bets<'a> {
    type Item = Result<Bet<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (bet, rest) = Bet::parse_first(self.rest?);
        self.rest = rest;
        self.number += 1;
        Some(bet.map_err(|cause| Malformed::Bet { number: self.number, cause }))
    }
}

/// Makes bets messages: as many bets in each as fit.
#[derive(Debug)]
pub struct BatchWriter {
    bytes: Vec<u8>,
    head: usize,
    count: usize,
    max_bets: usize,
    max_bytes: usize,
}

impl BatchWriter {
    /// For messages of at most `max_bets` bets, but at least one, and `max_bytes` bytes.
    #[must_use]
    pub fn new(agency: &Agency, max_bets: usize, max_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(max_bytes);
        write_short(agency, b":4:", &mut bytes);
        Self { head: bytes.len(), bytes, count: 0, max_bets, max_bytes }
    }

    /// Adds a bet; `false` if the message is full: take it, and add the bet again.
    ///
    /// # Errors
    /// If the bet does not fit into any message.
    pub fn push(&mut self, bet: &Bet<'_>) -> Result<bool, BetError> {
        let bytes = bet.wire_bytes();
        if self.head + bytes + 1 + END.len() > self.max_bytes {
            return Err(BetError::TooLong { bytes, limit: self.max_bytes });
        }
        let full = self.count > 0 && self.count >= self.max_bets;
        if full || self.bytes.len() + bytes + 1 + END.len() > self.max_bytes {
            return Ok(false);
        }
        bet.write(&mut self.bytes);
        self.bytes.push(b'\n');
        self.count += 1;
        Ok(true)
    }

    /// Bets in the message so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Ends the message, appends it to `out`, and begins the next one. Nothing happens without bets.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        if self.count == 0 {
            return;
        }
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(END);
        self.bytes.truncate(self.head);
        self.count = 0;
    }
}
