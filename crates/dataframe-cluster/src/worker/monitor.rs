//! What monitors can read of a worker: its metrics, which `tasca1/README.md` lists, and its health.

use std::sync::Arc;
use std::time::Duration;

use page::{Check, Health, Source};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::timeout;

use super::context::WorkerContext;
use crate::metrics::{ProcessMetrics, whole};

/// A worker whose thread of messages does not turn to anything new within this time hangs.
const HANGS: Duration = Duration::from_secs(5);

/// What monitors can read of a worker.
pub(super) struct WorkerMonitor {
    context: Arc<WorkerContext>,
    member: watch::Receiver<bool>,
    registry: Registry,
    process: ProcessMetrics,
    running: Gauge,
    is_member: Gauge,
}

impl WorkerMonitor {
    /// Returns what can be read of a worker that is starting. `member` tells whether the master has the worker.
    pub(super) fn new(context: Arc<WorkerContext>, member: watch::Receiver<bool>) -> Self {
        let mut registry = Registry::with_prefix("dataframe_worker");
        let (running, is_member, slots) = (Gauge::default(), Gauge::default(), Gauge::<i64>::default());
        slots.set(i64::from(context.info.slots));
        context.metrics.clone().register(&mut registry);
        registry.register("running_tasks", "Tasks that run", running.clone());
        registry.register("slots", "Tasks that can run at a time", slots);
        registry.register("member", "1 if the master has taken the worker in, else 0", is_member.clone());
        let process = ProcessMetrics::register(&mut registry);
        Self { context, member, registry, process, running, is_member }
    }
}

impl Source for WorkerMonitor {
    async fn refresh_metrics(&self) {
        self.process.refresh();
        self.running.set(whole(self.context.running().len()));
        self.is_member.set(i64::from(*self.member.borrow()));
    }

    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let turned = timeout(HANGS, self.context.network.spawn(std::future::ready(()))).await;
        let passed = turned.is_ok();
        let seen = if passed { "ok".to_owned() } else { format!("nothing new within {HANGS:?}") };
        let messages = Check { name: "messages", passed, seen };
        let is_member = *self.member.borrow();
        let seen = if is_member { "ok" } else { "the master has not taken the worker in" };
        let master = Check { name: "master", passed: is_member, seen: seen.to_owned() };
        Health { live: vec![messages.clone()], ready: vec![messages, master] }
    }
}
