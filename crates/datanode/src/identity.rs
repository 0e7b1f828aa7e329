//! Which datanode this is.

use protocol::store::types::{Incarnation, NodeName};

/// The name of this datanode and its present run.
#[derive(Debug, Clone)]
pub struct DatanodeIdentity {
    pub name: NodeName,
    pub incarnation: Incarnation,
}
