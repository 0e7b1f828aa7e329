//! What all links share: their surroundings, their events, and the reasons for which they break.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use protocol::line::Rejection;
use protocol::store::json;
use protocol::store::node_api::NodeReply;
use protocol::store::types::{Epoch, Incarnation, NodeName, UnavailableCause};
use tokio::sync::{mpsc, watch};

use crate::drained::DrainedDatanodes;
use crate::lead::EpochLead;
use crate::metrics::HeadnodeMetrics;
use crate::registry::{Registry, RegistryError};

/// What a link needs besides the address of its datanode.
#[derive(Debug)]
pub struct LinkContext<N> {
    /// The network that connects to datanodes.
    pub network: N,
    /// The registry that is compared with what the datanode holds.
    pub registry: Registry,
    /// The names of all datanodes that were ever known, in the order in which they became known.
    pub names: watch::Receiver<Arc<[NodeName]>>,
    /// The channel that tells the owner of membership about the link.
    pub events: mpsc::Sender<LinkEvent>,
    /// The present run of the headnode.
    pub headnode: Incarnation,
    /// The epoch in which the headnode leads.
    pub lead: Arc<EpochLead>,
    /// How long a datanode may take for one reply.
    pub store_timeout: Duration,
    /// Where it is noted which datanodes are drained.
    pub drained: DrainedDatanodes,
    pub metrics: HeadnodeMetrics,
}

/// An event of a link, for the owner of membership.
#[derive(Debug)]
pub enum LinkEvent {
    /// This run of a datanode is connected: messages can be sent to it.
    Connected {
        name: NodeName,
        incarnation: Incarnation,
        /// How many of its records were added to the registry.
        reconciled: u64,
        /// How many records are registered of it that it does not hold.
        lost: u64,
    },
    /// The connection to this run of a datanode broke, or could not be made: nothing is sent to it.
    Disconnected(NodeName, Incarnation, UnavailableCause),
    /// The datanode had no space for a message.
    Full(NodeName),
    /// An operator has declared the datanode lost.
    Forgotten(NodeName),
    /// A datanode remembers that there are, or were, datanodes with these names.
    NamesLearnt(Vec<NodeName>),
}

impl<N> LinkContext<N> {
    /// Sends an event to the owner of membership.
    pub async fn report(&self, event: LinkEvent) {
        // If the owner of membership has ended, the program is ending too.
        let _ = self.events.send(event).await;
    }
}

/// Why the connection to a datanode was given up.
#[derive(Debug, thiserror::Error)]
pub enum LinkBroken {
    #[error("{0}")]
    CannotConnect(io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("{0}")]
    Network(#[from] io::Error),
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    #[error("the datanode closed the connection")]
    Closed,
    #[error("the datanode serves a headnode with the higher epoch {0}")]
    Superseded(Epoch),
    #[error("refused by the datanode: {0}")]
    Refused(String),
    #[error("the datanode does not follow the protocol: {0}")]
    Protocol(String),
    #[error("the registry had no room for some of its records, and compares them again")]
    Behind,
    #[error("the datanode's records cannot be registered: {0}")]
    Registry(#[from] RegistryError),
}

impl LinkBroken {
    /// Returns the reason in the words of the status and the page.
    pub fn cause(&self) -> UnavailableCause {
        match self {
            Self::CannotConnect(_) | Self::ConnectTimeout(_) => UnavailableCause::CannotConnect,
            Self::Network(_) | Self::Closed => UnavailableCause::Closed,
            Self::Timeout(_) => UnavailableCause::ReplyTimeout,
            Self::Refused(_) | Self::Superseded(_) => UnavailableCause::Refused,
            Self::Protocol(_) => UnavailableCause::Protocol,
            Self::Registry(_) | Self::Behind => UnavailableCause::Registry,
        }
    }
}

/// Reads a reply from a line.
///
/// # Errors
/// Fails with [`LinkBroken::Protocol`] if the line is not a reply.
pub fn decode(line: Result<String, Rejection>) -> Result<NodeReply, LinkBroken> {
    let line = line.map_err(|rejection| LinkBroken::Protocol(rejection.to_string()))?;
    json::decode(line.as_bytes()).map_err(|malformed| LinkBroken::Protocol(malformed.to_string()))
}

/// Returns why a connection breaks on which `reply` arrived.
pub fn unexpected(reply: NodeReply) -> LinkBroken {
    match reply {
        NodeReply::Failed { reason, .. } => LinkBroken::Refused(reason),
        _ => LinkBroken::Protocol("a reply that was not asked for".to_owned()),
    }
}
