//! One attempt at a task: the request to a worker, and what comes back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, Reply, Request, Task, TaskId};
use dataframe_jobs::packet;
use futures_util::StreamExt;
use middleware::{Endpoint, TransportError};

use super::context::MasterContext;
use crate::ask::ask;
use crate::spool::Spool;

/// Time for a worker to hear that a task is not needed any more.
const STOP: Duration = Duration::from_secs(2);

/// What happens to a task.
pub(crate) enum TaskNews {
    /// A worker has begun it.
    Started {
        /// Its name.
        worker: String,
    },
    /// The worker still works on it.
    Alive,
    /// The result is complete.
    Complete(TaskOutput),
    /// The worker says that it failed.
    Failed(Failure),
    /// No result will come from this attempt.
    Lost {
        /// Why.
        why: String,
        /// Whether the worker is out of reach.
        unreachable: bool,
    },
}

/// The complete result of a task.
pub(crate) struct TaskOutput {
    /// The pieces of the result.
    pub(crate) pieces: Spool,
    /// What the worker said at the end.
    pub(crate) finished: Finished,
}

/// Sends a task, and passes on what becomes of it, until the attempt has ended. The rows may come in so many `partitions`.
pub(super) async fn run(
    context: Arc<MasterContext>,
    to: Endpoint,
    task: Task,
    plan: Bytes,
    partitions: u32,
    tell: impl Fn(TaskNews) + Send,
) {
    let id = task.id.clone();
    let request = packet::encode(&Request::Run(task), &plan);
    let mut pieces = match context.transport.request(&to, request).await {
        Ok(pieces) => pieces,
        // No worker could be sent it, now or later.
        Err(TransportError::Invalid(why)) => return tell(TaskNews::Failed(unsendable(&why))),
        Err(error) => return tell(lost(&error)),
    };
    // A broker may give the request to a second worker while the first one still sends.
    let mut spools: HashMap<String, Spool> = HashMap::new();
    loop {
        let piece = match pieces.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return tell(lost(&error)),
            None => return tell(broken("the reply ended before the result was complete")),
        };
        let (reply, body) = match packet::decode::<Reply>(&piece) {
            Ok(decoded) => decoded,
            Err(error) => return tell(broken(&error.to_string())),
        };
        match reply {
            Reply::Started { worker, .. } => {
                spools.insert(worker.clone(), Spool::new(&context.spool_room));
                tell(TaskNews::Started { worker });
            }
            Reply::Alive { .. } => tell(TaskNews::Alive),
            Reply::Result { stream: Some(stream), worker, .. } if stream >= partitions => {
                return tell(broken(&format!("{worker} sent partition {stream} of {partitions}")));
            }
            Reply::Result { piece, worker, stream } => {
                context.metrics.result_bytes.inc_by(body.len() as u64);
                if let Err(news) = keep(&mut spools, &worker, (piece, stream), body) {
                    return tell(*news);
                }
                tell(TaskNews::Alive);
            }
            Reply::Finished(finished) => return tell(complete(&context, &mut spools, finished)),
            Reply::Failed(failure) => return tell(TaskNews::Failed(failure)),
            other => return tell(broken(&format!("the worker answered {other:?} to task {id:?}"))),
        }
    }
}

/// Tells a worker that a task is not needed any more. A worker that does not hear it wastes its time, and nothing else.
pub(super) async fn stop(context: &MasterContext, worker: &Endpoint, task: TaskId) {
    if let Err(error) = ask(&context.transport, worker, &Request::Stop(task), STOP).await {
        tracing::debug!(%error, "a worker did not hear that its task is not needed");
    }
}

/// Keeps a piece, or tells why the attempt ends. A full disk of the master is no fault of the worker.
fn keep(
    spools: &mut HashMap<String, Spool>,
    worker: &str,
    (piece, stream): (u32, Option<u32>),
    body: Bytes,
) -> Result<(), Box<TaskNews>> {
    let Some(spool) = spools.get_mut(worker) else {
        return Err(Box::new(broken(&format!("{worker} sent a result without having begun"))));
    };
    if spool.len() != piece as usize {
        let why = format!("{worker} sent piece {piece}, and piece {} was expected", spool.len());
        return Err(Box::new(broken(&why)));
    }
    if spool.is_split().is_some_and(|is_split| is_split != stream.is_some()) {
        return Err(Box::new(broken(&format!(
            "{worker} sent one part of a result in partitions, and another one not"
        ))));
    }
    spool.push(stream, body).map_err(|error| {
        let message = format!(
            "the master cannot keep the result of a task: {error}. Look at the room in its --data-dir."
        );
        Box::new(TaskNews::Failed(Failure {
            code: FailureCode::Resources,
            message,
            worker: Some(worker.to_owned()),
        }))
    })
}

fn complete(context: &MasterContext, spools: &mut HashMap<String, Spool>, finished: Finished) -> TaskNews {
    // An empty task has no result and does not say that it begins.
    let pieces = spools.remove(&finished.worker).unwrap_or_else(|| Spool::new(&context.spool_room));
    if pieces.len() != finished.pieces as usize {
        return broken(&format!("{} pieces came, and the worker sent {}", pieces.len(), finished.pieces));
    }
    TaskNews::Complete(TaskOutput { pieces, finished })
}

fn unsendable(why: &str) -> Failure {
    let message =
        format!("a task cannot be sent over this middleware: {why}. Give it fewer values or files.");
    Failure { code: FailureCode::BadJob, message, worker: None }
}

fn broken(why: &str) -> TaskNews {
    TaskNews::Lost { why: why.to_owned(), unreachable: false }
}

fn lost(error: &TransportError) -> TaskNews {
    TaskNews::Lost {
        why: error.to_string(),
        unreachable: matches!(error, TransportError::Unreachable { .. }),
    }
}
