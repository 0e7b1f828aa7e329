//! A message on its way to the store, how long it is tried, and what becomes of it.

use std::time::Duration;

use protocol::store::client_api::ErrorCode;
use protocol::store::types::{Id, MAX_MESSAGE_BYTES, MessageCrc, Place};

/// Messages that may be on their way at a time, unless something else is asked for.
pub const DEFAULT_WINDOW: usize = 256;

/// How patient a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// How long a message is tried, from the moment it is taken from the source.
    pub wait: Duration,
    /// How long the headnode may owe a reply, or a connection may take to be made.
    pub reply_timeout: Duration,
    /// Messages that may be on their way at a time, at least 1.
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
    /// Its identifier, made once; every try carries it.
    pub id: Id,
    /// What to store.
    pub text: String,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is on disk.
    Saved(SavedMessage),
    /// It is not, or nobody knows.
    Failed(UnsavedMessage),
}

/// A message that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMessage {
    /// Its identifier.
    pub id: Id,
    /// Where it is; at least one place.
    pub places: Vec<Place>,
    /// Checksum of the message, as stored and as sent.
    pub message_crc32c: MessageCrc,
    /// The message.
    pub text: String,
    /// From the moment the session took it to its acknowledgement.
    pub took: Duration,
}

/// A message that is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsavedMessage {
    /// Its identifier.
    pub id: Id,
    /// Why.
    pub failure: PutFailure,
}

/// Why a message is not acknowledged, for a person: the cause and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutFailure {
    /// The headnode refused it for good.
    #[error("{reason} ({code})")]
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people.
        reason: String,
    },
    /// It was tried for as long as was allowed.
    #[error(
        "not acknowledged within {after:?}: {trouble}; {}check that the headnode runs and has operative datanodes, \
         or raise --wait", if *.uncertain { "it may be stored all the same (get tells); " } else { "" }
    )]
    GivenUp {
        /// How long that was.
        after: Duration,
        /// What stood in the way last.
        trouble: String,
        /// It was sent at least once without a reply, so it may be stored.
        uncertain: bool,
    },
    /// What was stored is not what was sent.
    #[error(
        "what was stored is not what was sent (message_crc32c {stored} instead of {sent}): put it again, and check \
         the memory of the machines"
    )]
    WrongChecksum {
        /// Of the message.
        sent: MessageCrc,
        /// Of what the datanode stored.
        stored: MessageCrc,
    },
    /// It was called saved, but nowhere.
    #[error("the headnode calls it saved and names no place: put it again, and check the headnode")]
    NoPlace,
    /// It was not sent because it is too long.
    #[error("it has {bytes} bytes; at most {MAX_MESSAGE_BYTES} can be stored: split it")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It was not sent because the program was asked to end.
    #[error("the program was stopped before it was sent: put it again")]
    Stopped,
}
