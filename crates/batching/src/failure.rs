//! The one failure after which nothing more is done.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Holds the first failure that is set, for everyone who asks or waits.
pub struct FailureSignal<F>(watch::Sender<Option<Arc<F>>>);

impl<F> Default for FailureSignal<F> {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl<F> fmt::Debug for FailureSignal<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailureSignal").field("is_set", &self.0.borrow().is_some()).finish()
    }
}

impl<F> FailureSignal<F> {
    /// Sets the failure, unless one is set already, and returns the one that is set.
    pub fn set(&self, failure: F) -> Arc<F> {
        let failure = Arc::new(failure);
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(failure.clone());
            }
            is_first
        });
        self.get().unwrap_or(failure)
    }

    /// Returns the failure, if there was one.
    #[must_use]
    pub fn get(&self) -> Option<Arc<F>> {
        self.0.borrow().clone()
    }

    /// Waits for the failure; for ever while there is none.
    pub async fn wait(&self) -> Arc<F> {
        let mut first = self.0.subscribe();
        match first.wait_for(Option::is_some).await.map(|first| first.clone()) {
            Ok(Some(failure)) => failure,
            _ => std::future::pending().await,
        }
    }
}
