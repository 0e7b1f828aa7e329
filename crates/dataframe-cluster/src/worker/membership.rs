//! How a worker joins the cluster, stays in it, and leaves it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Reply, Request};
use tokio::sync::watch;

use super::context::WorkerContext;
use crate::ask::{AskError, ask};
use crate::masters::MasterAddresses;
use crate::resident::resident_bytes;

/// Time for the answer to a sign of life.
const ANSWER: Duration = Duration::from_secs(5);

/// The same, where another master may be the one that answers.
const ANSWER_OF_ONE: Duration = Duration::from_secs(1);

/// Between two tries of a worker that neither master of a pair answers: one of them is about to lead.
const REJOIN: Duration = Duration::from_millis(100);

/// Time for the good-bye.
const GOODBYE: Duration = Duration::from_millis(500);

/// A worker that is silent for this many heartbeats is removed from the directory.
const HEARTBEATS_ANNOUNCED: u32 = 4;

/// A worker that was never taken in gives up after this time. A name is free again only when the master has missed the
/// worker that had it, such as an earlier run that was killed.
const ADMISSION: Duration = Duration::from_secs(15);

/// Joins, and then sends a sign of life at each `heartbeat`. `member` tells whether the master has the worker at the moment.
///
/// A master that is away is waited for, and a new one takes the worker in by its next sign of life. A worker that was removed
/// or drained goes on asking, so that `nodes add` takes it back. Returns only if the master never wanted the worker.
pub(super) async fn keep(
    context: Arc<WorkerContext>,
    masters: MasterAddresses,
    heartbeat: Duration,
    member: watch::Sender<bool>,
) -> Failure {
    let mut interval = tokio::time::interval(heartbeat);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (begun, mut was_member, mut last_word) = (Instant::now(), false, String::new());
    loop {
        interval.tick().await;
        announce(&context, heartbeat).await;
        let is_member = *member.borrow();
        let request = match is_member {
            false => Request::Join(context.info.clone()),
            true => Request::Heartbeat {
                worker: context.info.clone(),
                running: context.running(),
                resident_bytes: resident_bytes(),
            },
        };
        let (now_member, word) = match ask_masters(&context, &masters, &request).await {
            Ok((Reply::Accepted, _)) => (true, "the master has taken the worker in".to_owned()),
            Ok((Reply::Draining, _)) => (false, "the master drains this worker".to_owned()),
            Ok((other, _)) => (is_member, format!("the master answered a sign of life with {other:?}")),
            Err(AskError::Failed(failure)) if failure.code == FailureCode::Refused => {
                if !was_member && begun.elapsed() > ADMISSION {
                    return failure;
                }
                (false, failure.to_string())
            }
            // The worker goes on with its tasks, and joins the next master.
            Err(error) => {
                if masters.count() > 1 {
                    interval.reset_after(REJOIN.min(heartbeat));
                }
                (false, format!("the master does not answer: {error}"))
            }
        };
        was_member |= now_member;
        if word != last_word {
            tracing::info!(name = context.info.name, member = now_member, "{word}");
            last_word = word;
        }
        member.send_if_modified(|known| std::mem::replace(known, now_member) != now_member);
    }
}

/// Asks the master, and the other one of a pair if that one does not answer.
async fn ask_masters(
    context: &WorkerContext,
    masters: &MasterAddresses,
    request: &Request,
) -> Result<(Reply, Bytes), AskError> {
    let patience = if masters.count() > 1 { ANSWER_OF_ONE } else { ANSWER };
    let mut tried = 1;
    loop {
        let (place, master) = masters.current();
        match ask(&context.transport, &master, request, patience).await {
            Err(error) if !matches!(error, AskError::Failed(_)) => {
                masters.leave(place);
                if tried == masters.count() {
                    return Err(error);
                }
                tried += 1;
            }
            answered => return answered,
        }
    }
}

/// Tells the master that the worker ends.
pub(super) async fn leave(context: &WorkerContext, masters: &MasterAddresses) {
    let (_, master) = masters.current();
    let request =
        Request::Leave { worker: context.info.name.clone(), incarnation: context.info.incarnation.clone() };
    if let Err(error) = ask(&context.transport, &master, &request, GOODBYE).await {
        tracing::debug!(%error, "the master did not hear the good-bye");
    }
}

async fn announce(context: &WorkerContext, heartbeat: Duration) {
    let description = serde_json::to_vec(&context.info).expect("a description has string keys only");
    let ttl = heartbeat * HEARTBEATS_ANNOUNCED;
    if let Err(error) = context.transport.announce(&context.info.name, description.into(), ttl).await {
        tracing::debug!(%error, "the worker could not be announced");
    }
}
