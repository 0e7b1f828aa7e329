//! The end of a program: signals, the work that is still open, and a deadline.

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

/// Time for the last log line to reach stderr before the process is ended.
const LAST_LINE_TIME: Duration = Duration::from_millis(100);

/// Asks every part of a program to end, and counts what is still open. Clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    deadline: Option<Duration>,
    open: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Shutdown {
    /// Returns a shutdown that only [`request`](Self::request) starts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a shutdown that SIGTERM or SIGINT starts too. If the program has not ended by `deadline` after the
    /// request, or at a second signal, the process exits with code 1 and logs what is still open. A separate thread
    /// does this, so it works even if the runtime hangs.
    ///
    /// # Errors
    /// Fails if the operating system refuses the signal handlers or the thread.
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

    /// Returns a shutdown for a part of the program, which ends with the whole program, or before it if the part alone is
    /// asked to end. What the part holds open counts for the whole program.
    #[must_use]
    pub fn of_part(&self) -> Self {
        Self { requested: self.requested.child_token(), deadline: None, open: self.open.clone() }
    }

    /// Asks every part of the program to end.
    pub fn request(&self) {
        if self.is_requested() {
            return;
        }
        self.requested.cancel();
        if let Some(deadline) = self.deadline {
            self.enforce(deadline);
        }
    }

    /// Requests the shutdown when `failed` completes, and logs that `what` failed. Dropping the handle stops the wait.
    #[must_use = "dropping the handle stops the wait"]
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

    /// Returns whether the shutdown has been requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Waits until the shutdown is requested.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// Counts one thing of this `kind` as open until the guard is dropped.
    #[must_use]
    pub fn hold(&self, kind: &'static str) -> OpenGuard {
        self.change(kind, |count| *count += 1);
        OpenGuard { shutdown: self.clone(), kind }
    }

    /// Returns what is open as a text for people, for example `2 connections, 1 log.txt`.
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
        thread::sleep(LAST_LINE_TIME);
        std::process::exit(1);
    }
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("unknown")
}

/// Keeps one thing counted as open; see [`Shutdown::hold`].
#[derive(Debug)]
pub struct OpenGuard {
    shutdown: Shutdown,
    kind: &'static str,
}

impl Drop for OpenGuard {
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
        let (part, other) = (shutdown.of_part(), shutdown.of_part());
        part.request();
        part.requested().await;
        assert!(!shutdown.is_requested() && !other.is_requested(), "a part ends alone");
        shutdown.clone().request();
        shutdown.requested().await;
        other.requested().await;
    }
}
