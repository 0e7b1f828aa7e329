//! What happens to datanodes, as the page's timeline shows it.

use std::net::SocketAddr;

use chrono::{DateTime, Utc};
use protocol::store::types::{NodeName, UnavailableCause};

/// Something that happened to one datanode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    pub datanode: NodeName,
    pub happening: Happening,
}

/// A [`ClusterEvent`] with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedEvent {
    pub time: DateTime<Utc>,
    pub event: ClusterEvent,
}

/// What can happen to a datanode. Each change of its state is one of these, and is noted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It has answered for the first time since the headnode started, from this address.
    Joined(SocketAddr),
    /// It answers again after it did not.
    Back(SocketAddr),
    /// Another run of it answers, or the same run from another address, before it was missed.
    Restarted(SocketAddr),
    /// Messages are sent to it from now on. So many of its records were added to the registry.
    Connected(u64),
    /// It answers, but nothing can be sent to it.
    Suspect(UnavailableCause),
    /// It is not operative.
    NotOperative(UnavailableCause),
    /// Another datanode with its name, at this address, is not used.
    NameRefused(SocketAddr),
    /// It has no space for a message.
    DiskFull,
    /// It does not hold so many records that are registered of it.
    NotHeld(u64),
}

impl Happening {
    /// Returns the word that the page knows it by.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Joined(_) => "joined",
            Self::Back(_) => "back",
            Self::Restarted(_) => "restarted",
            Self::Connected(_) => "connected",
            Self::Suspect(_) => "suspect",
            Self::NotOperative(_) => "not-operative",
            Self::NameRefused(_) => "name-refused",
            Self::DiskFull => "disk-full",
            Self::NotHeld(_) => "not-held",
        }
    }
}
