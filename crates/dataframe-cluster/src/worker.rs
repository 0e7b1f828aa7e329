//! A worker: offers itself to the master, runs tasks, and says that it is alive.

mod context;
mod fetch;
pub(crate) mod function;
mod membership;
mod metrics;
mod modules;
mod monitor;
mod task;

use context::{WorkerContext, end_reply, send_last};
use metrics::WorkerMetrics;
use monitor::WorkerMonitor;
pub(crate) use task::HEADER_BYTES;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use dataframe_engine::{Engine, EngineConfig, FrameError, WasmLimits};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Reply, Request, WorkerInfo};
use dataframe_jobs::operation::{Operation, ReadCsv};
use dataframe_jobs::packet;
use middleware::{Endpoint, Incoming, SharedTransport};
use page::PageConfig;
use service::{Shutdown, net};
use tokio::sync::watch;

use crate::masters::MasterAddresses;
use crate::threads::ComputeThreads;

/// Requests that a worker answers at a time besides its tasks, such as questions about its files.
const BESIDE_TASKS: usize = 16;

/// What a worker needs to know.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name in the cluster.
    pub name: String,
    /// Where it listens, where the middleware calls workers directly.
    pub listen: String,
    /// The address that others call; by default the one it listens at.
    pub advertise: Option<String>,
    /// The address of the master, or of both masters of a pair, where the middleware calls it directly.
    pub masters: Vec<String>,
    /// Tasks at a time, each on a thread.
    pub threads: usize,
    /// Bytes for computing; what is more is spilled to disk.
    pub memory_bytes: Option<u64>,
    /// `worker://NAME/PATH` is a path in this folder. Spilled data goes here too.
    pub data_dir: PathBuf,
    /// The time between two signs of life.
    pub heartbeat: Duration,
    /// What WebAssembly modules of clients may use; the worker runs none if absent.
    pub wasm: Option<WasmLimits>,
    /// Where metrics and health are served.
    pub metrics: PageConfig,
}

/// Gives the address that others call for an address at which the worker listens.
pub(crate) type Reachable = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Runs a worker until `shutdown`.
///
/// # Errors
/// Fails if the worker cannot listen, or the master refuses it for good.
pub(crate) async fn run(
    config: WorkerConfig,
    transport: SharedTransport,
    reachable: Reachable,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let capabilities = transport.capabilities();
    net::make_room_for(config.metrics.connections()).map_err(anyhow::Error::msg)?;
    let monitor = page::bind(&config.metrics)?;
    let engine = Engine::new(EngineConfig {
        threads: 1,
        memory_bytes: config.memory_bytes,
        spill_folder: Some(config.data_dir.join("spill")),
        wasm: config.wasm,
    })?;
    let own = if capabilities.calls_workers_directly { config.listen.clone() } else { config.name.clone() };
    let mut direct = transport
        .serve(&Endpoint::Worker(own), config.threads + BESIDE_TASKS)
        .await
        .with_context(|| format!("the worker {} cannot receive requests", config.name))?;
    let address =
        config.advertise.clone().or_else(|| direct.address().map(|listening| reachable(&listening)));
    let info = WorkerInfo {
        name: config.name.clone(),
        incarnation: service::new_ulid(rand::random()).to_string(),
        address: address.clone(),
        datafusion: dataframe_engine::DATAFUSION_VERSION.to_owned(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        slots: u32::try_from(config.threads).unwrap_or(u32::MAX),
        functions: engine.function_names(),
        wasm: config.wasm.is_some(),
    };
    tracing::info!(
        name = info.name,
        address,
        middleware = capabilities.name,
        threads = config.threads,
        "listening"
    );
    let masters = MasterAddresses::new(config.masters);
    let context = Arc::new(WorkerContext {
        info,
        masters: masters.clone(),
        transport,
        engine,
        threads: ComputeThreads::start(config.threads)?,
        data_dir: config.data_dir.clone(),
        attempts: Mutex::default(),
        network: tokio::runtime::Handle::current(),
        metrics: WorkerMetrics::new(),
    });
    let (tell, mut member) = watch::channel(false);
    let monitor = monitor.map(|listener| {
        let source = Arc::new(WorkerMonitor::new(Arc::clone(&context), member.clone()));
        service::run_beside("metrics", page::serve(listener, source, shutdown.clone()))
    });
    let _monitor = monitor.transpose().context("cannot start the thread of the metrics")?;
    let membership = membership::keep(Arc::clone(&context), masters.clone(), config.heartbeat, tell);
    tokio::pin!(membership);
    // What any worker may take is for members: nobody would wait for the result of another one.
    let mut shared = None;
    loop {
        let incoming = tokio::select! {
            incoming = direct.next() => incoming,
            incoming = next_of(&mut shared) => incoming,
            Ok(()) = member.changed() => {
                let serves = *member.borrow_and_update() && capabilities.shared_queue;
                shared = match serves {
                    true => Some(context.transport.serve(&Endpoint::AnyWorker, config.threads).await?),
                    false => None,
                };
                continue;
            }
            refused = &mut membership => return Err(anyhow::Error::new(refused)),
            () = shutdown.requested() => break,
        };
        let (context, open) = (Arc::clone(&context), shutdown.hold("requests"));
        tokio::spawn(async move {
            answer(&context, incoming).await;
            drop(open);
        });
    }
    drop((direct, shared));
    finish(&context, &masters, &shutdown).await;
    Ok(())
}

async fn next_of(requests: &mut Option<Box<dyn middleware::Requests>>) -> Incoming {
    match requests {
        Some(requests) => requests.next().await,
        None => std::future::pending().await,
    }
}

/// Says good-bye, so that the master starts what is left elsewhere at once.
async fn finish(context: &WorkerContext, masters: &MasterAddresses, shutdown: &Shutdown) {
    for task in context.running() {
        context.stop(&task);
    }
    membership::leave(context, masters).await;
    tracing::info!(left = shutdown.left(), "worker closed");
}

async fn answer(context: &Arc<WorkerContext>, incoming: Incoming) {
    let Incoming { request, mut reply, .. } = incoming;
    let outcome = match packet::decode::<Request>(&request) {
        Ok((Request::Run(task), _)) if context.transport.capabilities().starts_functions => {
            return function::run(context, task, reply).await;
        }
        Ok((Request::Run(task), plan)) => return task::run(context, task, plan, reply).await,
        Ok((request, _)) => answer_short(context, request).await,
        Err(error) => Err(Failure { code: FailureCode::Refused, message: error.to_string(), worker: None }),
    };
    let (header, body) = match outcome {
        Ok(answer) => answer,
        Err(failure) => {
            (Reply::Failed(Failure { worker: Some(context.info.name.clone()), ..failure }), Bytes::new())
        }
    };
    if let Err(error) = send_last(reply.as_mut(), &header, &body).await {
        tracing::debug!(%error, "nobody took the answer");
        return;
    }
    end_reply(reply).await;
}

async fn answer_short(context: &Arc<WorkerContext>, request: Request) -> Result<(Reply, Bytes), Failure> {
    match request {
        Request::Stop(task) => {
            context.stop(&task);
            Ok((Reply::Accepted, Bytes::new()))
        }
        Request::Identify => Ok((Reply::Identity(context.info.clone()), Bytes::new())),
        Request::Inspect { operation: Operation::ReadCsv(read) } => inspect(context, read).await,
        _ => Err(Failure {
            code: FailureCode::Refused,
            message: "a worker answers run, stop, inspect and identify: send this request to the master"
                .to_owned(),
            worker: None,
        }),
    }
}

async fn inspect(context: &Arc<WorkerContext>, mut read: ReadCsv) -> Result<(Reply, Bytes), Failure> {
    for path in &mut read.paths {
        // An absolute path stays as it is.
        *path = context.data_dir.join(&*path).to_string_lossy().into_owned();
    }
    let engine = context.engine.clone();
    let inspection = context.threads.spawn(async move {
        let mut inspection = engine.inspect(&read).await?;
        // The master does not see the files, and cuts them where this worker says.
        inspection.find_boundaries()?;
        Ok::<_, FrameError>(inspection)
    });
    let inspection = inspection.await.map_err(|error| internal(&error))?.map_err(Failure::from)?;
    let body = serde_json::to_vec(&inspection).map_err(|error| internal(&error))?;
    Ok((Reply::Inspected, body.into()))
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure { code: FailureCode::Internal, message: error.to_string(), worker: None }
}
