//! A process for each task, where the middleware lets one take a request up: it pulls plan and input by its ticket, puts the result,
//! and ends. The worker that starts it stands where a cloud's function service stands.
//!
//! The worker writes one line, a [`FunctionOrder`], to the process' standard input, and keeps it open for as long as it lives. The
//! process writes a line to its standard output three times a lease, so that the worker sees that it is not frozen.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dataframe_engine::{Engine, EngineConfig};
use dataframe_jobs::message::{Request, Task, WorkerInfo};
use dataframe_jobs::packet;
use middleware::{Incoming, ReplySink, SharedTransport};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::context::WorkerContext;
use super::metrics::{WorkEnd, WorkerMetrics};
use super::{WorkerConfig, task};
use crate::masters::MasterAddresses;
use crate::threads::ComputeThreads;

/// Makes a worker's command line that of a process for one task.
pub(crate) const FUNCTION: &str = "--function";
/// Time for a process to start, on a busy machine.
const START: Duration = Duration::from_secs(30);
/// The longest order, in bytes.
const MAX_ORDER: u64 = 64 << 10;

/// What a process for one task is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FunctionOrder {
    /// Which request it takes up.
    ticket: String,
    /// The worker that started it.
    worker: String,
    /// Its folder for what does not fit in memory. The worker removes it.
    spill: PathBuf,
}

/// Has a process run a task. A process that dies, or is silent for longer than its lease, takes nothing with it: the master is told,
/// and starts the task again.
pub(super) async fn run(context: &Arc<WorkerContext>, task: Task, reply: Box<dyn ReplySink>) {
    let (begun, cancelled) = (Instant::now(), context.begin(&task.id));
    let ticket = reply.ticket();
    let ended = cancelled.run_until_cancelled(run_process(context, &task, ticket)).await;
    context.end(&task.id);
    let end = match &ended {
        Some(Ok(())) => WorkEnd::Done,
        Some(Err(_)) => WorkEnd::Died,
        None => WorkEnd::Stopped,
    };
    context.metrics.ended(end, begun.elapsed());
    let why = match ended {
        // Whatever the process has not finished is delivered again.
        Some(Ok(())) => return drop(reply),
        Some(Err(error)) => format!("{error:#}"),
        None => "the master stopped the task".to_owned(),
    };
    tracing::debug!(task = ?task.id, why, "a process ended without a result");
    if let Err(error) = reply.fail(&why).await {
        tracing::debug!(task = ?task.id, %error, "nobody heard that a process has ended");
    }
}

async fn run_process(context: &WorkerContext, task: &Task, ticket: Option<String>) -> anyhow::Result<()> {
    let ticket = ticket.context("the middleware gave no ticket for the task")?;
    let spill = tempfile::Builder::new()
        .prefix("function-")
        .tempdir_in(context.data_dir.join("spill"))
        .context("there is no folder for what a task spills")?;
    let order = FunctionOrder { ticket, worker: context.info.name.clone(), spill: spill.path().to_owned() };
    let mut process = start(&order).await?;
    let lease = Duration::from_millis(task.lease_ms).max(Duration::from_secs(1));
    let pulses = process.stdout.take().context("the process has no standard output")?;
    let silence = last_pulse(pulses, lease).await;
    if let Some(silence) = silence {
        process.kill().await.context("a silent process cannot be killed")?;
        anyhow::bail!("the process of the task was silent for {silence:?}, and was killed");
    }
    let status = process.wait().await.context("the end of a process cannot be seen")?;
    anyhow::ensure!(status.success(), "the process of the task died: {status}");
    Ok(())
}

/// Starts this program once more, with the same flags and one more.
async fn start(order: &FunctionOrder) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("this program does not find its own file")?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).arg(FUNCTION).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let cannot = || format!("{} cannot be started for a task", program.display());
    let mut process = command.spawn().with_context(cannot)?;
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    process.stdin.as_mut().with_context(cannot)?.write_all(&line).await.with_context(cannot)?;
    Ok(process)
}

/// Waits until the process closes its output. Returns the time for which it has been silent, if that is too long.
async fn last_pulse(mut pulses: impl tokio::io::AsyncRead + Unpin, lease: Duration) -> Option<Duration> {
    let (mut buffer, mut patience) = ([0; 64], START.max(lease));
    loop {
        match tokio::time::timeout(patience, pulses.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) => patience = lease,
            Err(_) => return Some(patience),
        }
    }
}

/// Runs the one task of this process.
///
/// # Errors
/// Fails if the order cannot be read, or the request cannot be taken up.
pub(crate) async fn serve(config: WorkerConfig, transport: SharedTransport) -> anyhow::Result<()> {
    let order = read_order()?;
    let Some(incoming) = transport.take_up(&order.ticket).await.context("the task cannot be pulled")? else {
        return Ok(());
    };
    let Incoming { request, reply, .. } = incoming;
    let (Request::Run(task), plan) = packet::decode(&request)? else {
        anyhow::bail!("a process is started for a task, and the request is none");
    };
    let lease = Duration::from_millis(task.lease_ms);
    let _pulses = AbortOnDropHandle::new(tokio::spawn(show_pulse(lease)));
    let context = Arc::new(context(&config, order, SharedTransport::clone(&transport))?);
    task::run(&context, task, plan, reply).await;
    transport.settle().await;
    Ok(())
}

fn context(
    config: &WorkerConfig,
    order: FunctionOrder,
    transport: SharedTransport,
) -> anyhow::Result<WorkerContext> {
    let share = u64::try_from(config.threads.max(1)).unwrap_or(u64::MAX);
    let engine = Engine::new(EngineConfig {
        threads: 1,
        memory_bytes: config.memory_bytes.map(|bytes| (bytes / share).max(1)),
        spill_folder: Some(order.spill),
        wasm: config.wasm,
    })?;
    let info = WorkerInfo {
        name: order.worker,
        incarnation: String::new(),
        address: None,
        datafusion: dataframe_engine::DATAFUSION_VERSION.to_owned(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        slots: 1,
        functions: Vec::new(),
        wasm: config.wasm.is_some(),
    };
    let (threads, data_dir) = (ComputeThreads::start(1)?, config.data_dir.clone());
    Ok(WorkerContext {
        info,
        transport,
        engine,
        threads,
        data_dir,
        attempts: Mutex::default(),
        masters: MasterAddresses::new(config.masters.clone()),
        network: Handle::current(),
        metrics: WorkerMetrics::new(),
    })
}

/// Reads what this process is for. It ends when the worker that started it has ended, however that came about.
fn read_order() -> anyhow::Result<FunctionOrder> {
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), MAX_ORDER);
    input.read_line(&mut line).context("the order of this process cannot be read")?;
    drop(input);
    let order = serde_json::from_str(&line)
        .context("this process was given no order: a worker starts it, and nobody else")?;
    std::thread::spawn(|| {
        // Nothing more is ever written there.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    });
    Ok(order)
}

async fn show_pulse(lease: Duration) {
    let mut interval = tokio::time::interval((lease / 3).max(Duration::from_millis(1)));
    loop {
        interval.tick().await;
        let mut output = std::io::stdout().lock();
        // A worker that is gone ends this process by its standard input.
        let _ = output.write_all(b"\n").and_then(|()| output.flush());
    }
}
