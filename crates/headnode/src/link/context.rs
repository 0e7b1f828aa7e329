//! What links share: their surroundings, what they report, and why they break.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use protocol::line::Rejection;
use protocol::store::json;
use protocol::store::node_api::NodeReply;
use protocol::store::types::{Incarnation, NodeName};
use tokio::sync::{mpsc, watch};

use crate::registry::{Registry, RegistryError};

/// What a link needs besides its datanode.
#[derive(Debug)]
pub struct LinkContext<N> {
    /// The network.
    pub network: N,
    /// Where what the datanode holds is compared with what is registered of it.
    pub registry: Registry,
    /// The names of all datanodes that were ever known, in the order in which they became known.
    pub names: watch::Receiver<Arc<[NodeName]>>,
    /// Where the owner of membership is told what becomes of the link.
    pub events: mpsc::Sender<LinkEvent>,
    /// Which run of the headnode this is.
    pub headnode: Incarnation,
    /// How long a datanode may take for one reply.
    pub store_timeout: Duration,
}

/// What a link tells the owner of membership.
#[derive(Debug)]
pub enum LinkEvent {
    /// The connection to this run of a datanode stands: messages can be sent to it.
    Stands(NodeName, Incarnation),
    /// The connection broke, or could not be made: nothing is sent to it.
    Broke(NodeName, Incarnation),
    /// A datanode was told that there are, or were, datanodes of these names.
    Named(Vec<NodeName>),
}

impl<N> LinkContext<N> {
    /// Tells the owner of membership.
    pub async fn tell(&self, event: LinkEvent) {
        // The owner of membership ends with the program.
        let _ = self.events.send(event).await;
    }
}

/// Why the connection to a datanode was given up.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("{0}")]
    Network(#[from] io::Error),
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    #[error("it was closed by the datanode")]
    Closed,
    #[error("refused by the datanode: {0}")]
    Refused(String),
    #[error("the datanode does not follow the protocol: {0}")]
    Protocol(String),
    #[error("what it holds cannot be registered: {0}")]
    Registry(#[from] RegistryError),
}

/// Reads a reply from a line.
///
/// # Errors
/// [`Broken::Protocol`].
pub fn decode(line: Result<String, Rejection>) -> Result<NodeReply, Broken> {
    let line = line.map_err(|rejection| Broken::Protocol(rejection.to_string()))?;
    json::decode(line.as_bytes()).map_err(|malformed| Broken::Protocol(malformed.to_string()))
}

/// Returns why a connection breaks on which `reply` came.
pub fn unexpected(reply: NodeReply) -> Broken {
    match reply {
        NodeReply::Failed { reason, .. } => Broken::Refused(reason),
        _ => Broken::Protocol("a reply that was not asked for".to_owned()),
    }
}
