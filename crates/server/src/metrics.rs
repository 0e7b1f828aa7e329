//! The metrics of the server, which `actividad1/README.md` lists, and its health.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use journal::{AppendError, Journal};
use page::latency::Latency;
use page::{Check, Health, Source};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use protocol::actividad1::RefusalCode;
use protocol::line::Rejection;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    /// `ok`, or the code of the refusal.
    result: &'static str,
}

/// The metrics of a server. Clones share the same counts.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    logged: Counter,
    too_long: Counter,
    invalid_utf8: Counter,
    idle: Counter,
    disk_full: Counter,
    storage_failed: Counter,
    logged_bytes: Counter,
    append_duration: Latency,
    accepted: Counter,
    connections: Gauge,
    messages: Family<MessageLabels, Counter>,
}

impl ServerMetrics {
    /// Returns metrics of which nothing was counted yet.
    pub fn new() -> Self {
        let messages = Family::default();
        let counter = |result| Counter::clone(&messages.get_or_create(&MessageLabels { result }));
        Self {
            logged: counter("ok"),
            too_long: counter(RefusalCode::MessageTooLong.as_str()),
            invalid_utf8: counter(RefusalCode::InvalidUtf8.as_str()),
            idle: counter(RefusalCode::IdleTimeout.as_str()),
            disk_full: counter(RefusalCode::DiskFull.as_str()),
            storage_failed: counter(RefusalCode::StorageFailed.as_str()),
            logged_bytes: Counter::default(),
            append_duration: Latency::default(),
            accepted: Counter::default(),
            connections: Gauge::default(),
            messages,
        }
    }

    /// Counts a batch of messages whose texts have `bytes` bytes, and the time that it took to log them. If they could
    /// not be logged, `failed` says why.
    pub fn count(
        &self,
        messages: &[Result<String, Rejection>],
        bytes: usize,
        failed: Option<&AppendError>,
        took: Duration,
    ) {
        self.append_duration.record(took);
        let all = messages.len() as u64;
        if let Some(error) = failed {
            let counter = match error {
                AppendError::NoSpace(_) => &self.disk_full,
                AppendError::Fatal(_) | AppendError::Closed => &self.storage_failed,
            };
            counter.inc_by(all);
            return;
        }
        let mut refused = 0;
        for message in messages.iter().filter_map(|message| message.as_ref().err()) {
            refused += 1;
            match message {
                Rejection::InvalidUtf8 { .. } => self.invalid_utf8.inc(),
                Rejection::TooLong { .. } | Rejection::Unterminated { .. } => self.too_long.inc(),
            };
        }
        self.logged.inc_by(all - refused);
        self.logged_bytes.inc_by(bytes as u64);
    }

    /// Counts a client that completed no message in time.
    pub fn count_idle(&self) {
        self.idle.inc();
    }

    /// Counts a connection, which is open until the guard is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.accepted.inc();
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("server");
        let Self { messages, logged_bytes, append_duration, accepted, connections, .. } = self.clone();
        registry.register("messages", "Messages of clients, by what came of them", messages);
        let help = "Bytes of the messages that were logged, line ends not counted";
        registry.register_with_unit("logged", help, Unit::Bytes, logged_bytes);
        let help = "Time to put the messages that have arrived together on disk, waiting for others included";
        registry.register_with_unit("append_duration", help, Unit::Seconds, append_duration);
        registry.register("accepted_connections", "Connections that were served", accepted);
        registry.register("connections", "Connections that are open", connections);
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register_with_unit("start_time", "When this run began, since 1970", Unit::Seconds, start);
        registry
    }
}

/// A connection that is counted as open until this is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What monitors can read of a server.
pub struct ServerMonitor {
    registry: Registry,
    journal: Journal,
    /// The name of the journal's file.
    file: &'static str,
}

impl ServerMonitor {
    /// Returns what can be read of a server that is starting, whose journal is in `file`.
    pub fn new(metrics: &ServerMetrics, journal: Journal, file: &'static str) -> Arc<Self> {
        Arc::new(Self { registry: metrics.registry(), journal, file })
    }
}

impl Source for ServerMonitor {
    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let failure = self.journal.failure().get();
        let seen = failure.as_ref().map_or("ok".to_owned(), ToString::to_string);
        let log = Check { name: self.file, passed: failure.is_none(), seen };
        Health { live: vec![log.clone()], ready: vec![log] }
    }
}
