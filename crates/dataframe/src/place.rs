//! Where frames are computed: in this process, in worker processes, or on a cluster.

use std::borrow::Cow;
use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use dataframe_cluster::JobRows;
use dataframe_cluster::client::{ClusterClient, OnProgress};
use dataframe_cluster::local::{LocalCluster, LocalClusterConfig};
use dataframe_engine::{
    Compute, Engine, EngineConfig, Frame, FrameError, ModuleStore, OutputFormat, WasmLimits,
};
use dataframe_jobs::failure::Failure;
use dataframe_jobs::message::{NodesCommand, WorkerStatus};
use dataframe_jobs::operation::{self, Operation};
use middleware::connect::{TransportSettings, connect};
use middleware::{SharedTransport, TlsHolder};

use crate::arguments::{DataframeSettings, GivenModule, PlaceArguments, WORKER};
use crate::engine_choice::{BallistaAddress, other_engine};
use crate::job::WrongArguments;
use crate::upload::FileUploads;

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
pub struct ComputePlace {
    computer: FrameComputer,
    /// Where files of this computer are put before they are read.
    uploads: Option<FileUploads>,
}

/// What computes.
enum FrameComputer {
    /// In this process, on all threads.
    Here(Engine),
    /// On a cluster. Worker processes that were started for it end with it.
    Cluster { client: ClusterClient, _workers: Option<Box<LocalCluster>> },
    /// On a cluster of another engine.
    Other(Box<dyn Compute>),
}

/// Returns the transport's settings, after checking what the flags say about the place.
///
/// # Errors
/// Fails if the flags do not go together.
pub fn checked(settings: &DataframeSettings) -> Result<TransportSettings, WrongArguments> {
    let wrong = |message: &str| Err(WrongArguments(message.to_owned()));
    let (place, middleware) = (&settings.place, settings.middleware.middleware);
    if place.master.is_some() && place.workers.is_some() {
        return wrong("--workers starts workers, and --master has some already: give one of the two");
    }
    if settings.middleware.tls.is_some() && place.master.is_none() {
        return wrong("--tls is for --master: without it, nothing leaves this computer");
    }
    let transport = settings.middleware.settings(TlsHolder::Client, false);
    let mut transport = transport.map_err(|error| WrongArguments(format!("{error:#}")))?;
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
        let uploads = settings.place.upload.as_deref().map(FileUploads::open).transpose()?;
        Ok(Self { computer: FrameComputer::open(settings, on_progress).await?, uploads })
    }

    /// The operations as they are computed: with files of this computer where the cluster reads them.
    async fn placed<'a>(&self, operations: &'a [Operation]) -> anyhow::Result<Cow<'a, [Operation]>> {
        operation::check(operations)?;
        Ok(match &self.uploads {
            Some(uploads) => Cow::Owned(uploads.put(operations).await?),
            None => Cow::Borrowed(operations),
        })
    }

    /// What was computed, or an error that names files as the user does.
    async fn named<T, E>(&self, computed: Result<T, E>) -> anyhow::Result<T>
    where
        E: Into<Failure> + Into<anyhow::Error>,
    {
        match (computed, &self.uploads) {
            (Ok(computed), _) => Ok(computed),
            (Err(error), Some(uploads)) => Err(uploads.with_own_names(error.into()).await.into()),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// Computes a frame.
    ///
    /// # Errors
    /// Fails if the operations are wrong, the data cannot be read, or there are no workers.
    pub async fn compute(&self, operations: &[Operation]) -> anyhow::Result<Frame> {
        let operations = self.placed(operations).await?;
        match &self.computer {
            FrameComputer::Here(engine) => self.named(engine.compute(&operations).await).await,
            FrameComputer::Other(engine) => self.named(engine.compute(&operations).await).await,
            FrameComputer::Cluster { client, .. } => {
                Ok(self.named(client.submit(&operations).await).await?.frame)
            }
        }
    }

    /// Computes a frame whose rows are read one batch after the other. Those of a cluster need not fit in memory.
    ///
    /// # Errors
    /// Fails as [`ComputePlace::compute`] does.
    pub async fn rows(&self, operations: &[Operation]) -> anyhow::Result<FrameRows> {
        let operations = self.placed(operations).await?;
        match &self.computer {
            FrameComputer::Here(engine) => {
                Ok(FrameRows::Here(self.named(engine.compute(&operations).await).await?))
            }
            FrameComputer::Other(engine) => {
                Ok(FrameRows::Here(self.named(engine.compute(&operations).await).await?))
            }
            FrameComputer::Cluster { client, .. } => {
                let rows = self.named(client.submit_for_rows(&operations).await).await?;
                Ok(FrameRows::Cluster(Box::new(rows)))
            }
        }
    }

    /// Tells how a frame would be computed.
    ///
    /// # Errors
    /// Fails as [`ComputePlace::compute`] does.
    pub async fn explain(&self, operations: &[Operation]) -> anyhow::Result<String> {
        let operations = self.placed(operations).await?;
        match &self.computer {
            FrameComputer::Here(engine) => self.named(engine.explain(&operations).await).await,
            FrameComputer::Other(engine) => self.named(engine.explain(&operations).await).await,
            FrameComputer::Cluster { client, .. } => self.named(client.explain(&operations).await).await,
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
        match &self.computer {
            FrameComputer::Here(_) => {
                bail!("there are no nodes: --master ADDRESS names a cluster, and --workers N starts one")
            }
            FrameComputer::Other(_) => {
                bail!("there are no nodes here: the scheduler of the other engine knows its executors")
            }
            FrameComputer::Cluster { client, .. } => Ok(client),
        }
    }
}

impl FrameComputer {
    async fn open(settings: &DataframeSettings, on_progress: OnProgress) -> anyhow::Result<Self> {
        let place = &settings.place;
        if let Some(address) = other_engine(settings)? {
            return Ok(Self::Other(open_ballista(address, place).await?));
        }
        let transport = checked(settings)?;
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
}

#[cfg(feature = "ballista")]
async fn open_ballista(address: BallistaAddress, place: &PlaceArguments) -> anyhow::Result<Box<dyn Compute>> {
    Ok(Box::new(crate::ballista_cluster::open(address, place.wait, place.threads).await?))
}

#[cfg(not(feature = "ballista"))]
async fn open_ballista(address: BallistaAddress, _: &PlaceArguments) -> anyhow::Result<Box<dyn Compute>> {
    Err(WrongArguments(format!(
        "--engine ballista {address}: this program is built without Ballista: cargo build --release -p dataframe --features ballista"
    ))
    .into())
}

fn keep(store: &ModuleStore, modules: &[GivenModule]) -> anyhow::Result<()> {
    for GivenModule { module, .. } in modules {
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
