//! A request that was taken from the bucket.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;

use super::names::{RELEASED, RequestName, result_text};
use super::shared::{MAX_NOTE, StoreShared};
use crate::TransportError;
use crate::brokered::letter::{Letter, LetterKind};
use crate::brokered::reply::{Errand, LetterError};

/// The longest piece that goes through the fast store. A reply that has had a longer one stays with the bucket.
pub(crate) const FAST_BYTES: usize = 256 << 10;

/// A request that was taken from the bucket.
pub(crate) struct StoreErrand {
    pub(crate) shared: Arc<StoreShared>,
    pub(crate) request: RequestName,
    /// Which delivery of the request this is, from 1.
    pub(crate) delivery: u32,
    /// Whether another process holds the claim.
    pub(crate) is_guest: bool,
    /// Whether the reply has left the fast store.
    pub(crate) is_long: bool,
}

impl StoreErrand {
    /// The request and all its claims.
    fn traces(&self) -> Vec<String> {
        // The request goes first: whoever finds it without a claim takes it.
        let claims = (1..=self.delivery).map(|delivery| self.request.claim(delivery));
        std::iter::once(self.request.path()).chain(claims).collect()
    }

    async fn remove(&self) -> Result<(), TransportError> {
        let traces = self.traces();
        let (request, claims) = traces.split_at(1);
        self.shared.bucket.delete(request, self.shared.patience()).await?;
        if self.is_guest {
            // Whoever holds the claim removes it.
            return Ok(());
        }
        self.shared.held.remove(self.request.ask);
        self.shared.bucket.delete(claims, self.shared.patience()).await
    }

    /// Puts the result if there is none yet. Fails if somebody else was first.
    async fn succeed(&self, end: &Letter) -> Result<(), LetterError> {
        let (path, text) = (self.request.result(), Bytes::from(result_text(end)));
        let bucket = &self.shared.bucket;
        if bucket.create(&path, &text, self.shared.patience()).await.map_err(LetterError::Failed)? {
            return Ok(());
        }
        // An own try whose answer was lost.
        let there = bucket.get(&path, MAX_NOTE, self.shared.patience()).await.map_err(LetterError::Failed)?;
        if there.as_ref() == Some(&text) { Ok(()) } else { Err(LetterError::AskerGone) }
    }

    fn later(&self, work: impl Future<Output = Result<(), TransportError>> + Send + 'static) {
        // Without a runtime the program ends, and its claim gets old.
        let Ok(runtime) = Handle::try_current() else { return };
        self.shared.unsettled.spawn_on(
            async move {
                if let Err(error) = work.await {
                    tracing::debug!(%error, "what is left of a request could not be removed");
                }
            },
            &runtime,
        );
    }
}

#[async_trait]
impl Errand for StoreErrand {
    async fn post(&mut self, letter: Letter) -> Result<(), LetterError> {
        if letter.kind == LetterKind::Failed {
            // Whoever had the ticket may have been killed just after it had finished.
            let result = self.request.result();
            if self.shared.bucket.has(&result, self.shared.patience()).await.map_err(LetterError::Failed)? {
                return Ok(());
            }
        }
        self.is_long |= letter.body.len() > FAST_BYTES;
        self.shared.post(self.request.inbox, &letter, !self.is_long).await
    }

    async fn complete(&mut self, end: Letter) -> Result<(), LetterError> {
        self.succeed(&end).await?;
        // The reply is whole, whatever becomes of the rest.
        if let Err(error) = self.remove().await {
            tracing::debug!(%error, "an answered request could not be removed");
        }
        Ok(())
    }

    fn give_back(self: Box<Self>) {
        if self.is_guest {
            return;
        }
        self.shared.held.remove(self.request.ask);
        let errand = Arc::new(self);
        let own = Arc::clone(&errand);
        errand.later(async move {
            let bucket = &own.shared.bucket;
            if !bucket.has(&own.request.path(), own.shared.patience()).await? {
                return own.remove().await;
            }
            let claim = own.request.claim(own.delivery);
            bucket.put(&claim, &Bytes::from_static(RELEASED.as_bytes()), own.shared.patience()).await
        });
    }

    fn discard(self: Box<Self>) {
        let errand = Arc::new(self);
        let own = Arc::clone(&errand);
        errand.later(async move { own.remove().await });
    }

    fn ticket(&self) -> Option<String> {
        Some(self.request.ticket(self.delivery))
    }
}
