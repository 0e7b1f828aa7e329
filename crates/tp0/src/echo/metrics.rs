//! The metrics of `echo-server`, which `tp0/README.md` lists, and its health.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use page::latency::Latency;
use page::{Health, Source};

use crate::monitor::{ConnectionCounts, RuntimeCheck, register_start};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineLabels {
    result: &'static str,
}

/// The metrics of an echo server. Clones share the same counts.
#[derive(Debug, Clone)]
pub struct EchoMetrics {
    /// Lines that came back.
    pub echoed: Counter,
    pub too_long: Counter,
    /// Lines whose end never came.
    pub unterminated: Counter,
    pub invalid_utf8: Counter,
    /// Connections that completed no line in time.
    pub idle: Counter,
    /// Bytes of the lines that came back, line ends included.
    pub echoed_bytes: Counter,
    /// How long it took to send back the lines that were read together.
    pub send_duration: Latency,
    pub connections: ConnectionCounts,
    lines: Family<LineLabels, Counter>,
}

impl EchoMetrics {
    /// Returns metrics of which nothing was counted yet.
    pub fn new() -> Self {
        let lines = Family::default();
        let counter = |result| Counter::clone(&lines.get_or_create(&LineLabels { result }));
        Self {
            echoed: counter("ok"),
            too_long: counter("message-too-long"),
            unterminated: counter("unterminated"),
            invalid_utf8: counter("invalid-utf8"),
            idle: counter("idle-timeout"),
            echoed_bytes: Counter::default(),
            send_duration: Latency::default(),
            connections: ConnectionCounts::default(),
            lines,
        }
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("echo_server");
        let Self { lines, echoed_bytes, send_duration, connections, .. } = self.clone();
        registry.register("lines", "Lines of clients, by what came of them", lines);
        let help = "Bytes of the lines that were sent back, line ends included";
        registry.register_with_unit("echoed", help, Unit::Bytes, echoed_bytes);
        let help = "Time to send back the lines that were read together";
        registry.register_with_unit("send_duration", help, Unit::Seconds, send_duration);
        connections.register(&mut registry);
        register_start(&mut registry);
        registry
    }
}

/// What monitors can read of an echo server.
#[derive(Debug)]
pub struct EchoMonitor {
    registry: Registry,
    runtime: RuntimeCheck,
}

impl EchoMonitor {
    /// Returns what can be read of a server that runs on the present runtime.
    pub fn new(metrics: &EchoMetrics) -> Self {
        Self { registry: metrics.registry(), runtime: RuntimeCheck::of_present() }
    }
}

impl Source for EchoMonitor {
    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let runtime = self.runtime.check().await;
        Health { live: vec![runtime.clone()], ready: vec![runtime] }
    }
}
