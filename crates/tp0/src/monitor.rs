//! What the metrics and the health of both servers have in common.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use page::Check;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// A server whose tasks do not get their turn within this time hangs.
const HANGS: Duration = Duration::from_secs(5);

/// How many connections there are and were. Clones share the same counts.
#[derive(Debug, Clone, Default)]
pub struct ConnectionCounts {
    accepted: Counter,
    open: Gauge,
}

impl ConnectionCounts {
    /// Counts a connection, which is open until the guard is dropped.
    pub fn open(&self) -> CountedConnection {
        self.accepted.inc();
        self.open.inc();
        CountedConnection(self.open.clone())
    }

    /// Returns the number of open connections.
    pub fn now(&self) -> i64 {
        self.open.get()
    }

    /// Adds both counts to `registry`.
    pub fn register(self, registry: &mut Registry) {
        registry.register("accepted_connections", "Connections that were served", self.accepted);
        registry.register("connections", "Connections that are open", self.open);
    }
}

/// A connection that is counted as open until this is dropped.
#[derive(Debug)]
pub struct CountedConnection(Gauge);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Adds the time at which this run began to `registry`.
pub fn register_start(registry: &mut Registry) {
    let start = Gauge::<f64, AtomicU64>::default();
    start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    registry.register_with_unit("start_time", "When this run began, since 1970", Unit::Seconds, start);
}

/// Finds out whether the server's tasks get their turn.
#[derive(Debug)]
pub struct RuntimeCheck(Handle);

impl RuntimeCheck {
    /// Returns a check of the present runtime, to be made from another one.
    pub fn of_present() -> Self {
        Self(Handle::current())
    }

    /// Runs an empty task on the runtime.
    pub async fn check(&self) -> Check {
        let task = timeout(HANGS, self.0.spawn(std::future::ready(()))).await;
        let passed = matches!(task, Ok(Ok(())));
        let seen = if passed { "ok".to_owned() } else { format!("no task ran within {HANGS:?}") };
        Check { name: "connections", passed, seen }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_runtime_that_does_not_run_is_noticed() {
        let runtime = || Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (server, monitor) = (runtime(), runtime());
        let check = server.block_on(async { RuntimeCheck::of_present() });
        // Nothing runs the server's tasks now, and the paused clock of the monitor jumps.
        let seen = monitor.block_on(check.check());
        assert!(!seen.passed && seen.seen == "no task ran within 5s", "{seen:?}");
        assert!(server.block_on(check.check()).passed);
    }
}
