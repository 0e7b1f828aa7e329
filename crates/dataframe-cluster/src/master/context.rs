//! What the parts of a master share.

use std::time::Duration;

use dataframe_engine::Engine;
use middleware::SharedTransport;
use tokio::sync::Semaphore;

use super::results::Results;
use crate::spool::SpoolRoom;
use crate::threads::ComputeThreads;

/// What the parts of a master share.
pub(crate) struct MasterContext {
    pub(crate) transport: SharedTransport,
    pub(crate) engine: Engine,
    pub(crate) threads: ComputeThreads,
    pub(crate) results: Results,
    /// Where task results lie until they are used.
    pub(crate) spool_room: SpoolRoom,
    /// A place for each client that waits for a job. Heartbeats never wait for one.
    pub(crate) waiting_clients: Semaphore,
    pub(crate) lease: Duration,
}
