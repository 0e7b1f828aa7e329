//! Requests of an agency: frames in any segmentation, what they say, and batches.

use std::io;

use bytes::{Buf, BytesMut};
use tokio_util::codec::Decoder;

use super::agency_name::AgencyName;
use super::bet::Bet;
use super::field::BetError;
use super::limits::MAX_REQUEST_BYTES;

/// What ends every message.
const END: &[u8] = b"\r\n";

/// A frame that cannot be taken as a message. The stream itself goes on: the next message is read as usual.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameRejection {
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
        /// The bytes of the message that had come.
        bytes: usize,
    },
}

/// Why a frame is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequest {
    /// Not `<sender>:<type>`.
    #[error("the message is not <sender>:4:<bets>, <sender>:5 or <sender>:6")]
    Shape,
    /// A sender that cannot be an agency.
    #[error("the sender is no agency: {0}")]
    Sender(BetError),
    /// A bets message without bets.
    #[error("the message holds no bets")]
    NoBets,
    /// A bet that cannot be one.
    #[error("bet {number} of the message: {cause}")]
    Bet {
        /// The number of the bet, from 1.
        number: usize,
        /// The cause.
        cause: BetError,
    },
}

/// The bytes of one message, without its `\r\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgencyFrame(BytesMut);

impl AgencyFrame {
    /// Checks that the message is UTF-8 and returns its text. The check is not remembered.
    ///
    /// # Errors
    /// [`FrameRejection::InvalidUtf8`].
    pub fn text(&self) -> Result<&str, FrameRejection> {
        std::str::from_utf8(&self.0).map_err(|error| FrameRejection::InvalidUtf8 { at: error.valid_up_to() })
    }

    /// Returns the length of the message in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Cuts the bytes of an agency into messages. Of an over-long message no more than the limit is ever kept, and no byte
/// is scanned twice.
#[derive(Debug, Default)]
pub struct RequestDecoder {
    /// The beginning of the buffer that is known to hold no end.
    scanned: usize,
    /// Inside an over-long message that was already rejected.
    skipping: bool,
}

impl RequestDecoder {
    /// Returns the offset of the next `\r\n`.
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
    fn bound_open_message(&mut self, buffer: &mut BytesMut) -> Option<FrameRejection> {
        // The last byte may be the first one of the end.
        let too_long = buffer.len() > MAX_REQUEST_BYTES + 1;
        if !self.skipping && !too_long {
            return None;
        }
        buffer.advance(self.scanned);
        self.scanned = 0;
        let first = !std::mem::replace(&mut self.skipping, true);
        first.then_some(FrameRejection::TooLong)
    }
}

impl Decoder for RequestDecoder {
    type Item = Result<AgencyFrame, FrameRejection>;
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
                return Ok(Some(Err(FrameRejection::TooLong)));
            }
            let text = buffer.split_to(end);
            buffer.advance(END.len());
            return Ok(Some(Ok(AgencyFrame(text))));
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
        Ok((bytes > 0 && !skipped).then_some(Err(FrameRejection::Unterminated { bytes })))
    }
}

/// A request of an agency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgencyRequest<'a> {
    /// Store these bets.
    Bets {
        /// The agency.
        agency: &'a str,
        /// The bets, which are not checked yet.
        bets: BetLines<'a>,
    },
    /// All bets are sent.
    Finished {
        /// The agency.
        agency: &'a str,
    },
    /// Tell the winners of this agency.
    Winners {
        /// The agency.
        agency: &'a str,
    },
}

impl<'a> AgencyRequest<'a> {
    /// Reads the text of a frame. The bets are checked as the iterator gives them.
    ///
    /// # Errors
    /// [`MalformedRequest`].
    pub fn parse(text: &'a str) -> Result<Self, MalformedRequest> {
        let (agency, rest) = text.split_once(':').ok_or(MalformedRequest::Shape)?;
        AgencyName::check(agency).map_err(MalformedRequest::Sender)?;
        match rest {
            "5" => Ok(Self::Finished { agency }),
            "6" => Ok(Self::Winners { agency }),
            _ => match rest.strip_prefix("4:") {
                None => Err(MalformedRequest::Shape),
                Some("") => Err(MalformedRequest::NoBets),
                Some(bets) => Ok(Self::Bets {
                    agency,
                    bets: BetLines { rest: Some(bets.strip_suffix('\n').unwrap_or(bets)), number: 0 },
                }),
            },
        }
    }

    /// Returns the agency that sends the request.
    #[must_use]
    pub fn agency(&self) -> &'a str {
        match self {
            Self::Bets { agency, .. } | Self::Finished { agency } | Self::Winners { agency } => agency,
        }
    }

    /// Appends `<agency>:5\r\n`.
    pub fn write_finished(agency: &AgencyName, out: &mut Vec<u8>) {
        write_short(agency, b":5\r\n", out);
    }

    /// Appends `<agency>:6\r\n`.
    pub fn write_winners(agency: &AgencyName, out: &mut Vec<u8>) {
        write_short(agency, b":6\r\n", out);
    }
}

fn write_short(agency: &AgencyName, rest: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(agency.as_str().as_bytes());
    out.extend_from_slice(rest);
}

/// The bets of a message, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BetLines<'a> {
    /// `None` once all were given.
    rest: Option<&'a str>,
    number: usize,
}

impl<'a> Iterator for BetLines<'a> {
    type Item = Result<Bet<'a>, MalformedRequest>;

    fn next(&mut self) -> Option<Self::Item> {
        let (bet, rest) = Bet::parse_first(self.rest?);
        self.rest = rest;
        self.number += 1;
        Some(bet.map_err(|cause| MalformedRequest::Bet { number: self.number, cause }))
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
    /// Returns a writer of messages of at most `max_bets` bets, but at least one, and `max_bytes` bytes.
    #[must_use]
    pub fn new(agency: &AgencyName, max_bets: usize, max_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(max_bytes);
        write_short(agency, b":4:", &mut bytes);
        Self { head: bytes.len(), bytes, count: 0, max_bets, max_bytes }
    }

    /// Adds a bet and returns `true`, or returns `false` if the message is full and has to be finished first.
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

    /// Returns the number of bets in the message so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Ends the message, appends it to `out`, and begins the next one. Without bets, nothing happens.
    pub fn finish_message(&mut self, out: &mut Vec<u8>) {
        if self.count == 0 {
            return;
        }
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(END);
        self.bytes.truncate(self.head);
        self.count = 0;
    }
}
