//! A message on its way to the store, how long it is tried, and what becomes of it.

use std::time::Duration;

use protocol::store::client_api::ErrorCode;
use protocol::store::types::{Id, MAX_MESSAGE_BYTES, MessageCrc, Place};

/// The number of messages that may be on their way at a time, unless something else is asked for.
pub const DEFAULT_WINDOW: usize = 256;

/// Limits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// The time for which a message is tried, from the moment it comes from its source.
    pub wait: Duration,
    /// The time for which the headnode may owe a reply, or a connection may take to be made.
    pub reply_timeout: Duration,
    /// The number of messages that may be on their way at a time, at least 1.
    pub window: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { wait: Duration::from_secs(30), reply_timeout: Duration::from_secs(10), window: DEFAULT_WINDOW }
    }
}

/// A message to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The identifier is made once, and every attempt carries it.
    pub id: Id,
    pub text: String,
}

/// Says what became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// The message is on disk.
    Saved(SavedMessage),
    /// The message is not on disk, or nobody knows.
    Failed(UnsavedMessage),
}

/// A message that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMessage {
    pub id: Id,
    /// At least one place.
    pub places: Vec<Place>,
    /// Checksum of the message, as stored and as sent.
    pub message_crc32c: MessageCrc,
    pub text: String,
    /// The time from the moment the session got the message to its acknowledgement.
    pub took: Duration,
}

/// A message that is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsavedMessage {
    pub id: Id,
    pub failure: PutFailure,
}

/// Tells a person why a message is not acknowledged: the cause and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutFailure {
    /// The headnode refused the message for good.
    #[error("{reason} ({code})")]
    Refused { code: ErrorCode, reason: String },
    /// The message was tried for as long as was allowed.
    #[error(
        "not acknowledged within {after:?}: {trouble}; {}check that the headnode runs and has operative datanodes, \
         or raise --wait", if *.uncertain { "it may be stored all the same (get tells); " } else { "" }
    )]
    GivenUp {
        /// The time that was allowed.
        after: Duration,
        /// The last thing that stood in the way.
        trouble: String,
        /// The message was sent at least once without a reply, so it may be stored.
        uncertain: bool,
    },
    /// What was stored is not what was sent.
    #[error(
        "what was stored is not what was sent (message_crc32c {stored} instead of {sent}): put it again, and check \
         the memory of the machines"
    )]
    WrongChecksum {
        /// The checksum of the message.
        sent: MessageCrc,
        /// The checksum of what the datanode stored.
        stored: MessageCrc,
    },
    /// The headnode called the message saved, and named no place.
    #[error("the headnode calls it saved and names no place: put it again, and check the headnode")]
    NoPlace,
    /// The message was not sent because it is too long.
    #[error("it has {bytes} bytes; at most {MAX_MESSAGE_BYTES} can be stored: split it")]
    TooLong { bytes: usize },
    /// The message was not sent because the program was asked to end.
    #[error("the program was stopped before it was sent: put it again")]
    Stopped,
}
