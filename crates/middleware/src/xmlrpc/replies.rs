//! The replies that a server owes: `call` begins one, `more` fetches what came since, `cancel` gives it up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use ulid::Ulid;

use super::answer::Answer;
use super::method::MethodFault;
use crate::PeerRole;
use crate::intake::{Intake, ServiceClosing};
use crate::reply::{Delivery, DirectReply};

/// The server ends.
pub(crate) const CLOSING: i32 = 1;
/// The request was given up before its reply was whole.
pub(crate) const GIVEN_UP: i32 = 2;
/// There is no such reply, or what was asked for was given before.
pub(crate) const NO_REPLY: i32 = 3;
/// The most replies that wait to be fetched. With as many, no further request is taken.
pub(crate) const BUSY: i32 = 4;

/// Only nodes may ask this, and a client did.
pub(crate) const NODES_ONLY: i32 = 5;

/// How long a call waits for something to give.
pub(crate) const POLL: Duration = Duration::from_secs(10);
/// A reply that nobody fetches for so long is dropped.
const KEEP: Duration = Duration::from_secs(30);
/// Replies that wait to be fetched.
const MAX_OPEN: usize = 10_000;
/// An answer of fewer bytes waits for [`LINGER`] whether more pieces follow.
const SMALL_BYTES: usize = 256 << 10;
/// How long a small answer waits for more pieces, or for the end.
const LINGER: Duration = Duration::from_millis(1);
/// An answer of so many bytes or pieces is given as it is. The last piece may go beyond.
pub(crate) const ANSWER_BYTES: usize = 4 << 20;
pub(crate) const ANSWER_PIECES: usize = 1_024;
/// How long a server that ends lets its replies be fetched.
const DRAIN: Duration = Duration::from_secs(10);

/// The replies of one address.
pub(crate) struct OpenReplies {
    intake: Intake,
    /// Those for which no call waits now.
    open: Mutex<HashMap<String, OpenReply>>,
    /// Counts the replies, whether a call waits for them or not.
    alive: TaskTracker,
}

struct OpenReply {
    stage: Stage,
    /// How many pieces were given.
    given: usize,
    /// When the last call for it ended.
    since: Instant,
    _alive: TaskTrackerToken,
}

enum Stage {
    /// The request waits for a slot.
    Taking(AbortOnDropHandle<Result<DirectReply, ServiceClosing>>),
    /// Pieces come.
    Flowing(DirectReply),
}

impl OpenReplies {
    /// Makes an empty list, from which replies that nobody fetches are dropped until `stop`.
    pub(crate) fn new(intake: Intake, stop: CancellationToken) -> Arc<OpenReplies> {
        let replies = Arc::new(OpenReplies { intake, open: Mutex::default(), alive: TaskTracker::new() });
        let swept = Arc::clone(&replies);
        tokio::spawn(async move {
            let mut every = interval(KEEP / 6);
            while stop.run_until_cancelled(every.tick()).await.is_some() {
                swept.lock().retain(|_, open| open.since.elapsed() < KEEP);
            }
        });
        replies
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, OpenReply>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request, and gives what is there of its reply after a while.
    pub(crate) async fn call(&self, request: Bytes, peer: PeerRole) -> Result<Answer, MethodFault> {
        if self.lock().len() >= MAX_OPEN {
            return Err(MethodFault::new(BUSY, "too many replies wait to be fetched: ask again later"));
        }
        let deadline = Instant::now() + POLL;
        let intake = self.intake.clone();
        let mut taking = Box::pin(async move { intake.take(request, peer).await });
        let stage = match timeout_at(deadline, &mut taking).await {
            Ok(Ok(reply)) => Stage::Flowing(reply),
            Ok(Err(ServiceClosing)) => return Err(closing()),
            Err(_) => Stage::Taking(AbortOnDropHandle::new(tokio::spawn(taking))),
        };
        let open = OpenReply { stage, given: 0, since: deadline, _alive: self.alive.token() };
        self.answer(None, open, deadline).await
    }

    /// Gives the pieces after the first `received` ones.
    pub(crate) async fn more(&self, id: String, received: usize) -> Result<Answer, MethodFault> {
        let open = {
            let mut all = self.lock();
            match all.get(&id) {
                Some(open) if open.given == received => all.remove(&id),
                Some(open) => {
                    let text = format!("{received} pieces were received, but {} were given", open.given);
                    return Err(MethodFault::new(NO_REPLY, text));
                }
                None => None,
            }
        };
        let open = open.ok_or_else(|| {
            MethodFault::new(NO_REPLY, format!("there is no reply {id:?}, or another call waits for it"))
        })?;
        self.answer(Some(id), open, Instant::now() + POLL).await
    }

    /// Gives a reply up. Tells whether there was one.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        self.lock().remove(id).is_some()
    }

    /// Waits until all replies are fetched, though not for long.
    pub(crate) async fn drain(&self) {
        self.alive.close();
        if timeout(DRAIN, self.alive.wait()).await.is_err() {
            tracing::warn!("the server ends with replies that were not fetched");
        }
    }

    /// Waits for something to give. If the caller leaves meanwhile, the reply is dropped with this future.
    async fn answer(
        &self,
        id: Option<String>,
        mut open: OpenReply,
        deadline: Instant,
    ) -> Result<Answer, MethodFault> {
        if let Stage::Taking(taking) = &mut open.stage {
            match timeout_at(deadline, taking).await {
                Ok(Ok(Ok(reply))) => open.stage = Stage::Flowing(reply),
                Ok(Ok(Err(ServiceClosing)) | Err(_)) => return Err(closing()),
                Err(_) => {}
            }
        }
        let (pieces, end) = match &mut open.stage {
            Stage::Flowing(reply) => gather(reply, deadline).await,
            Stage::Taking(_) => (Vec::new(), None),
        };
        match end {
            Some(Delivery::End) => return Ok(Answer { id: String::new(), pieces, last: true }),
            Some(Delivery::GivenUp) if pieces.is_empty() => {
                return Err(MethodFault::new(
                    GIVEN_UP,
                    "the request was given up before its reply was whole",
                ));
            }
            _ => {}
        }
        open.given += pieces.len();
        open.since = Instant::now();
        let id = id.unwrap_or_else(|| Ulid::generate().to_string());
        self.lock().insert(id.clone(), open);
        Ok(Answer { id, pieces, last: false })
    }
}

/// Waits for the first piece until the deadline, and takes what follows at once. Gives the end, too, if there is one.
async fn gather(reply: &mut DirectReply, deadline: Instant) -> (Vec<Bytes>, Option<Delivery>) {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes < ANSWER_BYTES && pieces.len() < ANSWER_PIECES {
        let next = if pieces.is_empty() {
            timeout_at(deadline, reply.next()).await.ok()
        } else if bytes < SMALL_BYTES {
            timeout(LINGER, reply.next()).await.ok()
        } else {
            reply.next().now_or_never()
        };
        match next {
            Some(Delivery::Piece(piece)) => {
                bytes += piece.len();
                pieces.push(piece);
            }
            end => return (pieces, end),
        }
    }
    (pieces, None)
}

fn closing() -> MethodFault {
    MethodFault::new(CLOSING, "the server is closing: ask again, here or elsewhere")
}
