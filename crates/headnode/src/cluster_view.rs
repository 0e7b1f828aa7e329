//! The cluster as other parts of the headnode see it. They read the table of available datanodes, and ask the heartbeat's
//! loop for everything else.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use protocol::store::heartbeat::SyncTimes;
use protocol::store::types::{NodeName, NodeState, UnavailableCause};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster_event::TimedEvent;
use crate::datanode_table::DatanodeTable;
use crate::link::LinkEvent;

/// The view of the cluster that placement, clients and the page use.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// The datanodes to which messages can be sent.
    pub table: watch::Receiver<DatanodeTable>,
    pub(crate) questions: mpsc::Sender<StatusQuestion>,
    pub(crate) reports: mpsc::Sender<LinkEvent>,
}

/// Which of the last events are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct WantedEvents {
    /// Only those with a higher number.
    pub since: u64,
    /// Only so many, the newest ones.
    pub newest: usize,
}

/// A question for the heartbeat's loop.
#[derive(Debug)]
pub struct StatusQuestion {
    pub events: WantedEvents,
    pub answer: oneshot::Sender<ClusterStatus>,
}

/// The state of the datanodes at one moment.
#[derive(Debug, Clone, Default)]
pub struct ClusterStatus {
    /// The present probe round, from 1.
    pub round: u64,
    /// The number of probes that were sent in this round.
    pub attempts: usize,
    /// The time since the last probe.
    pub probe_age: Duration,
    /// The number of rounds in a row without any answer.
    pub silent_rounds: u64,
    /// All datanodes that were ever known, by name.
    pub datanodes: Vec<DatanodeStatus>,
    /// The number of the newest event.
    pub last_event: u64,
    /// The events that were asked for and are still kept, oldest first, each with its number.
    pub events: Vec<(u64, TimedEvent)>,
}

/// The state of one datanode at one moment.
#[derive(Debug, Clone)]
pub struct DatanodeStatus {
    pub name: NodeName,
    /// Whether the datanode answers, and whether messages can be sent to it.
    pub state: NodeState,
    /// Why messages cannot be sent to it. `None` means that they can, or that a first connection is being made.
    pub cause: Option<UnavailableCause>,
    /// The last answer of the datanode, or `None` if it has not answered since the headnode started.
    pub last_answer: Option<LastAnswer>,
}

/// The last answer of a datanode.
#[derive(Debug, Clone)]
pub struct LastAnswer {
    /// When the answer arrived.
    pub time: DateTime<Utc>,
    /// The round of the answer.
    pub round: u64,
    /// The number of the probe within the round to which it was the answer, from 1.
    pub attempt: u32,
    /// The time from the probe to the answer.
    pub round_trip: Duration,
    /// The address on which the datanode stores.
    pub address: SocketAddr,
    /// The number of records that the datanode held.
    pub records: u64,
    /// The free space for the datanode, in bytes.
    pub free_bytes: u64,
    /// How many numbers it has assigned that no readable record has.
    pub unreadable: u64,
    /// How long its last syncs took.
    pub sync: Option<SyncTimes>,
}

impl DatanodeStatus {
    /// Returns the number of records that the datanode held at its last answer.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.last_answer.as_ref().map_or(0, |answer| answer.records)
    }
}

impl ClusterView {
    /// Asks the loop for the status. Returns an empty status if the loop has ended.
    pub async fn status(&self, events: WantedEvents) -> ClusterStatus {
        let (answer, answered) = oneshot::channel();
        // If the loop has ended, receiving the answer fails too.
        let _ = self.questions.send(StatusQuestion { events, answer }).await;
        answered.await.unwrap_or_default()
    }

    /// Tells the loop that a datanode was declared lost.
    pub async fn forget(&self, datanode: NodeName) {
        // If the loop has ended, the program is ending too.
        let _ = self.reports.send(LinkEvent::Forgotten(datanode)).await;
    }

    /// Tells the loop that a datanode had no space for a message.
    pub fn report_full(&self, datanode: NodeName) {
        // While the loop is very busy, one such report more or less makes no difference.
        let _ = self.reports.try_send(LinkEvent::Full(datanode));
    }
}
