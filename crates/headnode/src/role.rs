//! What this headnode does at one moment, as its page and monitors see it.

use std::sync::Arc;

use protocol::store::types::Epoch;

use crate::placer::Placer;

/// What this headnode does at one moment, for its page and monitors.
#[derive(Debug, Clone)]
pub enum HeadnodeRole {
    /// It serves no clients. If datanodes have told it of an epoch, this is the highest one.
    StandsBy(Option<Epoch>),
    /// It leads.
    Leads(Arc<LedStore>),
}

/// The store of a headnode that leads.
#[derive(Debug)]
pub struct LedStore {
    pub placer: Arc<Placer>,
    /// The number of messages in the registry when the lead began.
    pub registered_at_start: u64,
}
