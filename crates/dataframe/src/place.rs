//! Where frames are computed: in this process, in worker processes, or on a cluster.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dataframe_cluster::JobRows;
use dataframe_cluster::client::{ClusterClient, OnProgress};
use dataframe_cluster::local::{LocalCluster, LocalClusterConfig};
use dataframe_engine::{
    Engine, EngineConfig, Frame, FrameError, ModuleStore, OutputFormat, WasmLimits, WasmModule,
};
use dataframe_jobs::message::{NodesCommand, WorkerStatus};
use dataframe_jobs::operation::{self, Operation};
use middleware::SharedTransport;
use middleware::connect::{TransportSettings, connect};

use crate::arguments::{DataframeSettings, WORKER};
use crate::job::WrongArguments;

/// The cluster that this process uses, for the end of the process.
static CLUSTER: OnceLock<ClusterClient> = OnceLock::new();

/// Tells the cluster that nobody waits for this process' jobs any more. Without a cluster it does nothing.
pub async fn give_up_jobs() {
    if let Some(client) = CLUSTER.get() {
        client.cancel_open().await;
    }
}

/// What carried the tasks of the worker processes of this process.
static STARTED: OnceLock<SharedTransport> = OnceLock::new();

/// Time to remove what the cluster of this process has left at a broker.
const CLEARING: Duration = Duration::from_secs(5);

/// Removes what worker processes that were started here have left at their broker. They have ended.
pub async fn clear_up() {
    let Some(transport) = STARTED.get() else { return };
    match tokio::time::timeout(CLEARING, transport.clear()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "something was left at the broker"),
        Err(_) => tracing::debug!("something was left at the broker, which took too long"),
    }
}

/// Where frames are computed.
pub enum ComputePlace {
    /// In this process, on all threads.
    Here(Engine),
    /// On a cluster. Worker processes that were started for it end with it.
    Cluster { client: ClusterClient, _workers: Option<Box<LocalCluster>> },
}

/// Returns the transport's settings, after checking what the flags say about the place.
///
/// # Errors
/// Fails if the flags do not go together.
pub fn checked(settings: &DataframeSettings) -> Result<TransportSettings, WrongArguments> {
    let wrong = |message: &str| Err(WrongArguments(message.to_owned()));
    let (place, middleware) = (&settings.place, settings.middleware.middleware);
    let mut transport = settings.middleware.settings();
    if place.master.is_some() && place.workers.is_some() {
        return wrong("--workers starts workers, and --master has some already: give one of the two");
    }
    if place.master.is_none() && place.workers.is_none() {
        return Ok(transport);
    }
    if let Some(url) = place.master.as_ref().filter(|address| address.contains("://")) {
        if !middleware.has_broker() {
            return Err(WrongArguments(format!(
                "--master {url}: {middleware} has no broker; give the master's HOST:PORT, or another --middleware"
            )));
        }
        transport.broker_url.get_or_insert_with(|| url.clone());
    } else if let Some(address) = place.master.as_ref().filter(|_| !middleware.has_broker()) {
        for one in address.split(',') {
            service::cli::host_and_port(one.trim())
                .map_err(|allowed| WrongArguments(format!("--master {one}: {allowed}")))?;
        }
    }
    if let (Some(example), None) = (middleware.example_broker(), &transport.broker_url) {
        return Err(WrongArguments(format!("{middleware} needs a broker: --broker {example}")));
    }
    Ok(transport)
}

/// A computed frame, whose rows are in memory or are read as they are wanted.
pub enum FrameRows {
    /// All rows.
    Here(Frame),
    /// Those that a cluster has computed.
    Cluster(Box<JobRows>),
}

impl FrameRows {
    /// Writes the rows.
    ///
    /// # Errors
    /// Fails if they cannot be read or written.
    pub fn write(self, format: OutputFormat, to: &mut (dyn Write + Send)) -> Result<(), FrameError> {
        match self {
            Self::Here(frame) => frame.write(format, to),
            Self::Cluster(mut rows) => format.write(&rows.schema(), rows.as_mut(), to),
        }
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// Fails if they cannot be read.
    pub fn into_frame(self) -> Result<Frame, FrameError> {
        match self {
            Self::Here(frame) => Ok(frame),
            Self::Cluster(rows) => Ok(rows.into_frame()?.0),
        }
    }
}

impl ComputePlace {
    /// Sets the place up that the flags tell.
    ///
    /// # Errors
    /// Fails if a cluster cannot be reached or started.
    pub async fn open(settings: &DataframeSettings, on_progress: OnProgress) -> anyhow::Result<Self> {
        let transport = checked(settings)?;
        let place = &settings.place;
        let modules = &settings.modules.wasm;
        // Whoever gives a module wants it to run here.
        let wasm = (!modules.is_empty()).then(|| WasmLimits::from(&settings.modules.limits));
        if let Some(workers) = place.workers {
            let program = std::env::current_exe().context("this program does not find its own file")?;
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let config = LocalClusterConfig {
                workers,
                threads: place.threads.unwrap_or_else(|| processors.div_ceil(workers)),
                memory_bytes: place.memory,
                middleware: settings.middleware.middleware,
                settings: transport,
                program: (program, vec![WORKER.to_owned()]),
                wasm,
                wait: place.wait,
            };
            let cluster = LocalCluster::start(config).await?;
            // A process opens one place.
            let _ = STARTED.set(cluster.transport());
            let client = remembered(cluster.client().with_progress(on_progress));
            keep(client.modules(), modules)?;
            return Ok(Self::Cluster { client, _workers: Some(Box::new(cluster)) });
        }
        if let Some(master) = &place.master {
            let transport = connect(settings.middleware.middleware, transport).await?;
            let client = ClusterClient::new(transport, master.clone(), place.wait);
            let client = remembered(client.with_progress(on_progress));
            keep(client.modules(), modules)?;
            return Ok(Self::Cluster { client, _workers: None });
        }
        let config = EngineConfig {
            threads: place.threads.unwrap_or(0),
            memory_bytes: place.memory,
            spill_folder: None,
            wasm,
        };
        let engine = Engine::new(config)?;
        keep(engine.modules(), modules)?;
        Ok(Self::Here(engine))
    }

    /// Computes a frame.
    ///
    /// # Errors
    /// Fails if the operations are wrong, the data cannot be read, or there are no workers.
    pub async fn compute(&self, operations: &[Operation]) -> anyhow::Result<Frame> {
        operation::check(operations)?;
        match self {
            Self::Here(engine) => Ok(engine.compute(operations).await?),
            Self::Cluster { client, .. } => Ok(client.submit(operations).await?.frame),
        }
    }

    /// Computes a frame whose rows are read one batch after the other. Those of a cluster need not fit in memory.
    ///
    /// # Errors
    /// Fails as [`ComputePlace::compute`] does.
    pub async fn rows(&self, operations: &[Operation]) -> anyhow::Result<FrameRows> {
        operation::check(operations)?;
        match self {
            Self::Here(engine) => Ok(FrameRows::Here(engine.compute(operations).await?)),
            Self::Cluster { client, .. } => {
                Ok(FrameRows::Cluster(Box::new(client.submit_for_rows(operations).await?)))
            }
        }
    }

    /// Tells how a frame would be computed.
    ///
    /// # Errors
    /// Fails as [`ComputePlace::compute`] does.
    pub async fn explain(&self, operations: &[Operation]) -> anyhow::Result<String> {
        operation::check(operations)?;
        match self {
            Self::Here(engine) => Ok(engine.explain(operations).await?),
            Self::Cluster { client, .. } => Ok(client.explain(operations).await?),
        }
    }

    /// Asks about the workers, or changes them.
    ///
    /// # Errors
    /// Fails if there is no cluster, or the master refuses.
    pub async fn nodes(&self, command: NodesCommand) -> anyhow::Result<Vec<WorkerStatus>> {
        Ok(self.cluster()?.nodes(command).await?)
    }

    /// Calls `show` with the workers at once and after each change.
    ///
    /// # Errors
    /// Fails if there is no cluster, the master is gone for good, or `show` fails.
    pub async fn watch(
        &self,
        mut show: impl FnMut(&[WorkerStatus]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (failed, failure) = tokio::sync::oneshot::channel();
        let mut failed = Some(failed);
        let watching = self.cluster()?.watch(|workers| {
            if let (Err(error), Some(failed)) = (show(workers), failed.take()) {
                let _ = failed.send(error);
            }
        });
        tokio::select! {
            ended = watching => Err(ended.into()),
            Ok(error) = failure => Err(error),
        }
    }

    /// Runs a job of empty tasks.
    ///
    /// # Errors
    /// Fails if there is no cluster, or no worker.
    pub async fn probe(&self, tasks: u32) -> anyhow::Result<()> {
        self.cluster()?.probe(tasks).await?;
        Ok(())
    }

    fn cluster(&self) -> anyhow::Result<&ClusterClient> {
        match self {
            Self::Here(_) => {
                bail!("there are no nodes: --master ADDRESS names a cluster, and --workers N starts one")
            }
            Self::Cluster { client, .. } => Ok(client),
        }
    }
}

fn keep(store: &ModuleStore, modules: &[Arc<WasmModule>]) -> anyhow::Result<()> {
    for module in modules {
        store.insert(module.bytes().clone())?;
    }
    Ok(())
}

fn remembered(client: ClusterClient) -> ClusterClient {
    // A process opens one place.
    let _ = CLUSTER.set(client.clone());
    client
}

/// Returns the names of the columns that operations give, without computing more than that needs.
///
/// # Errors
/// Fails as [`ComputePlace::compute`] does.
pub async fn column_names(place: &ComputePlace, operations: &[Operation]) -> anyhow::Result<Vec<String>> {
    use arrow::array::AsArray as _;

    let mut asked = operations.to_vec();
    asked.push(Operation::Columns {});
    let frame = place.compute(&asked).await?;
    let mut names = Vec::new();
    for batch in &frame.batches {
        if batch.num_columns() != 1 {
            return Err(FrameError::Internal("`columns` did not give one column".to_owned()).into());
        }
        let texts = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8)?;
        names.extend(texts.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(names)
}
