//! What a worker counts.

use std::time::Duration;

use page::latency::Latency;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::ByOutcome;

/// How a task ended at this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkEnd {
    /// Its result is sent.
    Done,
    /// The master was told why it failed.
    Failed,
    /// The master stopped it.
    Stopped,
    /// The master does not take the result.
    Unwanted,
    /// The process that was started for it died.
    Died,
}

impl WorkEnd {
    const WORDS: [&'static str; 5] = ["done", "failed", "stopped", "unwanted", "died"];
}

/// The metrics of a worker. Clones share the same counts.
#[derive(Debug, Clone)]
pub(super) struct WorkerMetrics {
    tasks: ByOutcome<5>,
    task_duration: Latency,
    /// The rows of the results.
    pub(super) rows: Counter,
    /// The bytes of the results.
    pub(super) result_bytes: Counter,
    /// What tasks have written to disk because it did not fit in memory.
    pub(super) spilled_bytes: Counter,
}

impl WorkerMetrics {
    /// Returns metrics of which nothing was counted yet.
    pub(super) fn new() -> Self {
        Self {
            tasks: ByOutcome::new(WorkEnd::WORDS),
            task_duration: Latency::default(),
            rows: Counter::default(),
            result_bytes: Counter::default(),
            spilled_bytes: Counter::default(),
        }
    }

    /// Counts a task that has ended after this time.
    pub(super) fn ended(&self, end: WorkEnd, took: Duration) {
        self.tasks.count(end as usize);
        if end == WorkEnd::Done {
            self.task_duration.record(took);
        }
    }

    /// Adds the metrics to a registry.
    pub(super) fn register(self, registry: &mut Registry) {
        let Self { tasks, task_duration, rows, result_bytes, spilled_bytes } = self;
        tasks.register(registry, "tasks", "Tasks that have ended, by what became of them");
        let help = "Time from the beginning of a task to the end of its result";
        registry.register_with_unit("task_duration", help, Unit::Seconds, task_duration);
        registry.register("rows", "Rows of results", rows);
        registry.register_with_unit("result", "Results that were sent", Unit::Bytes, result_bytes);
        let help = "What tasks have written to disk because it did not fit in memory";
        registry.register_with_unit("spilled", help, Unit::Bytes, spilled_bytes);
    }
}
