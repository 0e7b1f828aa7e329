//! One task, from its request to the last piece of its result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataframe_engine::{Engine, FrameError, TaskBudget, TaskRun};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, Reply, Task};
use dataframe_jobs::packet;
use futures_util::StreamExt;
use middleware::{ReplySink, TransportError};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::context::{WorkerContext, end_reply, send_last};
use super::fetch::MasterShuffles;
use super::metrics::WorkEnd;
use super::modules::fetch_missing;
use crate::split::{StreamPiece, TaskEncoder};

/// Room for the header of a packet within the longest message of a middleware.
pub(crate) const HEADER_BYTES: usize = 1024;

/// Pieces that wait for the network, while the next ones are computed.
const PIECES_AHEAD: usize = 4;

/// Runs a task and sends what becomes of it. A master that is gone, or does not need the task any more, stops it.
pub(super) async fn run(
    context: &Arc<WorkerContext>,
    task: Task,
    plan: Bytes,
    mut reply: Box<dyn ReplySink>,
) {
    let (begun, cancelled) = (Instant::now(), context.begin(&task.id));
    let work = execute(context, &task, plan, reply.as_mut());
    let outcome = cancelled.run_until_cancelled(work).await;
    context.end(&task.id);
    let end = match &outcome {
        None => WorkEnd::Stopped,
        Some(Ok(_)) => WorkEnd::Done,
        Some(Err(TaskEnd::Failed(_))) => WorkEnd::Failed,
        Some(Err(TaskEnd::Unwanted(_))) => WorkEnd::Unwanted,
    };
    context.metrics.ended(end, begun.elapsed());
    let last = match outcome {
        None => {
            Reply::Failed(failure(context, FailureCode::Cancelled, "the master stopped the task".to_owned()))
        }
        Some(Ok(finished)) => Reply::Finished(finished),
        Some(Err(TaskEnd::Failed(failure))) => Reply::Failed(failure),
        Some(Err(TaskEnd::Unwanted(error))) => {
            tracing::debug!(task = ?task.id, %error, "nobody takes the result");
            return;
        }
    };
    match send_last(reply.as_mut(), &last, &[]).await {
        Ok(()) => end_reply(reply).await,
        Err(error) => tracing::debug!(task = ?task.id, %error, "nobody takes the result"),
    }
}

/// Why a task ended without a result.
enum TaskEnd {
    Failed(Failure),
    Unwanted(TransportError),
}

async fn execute(
    context: &Arc<WorkerContext>,
    task: &Task,
    plan: Bytes,
    reply: &mut dyn ReplySink,
) -> Result<Finished, TaskEnd> {
    let begun = Instant::now();
    let name = || context.info.name.clone();
    if plan.is_empty() {
        return Ok(Finished {
            rows: 0,
            pieces: 0,
            micros: micros(begun),
            worker: name(),
            places: Vec::new(),
        });
    }
    let started = Reply::Started { task: task.id.clone(), worker: name() };
    reply.send(packet::encode(&started, &[])).await.map_err(TaskEnd::Unwanted)?;

    fetch_missing(context, &task.modules).await.map_err(TaskEnd::Failed)?;
    let budget = context.engine.task_budget();
    // A call of a module cannot be dropped while it runs, and ends within a slice of its fuel.
    let _stop = budget.as_ref().map(TaskBudget::stop_on_drop);
    let (send, mut pieces) = mpsc::channel(PIECES_AHEAD);
    let max_bytes = context.transport.capabilities().max_bytes - HEADER_BYTES;
    let source = Arc::new(MasterShuffles::new(context, &task.id));
    let produced = context.threads.spawn(produce(
        context.engine.clone(),
        plan,
        task.clone(),
        source,
        budget,
        max_bytes,
        (send, context.metrics.spilled_bytes.clone()),
    ));
    let mut alive =
        tokio::time::interval(Duration::from_millis(task.lease_ms / 3).max(Duration::from_millis(1)));
    alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    alive.tick().await;
    let mut count = 0;
    loop {
        let (header, body) = tokio::select! {
            piece = pieces.recv() => match piece {
                Some((stream, piece)) => (Reply::Result { piece: count, worker: name(), stream }, piece),
                None => break,
            },
            _ = alive.tick() => (Reply::Alive { task: task.id.clone() }, Bytes::new()),
        };
        count += u32::from(matches!(header, Reply::Result { .. }));
        context.metrics.result_bytes.inc_by(body.len() as u64);
        reply.send(packet::encode(&header, &body)).await.map_err(TaskEnd::Unwanted)?;
    }
    match produced.await {
        Ok(Ok(rows)) => {
            context.metrics.rows.inc_by(rows);
            Ok(Finished { rows, pieces: count, micros: micros(begun), worker: name(), places: Vec::new() })
        }
        Ok(Err(error)) => Err(TaskEnd::Failed(Failure { worker: Some(name()), ..Failure::from(error) })),
        Err(error) => Err(TaskEnd::Failed(failure(context, FailureCode::Internal, error.to_string()))),
    }
}

/// Computes the result and hands over its pieces. Returns the number of rows.
async fn produce(
    engine: Engine,
    plan: Bytes,
    task: Task,
    source: Arc<MasterShuffles>,
    budget: Option<TaskBudget>,
    max_bytes: usize,
    (pieces, spilled_bytes): (mpsc::Sender<StreamPiece>, Counter),
) -> Result<u64, FrameError> {
    let TaskRun { rows: mut batches, exchange, spilling } =
        engine.run_shuffling_task(&plan, &task.files, source, budget.as_ref())?;
    let mut encoder = TaskEncoder::new(&batches.schema(), max_bytes, exchange)?;
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| engine.explain_error(&error, &task.files))?;
        rows += batch.num_rows() as u64;
        for piece in encoder.push(batch)? {
            // Nobody receives any more when the task was stopped.
            let _ = pieces.send(piece).await;
        }
    }
    for piece in encoder.finish()? {
        let _ = pieces.send(piece).await;
    }
    spilled_bytes.inc_by(spilling.bytes() as u64);
    if spilling.bytes() > 0 {
        tracing::info!(task = ?task.id, bytes = spilling.bytes(), "a task did not fit in memory, and was spilled");
    }
    Ok(rows)
}

fn failure(context: &WorkerContext, code: FailureCode, message: String) -> Failure {
    Failure { code, message, worker: Some(context.info.name.clone()) }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
