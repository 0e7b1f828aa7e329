//! The master: takes workers in, cuts jobs into tasks, gives the tasks to workers, and puts the results together.
//!
//! | part | what it does |
//! | --- | --- |
//! | `command` | what the coordinator is told and asked |
//! | `coordinator` | owns the scheduler and all that changes: one loop that takes commands |
//! | `job` | one job: plan, stages, the stored result |
//! | `call` | one attempt at a task: its request to a worker and the pieces of the reply |
//! | `rounds` | one round of tasks of a job |
//! | `stages` | the stages of a job: tasks whose results are shuffled, and the final stage |
//! | `shuffles` | results in partitions, which the tasks of the next stage fetch |
//! | `fetch` | gives a worker a partition of earlier results |
//! | `desk` | where jobs are ordered |
//! | `requests` | answers what clients and workers ask |
//! | `results` | results of finished jobs, which outlive the master |
//! | `pair` | two masters, of which one stands by |
//! | `ledger`, `snapshot`, `metrics` | what is noted for the page and for monitors |
//! | `page_source`, `frame`, `history` | what they are shown |
//! | `uploads` | WebAssembly modules that clients send in pieces |

mod call;
pub(crate) mod command;
mod context;
pub(crate) mod coordinator;
pub(crate) mod desk;
mod fetch;
mod frame;
mod history;
mod in_process;
mod inspector;
mod job;
mod ledger;
pub(crate) mod metrics;
mod page_source;
mod pair;
mod requests;
pub(crate) mod results;
mod rounds;
mod shuffles;
mod snapshot;
mod stages;
mod task_stream;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use dataframe_engine::{Engine, EngineConfig, ShuffleSettings, WasmLimits};
use dataframe_jobs::message::Lead;
use middleware::{Endpoint, SharedTransport};
use service::Shutdown;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::client::ClusterClient;
use crate::spool::SpoolRoom;
use crate::threads::ComputeThreads;
use context::MasterContext;
use coordinator::Coordinator;
use desk::{Desk, MAX_WAITING_CLIENTS};
use fetch::MAX_FETCHES;
use in_process::InProcess;
use metrics::MasterMetrics;
pub(crate) use page_source::MasterPage;
pub use pair::PairConfig;
pub(crate) use pair::stand_by;
use requests::MAX_WATCHERS;
use results::Results;
use shuffles::Shuffles;
use uploads::ModuleUploads;

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
    /// What the results of tasks may take there until they are read; half of what is free at the start if absent.
    pub spool_limit: Option<u64>,
    /// How long a task may go without a sign of life before it is started elsewhere.
    pub lease: Duration,
    /// How long a worker may be silent before it counts as lost.
    pub worker_timeout: Duration,
    /// A task whose rows take more bytes in memory splits them, so that workers put them together.
    pub shuffle_above: u64,
    /// What WebAssembly modules may use in final stages, which run in the master; none runs if absent.
    pub wasm: Option<WasmLimits>,
}

/// A master that receives requests.
pub struct Master {
    requests: Box<dyn middleware::Requests>,
    context: Arc<MasterContext>,
    coordinator: Coordinator,
    pair: Option<PairConfig>,
    superseded: watch::Receiver<Option<Lead>>,
}

/// As what a master begins.
pub(crate) struct MasterLead {
    /// The number of its lead.
    pub(crate) term: u64,
    /// The pair that it belongs to, if it does.
    pub(crate) pair: Option<PairConfig>,
    /// What it counts for.
    pub(crate) watch: MasterWatch,
}

/// What a master program counts, whoever leads, and whether somebody looks at its page.
#[derive(Debug, Clone)]
pub(crate) struct MasterWatch {
    pub(crate) metrics: MasterMetrics,
    pub(crate) watched: Arc<AtomicBool>,
}

impl MasterWatch {
    /// Returns what a program counts that has just started.
    pub(crate) fn new() -> Self {
        Self { metrics: MasterMetrics::new(), watched: Arc::default() }
    }

    /// Returns the page of this program.
    pub(crate) fn page(&self) -> MasterPage {
        MasterPage::new(self.metrics.clone(), Arc::clone(&self.watched))
    }
}

/// Why a master has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterEnd {
    /// The program ends.
    Shutdown,
    /// The other master of the pair has a newer lead.
    Superseded(Lead),
}

impl Master {
    /// Begins to receive requests, as the only master of its cluster.
    ///
    /// # Errors
    /// Fails if the folder cannot be used or the master cannot listen.
    pub async fn start(config: MasterConfig, transport: SharedTransport) -> anyhow::Result<Self> {
        Self::lead(config, transport, MasterLead { term: 1, pair: None, watch: MasterWatch::new() }).await
    }

    /// Begins to receive requests, with the lead of this term, alone or as one of a pair.
    ///
    /// # Errors
    /// Fails as [`Master::start`] does.
    pub(crate) async fn lead(
        config: MasterConfig,
        transport: SharedTransport,
        lead: MasterLead,
    ) -> anyhow::Result<Self> {
        let MasterLead { term, pair, watch } = lead;
        let spool_dir = config.data_dir.join("spill");
        std::fs::create_dir_all(&spool_dir)
            .with_context(|| format!("{}: the folder cannot be made", spool_dir.display()))?;
        let spool_limit = match config.spool_limit {
            Some(limit) => limit,
            None => free_bytes(&spool_dir)? / 2,
        };
        let engine = Engine::new(EngineConfig {
            threads: config.threads,
            memory_bytes: config.memory_bytes,
            spill_folder: Some(spool_dir.clone()),
            wasm: config.wasm,
        })?;
        let shuffles = ShuffleSettings { above: config.shuffle_above, ..ShuffleSettings::default() };
        let engine = engine.with_shuffles(shuffles);
        let results = Results::open(config.data_dir.join("results"))?;
        let requests = transport
            .serve(&Endpoint::Master(config.listen.clone()), REQUESTS_AT_ONCE)
            .await
            .context("the master cannot receive requests")?;
        let threads = ComputeThreads::start(config.threads)?;
        let incarnation = service::new_ulid(rand::random()).to_string();
        let (supersede, superseded) = watch::channel(None);
        let context = Arc::new(MasterContext {
            lead: Lead { term, incarnation },
            supersede,
            is_one_of_pair: pair.is_some(),
            transport,
            engine,
            threads,
            results,
            uploads: ModuleUploads::default(),
            spool_room: SpoolRoom::new(spool_dir).limited(spool_limit),
            shuffles: Shuffles::default(),
            fetches: Semaphore::new(MAX_FETCHES),
            waiting_clients: Semaphore::new(MAX_WAITING_CLIENTS),
            watchers: Semaphore::new(MAX_WATCHERS),
            lease: config.lease,
            metrics: watch.metrics,
            watched: watch.watched,
        });
        let coordinator = Coordinator::new(Arc::clone(&context), config.worker_timeout, requests.address());
        Ok(Self { requests, context, coordinator, pair, superseded })
    }

    /// The address at which clients and workers call it, where they do so directly.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.requests.address()
    }

    /// Where services of this program order jobs.
    #[must_use]
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.context), self.coordinator.commands())
    }

    /// A client within this program. Jobs of it do not travel.
    #[must_use]
    pub(crate) fn client(&self, wait: Duration) -> ClusterClient {
        let desk = InProcess::new(Arc::clone(&self.context), self.coordinator.commands());
        ClusterClient::new(Arc::new(desk), String::new(), wait)
    }

    /// Answers requests until `shutdown`, or until another master has a newer lead.
    pub async fn run(mut self, shutdown: Shutdown) -> MasterEnd {
        let name = self.context.transport.capabilities().name;
        tracing::info!(address = self.address(), middleware = name, "listening");
        let commands = self.coordinator.commands();
        let coordinator = tokio::spawn(self.coordinator.run());
        let _greeting = AbortOnDropHandle::new(tokio::spawn(requests::greet(
            Arc::clone(&self.context),
            commands.clone(),
        )));
        let holding = self.pair.map(|pair| hold_lead(&self.context, pair));
        // A client that waits for a job sends it again, to the next master.
        let ended = CancellationToken::new();
        let end = loop {
            let incoming = tokio::select! {
                incoming = self.requests.next() => incoming,
                () = shutdown.requested() => break MasterEnd::Shutdown,
                Ok(lead) = self.superseded.wait_for(Option::is_some) => {
                    break lead.clone().map_or(MasterEnd::Shutdown, MasterEnd::Superseded);
                }
            };
            let (context, commands) = (Arc::clone(&self.context), commands.clone());
            let open = shutdown.hold("requests");
            let answered = requests::answer(context, commands, incoming);
            tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
                answered.await;
                drop(open);
            }));
        };
        ended.cancel();
        coordinator.abort();
        drop(holding);
        if let MasterEnd::Superseded(lead) = &end {
            tracing::warn!(term = lead.term, "stepping down: another master has a newer lead");
        }
        tracing::info!(left = shutdown.left(), "master closed");
        end
    }
}

/// What is free on the disk of a folder.
fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(folder)
        .with_context(|| format!("{}: cannot find out how much is free on the disk", folder.display()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// Tells the other master of a pair that this one leads.
fn hold_lead(context: &Arc<MasterContext>, pair: PairConfig) -> AbortOnDropHandle<()> {
    let context = Arc::clone(context);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let newer = pair::hold_lead(context.transport.clone(), pair, context.lead.clone()).await;
        context.supersede.send_replace(Some(newer));
    }))
}
