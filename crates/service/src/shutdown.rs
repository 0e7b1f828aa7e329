//! The end of a program: signals, what is still in flight, a deadline.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Time for the last log line to leave before the process is ended from outside its runtime.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Tells every part of a program that it is to end, and knows what has not ended yet. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    deadline: Option<Duration>,
    open: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Shutdown {
    /// A shutdown that only [`request`](Self::request) sets off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that SIGTERM or SIGINT sets off too. `deadline` after it is requested, or at a second signal, the
    /// process ends with code 1 and says what was left. A thread sees to that, so it works even when the runtime hangs.
    ///
    /// # Errors
    /// If the system refuses the signal handlers or the thread.
    pub fn on_signals(deadline: Duration) -> io::Result<Self> {
        let shutdown = Self { deadline: Some(deadline), ..Self::default() };
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let watched = shutdown.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut signals = signals.forever();
            if let Some(signal) = signals.next() {
                tracing::info!(signal = name(signal), "shutting down");
                watched.request();
            }
            if let Some(signal) = signals.next() {
                watched.abandon(&format!("second signal ({})", name(signal)));
            }
        })?;
        Ok(shutdown)
    }

    /// Asks everything to end.
    pub fn request(&self) {
        if self.is_requested() {
            return;
        }
        self.requested.cancel();
        if let Some(deadline) = self.deadline {
            self.enforce(deadline);
        }
    }

    /// Asks everything to end once `failed` tells that `what` failed, and says so in the log. Stops waiting for that when
    /// the handle is dropped.
    #[must_use]
    pub fn request_on_failure<F: Display>(
        &self,
        what: &'static str,
        failed: impl Future<Output = F> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        let shutdown = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let failure = failed.await;
            tracing::error!(%failure, "shutting down: {what} failed");
            shutdown.request();
        }))
    }

    /// Whether everything is asked to end.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Waits until everything is asked to end.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// Counts something of this `kind` as open until the guard is dropped.
    #[must_use]
    pub fn hold(&self, kind: &'static str) -> Held {
        self.change(kind, |count| *count += 1);
        Held { shutdown: self.clone(), kind }
    }

    /// What is open, for a person: `2 connections, 1 log.txt`.
    #[must_use]
    pub fn left(&self) -> String {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left: Vec<_> = open
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        if left.is_empty() { "nothing".to_owned() } else { left.join(", ") }
    }

    fn change(&self, kind: &'static str, change: impl FnOnce(&mut usize)) {
        change(self.open.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default());
    }

    fn enforce(&self, deadline: Duration) {
        let watched = self.clone();
        thread::spawn(move || {
            thread::sleep(deadline);
            watched.abandon(&format!("the shutdown deadline of {deadline:?} has passed"));
        });
    }

    fn abandon(&self, why: &str) -> ! {
        tracing::error!(left = self.left(), "{why}: exiting without finishing");
        thread::sleep(LAST_WORDS);
        std::process::exit(1);
    }
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("unknown")
}

/// Something open; see [`Shutdown::hold`].
#[derive(Debug)]
pub struct Held {
    shutdown: Shutdown,
    kind: &'static str,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shutdown.change(self.kind, |count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_left_is_counted_until_it_is_dropped() {
        let shutdown = Shutdown::new();
        let one = shutdown.hold("connections");
        let _two = shutdown.hold("connections");
        let _file = shutdown.hold("log.txt");
        assert_eq!(shutdown.left(), "2 connections, 1 log.txt");
        drop(one);
        assert_eq!(shutdown.left(), "1 connections, 1 log.txt");
        assert!(!shutdown.is_requested());
        shutdown.clone().request();
        shutdown.requested().await;
    }
}
