//! What happens in a lottery, as the page's timeline tells it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LotteryEvent {
    pub time: DateTime<Utc>,
    /// The agency that it happened to, if it is of one and is known.
    pub agency: Option<Arc<str>>,
    pub happening: LotteryHappening,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LotteryHappening {
    /// A connection has said which agency it is of.
    Connected,
    /// A connection of the agency has ended before the agency ended it.
    Broken(BrokenCause),
    /// A message is refused.
    Refused(RefusedCause),
    /// The agency has sent all its bets.
    Finished,
    /// The draw is held, with so many winning bets.
    Drawn(u64),
    /// The draw could not be held, and is tried again.
    DrawFailed,
    /// The agency has been sent its winners.
    WinnersTold,
    /// The disk is full: bets are refused.
    DiskFull,
    /// Bets are stored again after the disk was full.
    DiskHasRoom,
}

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedCause {
    /// The agency has said that all its bets are sent.
    Done,
    /// The draw is over.
    Drawn,
    /// The lottery has as many bets as it can have.
    Full,
    /// The connection is of another agency.
    OtherAgency,
    /// The message is no request, or one of its bets is none.
    Malformed,
    /// The message is too long, no UTF-8, or not whole.
    Rejected,
}

/// Why a connection has ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokenCause {
    /// The agency has completed no message in time.
    Idle,
    /// The agency has not taken its replies in time.
    NotReading,
    /// The network, or the agency in the middle of something.
    Cut,
    /// The server cannot read or write its files.
    Files,
}

/// The cause of an event, in words that the page knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum EventCause {
    Refused(RefusedCause),
    Broken(BrokenCause),
}

impl LotteryHappening {
    /// Returns the word that the page knows it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Broken(_) => "broken",
            Self::Refused(_) => "refused",
            Self::Finished => "finished",
            Self::Drawn(_) => "drawn",
            Self::DrawFailed => "draw-failed",
            Self::WinnersTold => "winners-told",
            Self::DiskFull => "disk-full",
            Self::DiskHasRoom => "disk-has-room",
        }
    }

    /// Returns the cause, if there is one.
    pub fn cause(self) -> Option<EventCause> {
        match self {
            Self::Refused(cause) => Some(EventCause::Refused(cause)),
            Self::Broken(cause) => Some(EventCause::Broken(cause)),
            _ => None,
        }
    }
}
