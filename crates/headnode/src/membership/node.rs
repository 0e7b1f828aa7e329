//! One datanode, as membership knows it.

use std::net::SocketAddr;
use std::time::Duration;

use protocol::store::heartbeat::{NameRefused, ProbeAnswer, SyncTimes};
use protocol::store::types::{Incarnation, NodeState, UnavailableCause};

/// A datanode that has answered since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub incarnation: Incarnation,
    /// The address on which the datanode stores.
    pub address: SocketAddr,
    /// The number of records that the datanode held at its last answer.
    pub records: u64,
    /// The free space for the datanode at its last answer, in bytes.
    pub free_bytes: u64,
    /// How many numbers no readable record had there at its last answer.
    pub unreadable: u64,
    /// When the datanode last answered.
    pub last_answer: Duration,
    /// The time from the probe to the last answer.
    pub round_trip: Duration,
    /// How long its last syncs took, as of its last answer.
    pub sync: Option<SyncTimes>,
    /// The round of its last answer.
    pub last_round: u64,
    /// The number of the probe within that round to which it was the answer, from 1.
    pub attempt: u32,
    /// The last round in which it has replied on its link and answered no probe before.
    pub(super) replied_in_round: Option<u64>,
    /// Whether the datanode is operative.
    pub(super) answers: bool,
    pub(super) link: LinkState,
    /// The address that its answers come from.
    pub(super) datagrams_from: SocketAddr,
    /// The last round in which it had no space for a message.
    pub(super) full_in_round: Option<u64>,
    /// The run that was last refused because it has the same name.
    pub(super) refused: Option<Incarnation>,
    pub(super) reported: Option<bool>,
}

/// The state of the connection to a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    Connecting,
    Connected,
    Broken(UnavailableCause),
}

impl Node {
    /// Returns whether the datanode answers, and whether messages can be sent to it.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match (self.answers, self.link) {
            (false, _) => NodeState::NotOperative,
            (true, LinkState::Connected) => NodeState::Available,
            (true, LinkState::Connecting | LinkState::Broken(_)) => NodeState::Operative,
        }
    }

    /// Returns why messages cannot be sent to the datanode. `None` means that they can, or that a first connection is
    /// being made.
    #[must_use]
    pub fn cause(&self) -> Option<UnavailableCause> {
        match (self.answers, self.link) {
            (false, _) => Some(UnavailableCause::NoAnswer),
            (true, LinkState::Broken(cause)) => Some(cause),
            (true, LinkState::Connecting | LinkState::Connected) => None,
        }
    }
}

/// Returns the refusal if two datanodes have one name. The first one keeps the name as long as it answers and its
/// connection is not broken.
pub(super) fn refuse(known: &Node, from: SocketAddr, answer: &ProbeAnswer) -> Option<NameRefused> {
    let first_is_alive = known.answers && !matches!(known.link, LinkState::Broken(_));
    (first_is_alive && known.incarnation != answer.incarnation).then(|| NameRefused {
        name: answer.name.clone(),
        incarnation: answer.incarnation,
        reason: format!(
            "another datanode named {} is operative at {}; the one that answers from {from} is not used: give it another --name",
            answer.name, known.address
        ),
    })
}
