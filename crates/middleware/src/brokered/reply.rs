//! The sink of a reply that goes through a broker.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};
use ulid::Ulid;

use crate::brokered::correspondence::{Correspondence, ReplyProgress, weight};
use crate::brokered::letter::{Letter, LetterKind};
use crate::{ReplySink, TransportError};

/// A replier that waits for room asks after so long whether anybody still waits. What the asker said may be lost.
const PROBE_AFTER: Duration = Duration::from_secs(5);

/// Why a letter did not get to the asker's inbox.
#[derive(Debug)]
pub(crate) enum LetterError {
    /// The inbox is gone, and with it the asker.
    AskerGone,
    /// The broker stays away, or refuses.
    Failed(TransportError),
}

/// A request that was taken from the broker, and is not acknowledged yet.
#[async_trait]
pub(crate) trait Errand: Send {
    /// Puts a letter into the asker's inbox.
    async fn post(&mut self, letter: Letter) -> Result<(), LetterError>;
    /// Puts the last letter into the asker's inbox, and acknowledges the request.
    async fn complete(&mut self, end: Letter) -> Result<(), LetterError>;
    /// Has the broker deliver the request again.
    fn give_back(self: Box<Self>);
    /// Acknowledges a request that nobody waits for.
    fn discard(self: Box<Self>);
    /// What another process needs to answer the request; `None` where that is not possible.
    fn ticket(&self) -> Option<String> {
        None
    }
}

/// Who asked.
pub(crate) struct Asker {
    pub(crate) ask: Ulid,
    pub(crate) inbox: String,
}

/// The sink of one reply.
pub(crate) struct BrokeredReply {
    errand: Option<Box<dyn Errand>>,
    correspondence: Arc<Correspondence>,
    asker: Asker,
    attempt: Ulid,
    next: u64,
    sent: u64,
    max_bytes: usize,
    state: watch::Receiver<ReplyProgress>,
    is_asker_gone: bool,
    _permit: OwnedSemaphorePermit,
    _keeps: Arc<dyn Any + Send + Sync>,
}

impl BrokeredReply {
    pub(crate) fn new(
        correspondence: &Arc<Correspondence>,
        errand: Box<dyn Errand>,
        asker: Asker,
        max_bytes: usize,
        permit: OwnedSemaphorePermit,
        keeps: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        let attempt = Ulid::generate();
        let state = correspondence.begin_reply(attempt);
        Self {
            errand: Some(errand),
            correspondence: Arc::clone(correspondence),
            asker,
            attempt,
            next: 0,
            sent: 0,
            max_bytes,
            state,
            is_asker_gone: false,
            _permit: permit,
            _keeps: keeps,
        }
    }

    fn letter(&self, kind: LetterKind, body: Bytes) -> Letter {
        let from = self.correspondence.inbox().to_owned();
        Letter { kind, ask: self.asker.ask, attempt: self.attempt, number: self.next, from, body }
    }

    async fn post(&mut self, letter: Letter) -> Result<(), TransportError> {
        let errand = self.errand.as_mut().expect("a reply has its errand until it is finished");
        let posted = errand.post(letter).await;
        self.check(posted)
    }

    fn check(&mut self, posted: Result<(), LetterError>) -> Result<(), TransportError> {
        match posted {
            Ok(()) => Ok(()),
            Err(LetterError::AskerGone) => Err(self.asker_is_gone()),
            Err(LetterError::Failed(error)) => Err(error),
        }
    }

    fn asker_is_gone(&mut self) -> TransportError {
        self.is_asker_gone = true;
        self.correspondence.unreachable("nobody waits for this reply any more")
    }

    /// Waits until so many more bytes may be on their way.
    async fn room(&mut self, more: u64) -> Result<(), TransportError> {
        let window = self.correspondence.window();
        loop {
            let has_room = |state: &ReplyProgress| {
                state.is_cancelled || self.sent.saturating_sub(state.consumed) + more <= window
            };
            let state = tokio::time::timeout(PROBE_AFTER, self.state.wait_for(has_room)).await;
            match state.map(|state| state.map(|state| state.is_cancelled)) {
                Ok(Ok(false)) => return Ok(()),
                Ok(_) => return Err(self.asker_is_gone()),
                Err(_) => self.post(self.letter(LetterKind::Probe, Bytes::new())).await?,
            }
        }
    }
}

#[async_trait]
impl ReplySink for BrokeredReply {
    async fn send(&mut self, piece: Bytes) -> Result<(), TransportError> {
        if piece.len() > self.max_bytes {
            let (length, most) = (piece.len(), self.max_bytes);
            return Err(TransportError::Invalid(format!(
                "a piece has {length} bytes, and at most {most} are allowed: cut it"
            )));
        }
        let weight = weight(&piece);
        self.room(weight).await?;
        let letter = self.letter(LetterKind::Piece, piece);
        self.next += 1;
        self.sent += weight;
        self.post(letter).await
    }

    async fn finish(mut self: Box<Self>) -> Result<(), TransportError> {
        if self.state.borrow().is_cancelled {
            return Err(self.asker_is_gone());
        }
        let letter = self.letter(LetterKind::End, Bytes::new());
        let errand = self.errand.as_mut().expect("a reply has its errand until it is finished");
        let completed = errand.complete(letter).await;
        self.check(completed)?;
        self.errand = None;
        Ok(())
    }

    fn ticket(&self) -> Option<String> {
        self.errand.as_ref()?.ticket()
    }

    async fn fail(mut self: Box<Self>, why: &str) -> Result<(), TransportError> {
        // What the other process has sent is of an attempt of its own, which is older than this letter.
        let letter = self.letter(LetterKind::Failed, Bytes::copy_from_slice(why.as_bytes()));
        let letter = Letter { attempt: Ulid::generate(), ..letter };
        self.is_asker_gone = true;
        self.post(letter).await
    }
}

impl Drop for BrokeredReply {
    fn drop(&mut self) {
        self.correspondence.end_reply(self.attempt);
        let is_wanted = !self.is_asker_gone && !self.state.borrow().is_cancelled;
        match self.errand.take() {
            Some(errand) if is_wanted => errand.give_back(),
            Some(errand) => errand.discard(),
            None => {}
        }
    }
}
