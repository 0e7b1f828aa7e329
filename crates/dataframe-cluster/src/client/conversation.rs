//! A request to whichever master answers: asked again under the same words until there is an end.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::Reply;
use dataframe_jobs::packet;
use futures_util::StreamExt;
use middleware::{Pieces, SharedTransport, TransportError};

use crate::masters::MasterAddresses;

/// A master that works on a job says so once a second. After this silence the request is sent again.
const SILENCE: Duration = Duration::from_secs(5);

/// A reply that went on for so long shows that the master is well, so that the next pause is a short one.
const FRESH: Duration = Duration::from_millis(100);

/// Why a reply has no end.
pub(super) enum Interrupted {
    /// The request failed; sending it again would not help.
    Failed(Failure),
    /// The reply broke off. The request is sent again.
    Lost(String),
}

/// One request, over all its attempts.
pub(super) struct Conversation<'a> {
    transport: &'a SharedTransport,
    masters: &'a MasterAddresses,
    /// How long to go on without a word.
    wait: Duration,
    pauses: ExponentialBackoff,
    last_word: Instant,
    /// The place of the master that is asked.
    place: usize,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(transport: &'a SharedTransport, masters: &'a MasterAddresses, wait: Duration) -> Self {
        Self { transport, masters, wait, pauses: pauses(), last_word: Instant::now(), place: 0 }
    }

    /// Sends the request.
    pub(super) async fn open(&mut self, request: &Bytes) -> Result<Pieces, Interrupted> {
        let (place, master) = self.masters.current();
        self.place = place;
        self.transport.request(&master, request.clone()).await.map_err(|error| match error {
            TransportError::Invalid(why) => Interrupted::Failed(unsendable(&why)),
            error => Interrupted::Lost(error.to_string()),
        })
    }

    /// Waits for the next word of the reply.
    pub(super) async fn next(&mut self, pieces: &mut Pieces) -> Result<(Reply, Bytes), Interrupted> {
        let piece = match tokio::time::timeout(SILENCE, pieces.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Err(Interrupted::Lost(error.to_string())),
            Ok(None) => return Err(Interrupted::Lost("the reply ended too early".to_owned())),
            Err(_) => return Err(Interrupted::Lost(format!("the master was silent for {SILENCE:?}"))),
        };
        self.last_word = Instant::now();
        packet::decode(&piece).map_err(|error| Interrupted::Failed(broken(&error.to_string())))
    }

    /// Turns to the next master after a pause, because an attempt broke off.
    ///
    /// # Errors
    /// Fails if no master has said anything for longer than the time to wait.
    pub(super) async fn lost(&mut self, cause: &str) -> Result<(), Failure> {
        let silent = self.last_word.elapsed();
        if silent > self.wait.max(SILENCE) {
            return Err(unreachable(self.masters, cause));
        }
        self.masters.leave(self.place);
        tracing::debug!(cause, "the request is sent again");
        if silent < FRESH {
            self.pauses = pauses();
        }
        tokio::time::sleep(self.pauses.next().unwrap_or(SILENCE)).await;
        Ok(())
    }
}

/// Pauses that are short enough for a client to notice soon that another master has taken over.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(300))
        .without_max_times()
        .with_jitter()
        .build()
}

/// The failure of an answer that makes no sense.
pub(super) fn broken(message: &str) -> Failure {
    Failure { code: FailureCode::Internal, message: message.to_owned(), worker: None }
}

/// The failure of masters that do not answer.
pub(super) fn unreachable(masters: &MasterAddresses, cause: &str) -> Failure {
    let place = match masters.shown() {
        none if none.is_empty() => none,
        shown => format!(" at {shown}"),
    };
    let message = format!(
        "the master{place} does not answer: {cause}. Is dataframe-master running, with the same --middleware and --tls?"
    );
    Failure { code: FailureCode::NoWorkers, message, worker: None }
}

fn unsendable(why: &str) -> Failure {
    let message = format!("the list of operations cannot be sent over this middleware: {why}");
    Failure { code: FailureCode::BadJob, message, worker: None }
}
