//! The master: takes workers in, cuts jobs into tasks, gives the tasks to workers, and puts the results together.
//!
//! | part | what it does |
//! | --- | --- |
//! | `command` | what the coordinator is told and asked |
//! | `coordinator` | owns the scheduler and all that changes: one loop that takes commands |
//! | `job` | one job: plan, wait for the results of its tasks, the final stage, the stored result |
//! | `call` | one attempt at a task: its request to a worker and the pieces of the reply |
//! | `requests` | answers what clients and workers ask |
//! | `results` | results of finished jobs, which outlive the master |

mod call;
mod command;
mod context;
pub(crate) mod coordinator;
mod in_process;
mod inspector;
mod job;
mod requests;
mod results;
mod task_stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dataframe_engine::{Engine, EngineConfig};
use middleware::{Endpoint, SharedTransport};
use service::Shutdown;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::client::ClusterClient;
use crate::spool::SpoolRoom;
use crate::threads::ComputeThreads;
use context::MasterContext;
use coordinator::Coordinator;
use in_process::InProcess;
use requests::MAX_WAITING_CLIENTS;
use results::Results;

/// Requests that the master answers at a time: those of clients that wait for a job, and as many others.
const REQUESTS_AT_ONCE: usize = 2 * MAX_WAITING_CLIENTS;

/// What a master needs to know.
#[derive(Debug, Clone)]
pub struct MasterConfig {
    /// Where it listens, where the middleware calls it directly.
    pub listen: String,
    /// Threads for planning and for final stages.
    pub threads: usize,
    /// Bytes for computing; what is more is spilled to disk.
    pub memory_bytes: Option<u64>,
    /// Results of finished jobs and spilled data.
    pub data_dir: PathBuf,
    /// How long a task may go without a sign of life before it is started elsewhere.
    pub lease: Duration,
    /// How long a worker may be silent before it counts as lost.
    pub worker_timeout: Duration,
}

/// A master that receives requests.
pub struct Master {
    requests: Box<dyn middleware::Requests>,
    context: Arc<MasterContext>,
    coordinator: Coordinator,
}

impl Master {
    /// Begins to receive requests.
    ///
    /// # Errors
    /// Fails if the folder cannot be used or the master cannot listen.
    pub async fn start(config: MasterConfig, transport: SharedTransport) -> anyhow::Result<Self> {
        let spool_dir = config.data_dir.join("spill");
        std::fs::create_dir_all(&spool_dir)
            .with_context(|| format!("{}: the folder cannot be made", spool_dir.display()))?;
        let engine = Engine::new(EngineConfig {
            threads: config.threads,
            memory_bytes: config.memory_bytes,
            spill_folder: Some(spool_dir.clone()),
        })?;
        let results = Results::open(config.data_dir.join("results"))?;
        let requests = transport
            .serve(&Endpoint::Master(config.listen.clone()), REQUESTS_AT_ONCE)
            .await
            .context("the master cannot receive requests")?;
        let threads = ComputeThreads::start(config.threads)?;
        let context = Arc::new(MasterContext {
            transport,
            engine,
            threads,
            results,
            spool_room: SpoolRoom::new(spool_dir),
            waiting_clients: Semaphore::new(MAX_WAITING_CLIENTS),
            lease: config.lease,
        });
        let coordinator = Coordinator::new(Arc::clone(&context), config.worker_timeout, requests.address());
        Ok(Self { requests, context, coordinator })
    }

    /// The address at which clients and workers call it, where they do so directly.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.requests.address()
    }

    /// A client within this program. Jobs of it do not travel.
    #[must_use]
    pub(crate) fn client(&self, wait: Duration) -> ClusterClient {
        let desk = InProcess::new(Arc::clone(&self.context), self.coordinator.commands());
        ClusterClient::new(Arc::new(desk), String::new(), wait)
    }

    /// Answers requests until `shutdown`.
    pub async fn run(mut self, shutdown: Shutdown) {
        let name = self.context.transport.capabilities().name;
        tracing::info!(address = self.address(), middleware = name, "listening");
        let commands = self.coordinator.commands();
        let coordinator = tokio::spawn(self.coordinator.run());
        let _greeting = AbortOnDropHandle::new(tokio::spawn(requests::greet(
            Arc::clone(&self.context),
            commands.clone(),
        )));
        loop {
            let incoming = tokio::select! {
                incoming = self.requests.next() => incoming,
                () = shutdown.requested() => break,
            };
            let (context, commands) = (Arc::clone(&self.context), commands.clone());
            let open = shutdown.hold("requests");
            let answered = requests::answer(context, commands, incoming);
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                // A client that waits for a job sends it again, to the next master.
                tokio::select! {
                    () = answered => {}
                    () = shutdown.requested() => {}
                }
                drop(open);
            });
        }
        coordinator.abort();
        tracing::info!(left = shutdown.left(), "master closed");
    }
}
