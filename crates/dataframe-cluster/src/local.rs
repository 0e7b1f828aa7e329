//! A cluster on this computer for as long as one program runs: a master within it, and workers as child processes.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use dataframe_engine::{ShuffleSettings, WasmLimits};
use dataframe_jobs::message::{NodesCommand, WorkerState};
use middleware::SharedTransport;
use middleware::connect::{Middleware, TransportSettings, connect};
use service::Shutdown;
use tokio_util::task::AbortOnDropHandle;

use crate::arguments::processors;
use crate::client::ClusterClient;
use crate::master::{Master, MasterConfig, MasterEnd};

/// How long workers may take to start.
const START: Duration = Duration::from_secs(30);

/// What a local cluster is made of.
#[derive(Clone)]
pub struct LocalClusterConfig {
    /// How many workers.
    pub workers: usize,
    /// Tasks that each worker runs at a time.
    pub threads: usize,
    /// Memory of each worker in bytes.
    pub memory_bytes: Option<u64>,
    /// What carries tasks and results.
    pub middleware: Middleware,
    /// What a transport is made from.
    pub settings: TransportSettings,
    /// The program that is started as a worker, and the arguments before those of a worker.
    pub program: (PathBuf, Vec<String>),
    /// What WebAssembly modules may use in the master and in the workers; none runs if absent.
    pub wasm: Option<WasmLimits>,
    /// How long a job waits for workers.
    pub wait: Duration,
}

/// A running local cluster. Dropping it ends the workers.
pub struct LocalCluster {
    client: ClusterClient,
    transport: SharedTransport,
    workers: Vec<WorkerProcess>,
    shutdown: Shutdown,
    _master: AbortOnDropHandle<MasterEnd>,
    _folder: tempfile::TempDir,
}

/// One worker of a local cluster. It is killed when this is dropped.
struct WorkerProcess(Child);

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended by itself. It has nothing to lose.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl LocalCluster {
    /// Starts the master and the workers, and waits until all have joined.
    ///
    /// # Errors
    /// Fails if a worker cannot be started or does not join in time.
    pub async fn start(config: LocalClusterConfig) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder for the master")?;
        let transport = connect(config.middleware, config.settings.clone()).await?;
        let master = MasterConfig {
            listen: "127.0.0.1:0".to_owned(),
            threads: processors(),
            memory_bytes: None,
            data_dir: folder.path().to_owned(),
            lease: Duration::from_secs(10),
            worker_timeout: Duration::from_secs(5),
            spool_limit: None,
            shuffle_above: ShuffleSettings::default().above,
            wasm: config.wasm,
        };
        let master = Master::start(master, SharedTransport::clone(&transport)).await?;
        let client = master.client(config.wait);
        let address = master.address().unwrap_or_else(|| "127.0.0.1:9000".to_owned());
        let shutdown = Shutdown::new();
        let running = AbortOnDropHandle::new(tokio::spawn(master.run(shutdown.clone())));
        let workers = (1..=config.workers)
            .map(|number| start_worker(&config, number, &address))
            .collect::<anyhow::Result<_>>()?;
        let mut cluster = Self { client, transport, workers, shutdown, _master: running, _folder: folder };
        cluster.wait_for_workers().await?;
        Ok(cluster)
    }

    /// A client of this cluster.
    #[must_use]
    pub fn client(&self) -> ClusterClient {
        self.client.clone()
    }

    /// What carries its tasks and results. [`middleware::Transport::clear`] removes what the cluster has left there when it has ended.
    #[must_use]
    pub fn transport(&self) -> SharedTransport {
        SharedTransport::clone(&self.transport)
    }

    /// The process numbers of the workers.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        self.workers.iter().map(|worker| worker.0.id()).collect()
    }

    async fn wait_for_workers(&mut self) -> anyhow::Result<()> {
        let all_there = async {
            let mut look = tokio::time::interval(Duration::from_millis(5));
            loop {
                look.tick().await;
                for worker in &mut self.workers {
                    if let Some(status) = worker.0.try_wait()? {
                        anyhow::bail!("a worker has ended at once ({status}); its log is above");
                    }
                }
                let nodes = self.client.nodes(NodesCommand::List).await?;
                if nodes.iter().filter(|node| node.state == WorkerState::Ready).count() >= self.workers.len()
                {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(START, all_there)
            .await
            .with_context(|| format!("the workers have not joined within {START:?}"))?
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

fn start_worker(config: &LocalClusterConfig, number: usize, master: &str) -> anyhow::Result<WorkerProcess> {
    let (program, arguments) = &config.program;
    let mut command = Command::new(program);
    command.args(arguments).args([
        "--name",
        &format!("worker{number}"),
        "--listen",
        "127.0.0.1:0",
        "--master",
        master,
    ]);
    command.args(["--middleware", config.middleware.name(), "--threads", &config.threads.to_string()]);
    command.args(["--log-level", "warn", "--heartbeat", "500ms", "--end-with-stdin"]);
    if let Some(url) = &config.settings.broker_url {
        command.args(["--broker", url]);
    }
    if let Some(url) = &config.settings.fast_store_url {
        command.args(["--fast-store", url]);
    }
    if let Some(bytes) = config.memory_bytes {
        command.args(["--memory", &bytes.to_string()]);
    }
    if let Some(limits) = config.wasm {
        command.args(["--allow-wasm", "--wasm-memory", &limits.memory_bytes.to_string()]);
        command.args(["--wasm-fuel", &limits.fuel_per_row.to_string()]);
    }
    // Ctrl-C is for the program: at a prompt it ends a job, and the workers stay.
    command.process_group(0);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let child = child.with_context(|| format!("{} cannot be started as a worker", program.display()))?;
    Ok(WorkerProcess(child))
}
