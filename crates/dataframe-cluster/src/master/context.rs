//! What the parts of a master share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dataframe_engine::Engine;
use dataframe_jobs::message::Lead;
use middleware::SharedTransport;
use tokio::sync::{Semaphore, watch};

use super::metrics::MasterMetrics;
use super::results::Results;
use super::shuffles::Shuffles;
use super::uploads::ModuleUploads;
use crate::spool::SpoolRoom;
use crate::threads::ComputeThreads;

/// What the parts of a master share.
pub(crate) struct MasterContext {
    /// This master's time at the head of the cluster.
    pub(crate) lead: Lead,
    /// Takes a newer lead, which ends this one.
    pub(crate) supersede: watch::Sender<Option<Lead>>,
    /// Whether another master may take the lead over.
    pub(crate) is_one_of_pair: bool,
    pub(crate) transport: SharedTransport,
    pub(crate) engine: Engine,
    pub(crate) threads: ComputeThreads,
    pub(crate) results: Results,
    /// Modules of which clients have sent a part.
    pub(crate) uploads: ModuleUploads,
    /// Where task results lie until they are used.
    pub(crate) spool_room: SpoolRoom,
    /// What the tasks of running stages read.
    pub(crate) shuffles: Shuffles,
    /// A place for each partition that is being fetched.
    pub(crate) fetches: Semaphore,
    /// A place for each client that waits for a job. Heartbeats never wait for one.
    pub(crate) waiting_clients: Semaphore,
    /// A place for each client that watches the workers.
    pub(crate) watchers: Semaphore,
    pub(crate) lease: Duration,
    pub(crate) metrics: MasterMetrics,
    /// Whether a page is open.
    pub(crate) watched: Arc<AtomicBool>,
}
