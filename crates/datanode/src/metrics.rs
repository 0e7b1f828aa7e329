//! The metrics of a datanode, which `README.md` lists, and its health.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use batching::FailureSignal;
use journal::WriteFailure;
use page::latency::Latency;
use page::{Check, Health, Source};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

/// The metrics of a datanode. Clones share the same counts.
#[derive(Debug, Clone, Default)]
pub struct DatanodeMetrics {
    /// How long each `fdatasync` of `data.txt` took.
    pub sync_duration: Latency,
    /// Messages that were stored since the start.
    pub stored: Counter,
    /// Messages that were not stored because the disk was full.
    pub no_space: Counter,
    /// Records that were found damaged since the start.
    pub damaged: Counter,
    records: Gauge,
}

/// What monitors can read of a datanode.
#[derive(Debug)]
pub struct DatanodeMonitor {
    metrics: DatanodeMetrics,
    registry: Registry,
    records: watch::Receiver<u64>,
    failure: Arc<FailureSignal<WriteFailure>>,
}

impl DatanodeMonitor {
    /// Returns what can be read of a datanode that is starting.
    #[must_use]
    pub fn new(
        metrics: DatanodeMetrics,
        records: watch::Receiver<u64>,
        failure: Arc<FailureSignal<WriteFailure>>,
    ) -> Self {
        let mut registry = Registry::with_prefix("datanode");
        let DatanodeMetrics { sync_duration, stored, no_space, damaged, records: gauge } = metrics.clone();
        let help = "Time of each fdatasync of data.txt";
        registry.register_with_unit("sync_duration", help, Unit::Seconds, sync_duration);
        registry.register("stored_messages", "Messages that were stored", stored);
        let help = "Messages that were not stored because the disk was full";
        registry.register("messages_without_space", help, no_space);
        registry.register("damaged_records", "Records that were found damaged since the start", damaged);
        registry.register("records", "Records in data.txt", gauge);
        let start = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register_with_unit("start_time", "When this run began, since 1970", Unit::Seconds, start);
        Self { metrics, registry, records, failure }
    }
}

impl Source for DatanodeMonitor {
    async fn refresh_metrics(&self) {
        let records = *self.records.borrow();
        self.metrics.records.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let failure = self.failure.get();
        let seen = failure.as_ref().map_or("ok".to_owned(), ToString::to_string);
        let disk = Check { name: "data.txt", passed: failure.is_none(), seen };
        Health { live: vec![disk.clone()], ready: vec![disk] }
    }
}
