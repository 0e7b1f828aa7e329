//! What the metrics of master and worker share.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::resident::resident_bytes;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) outcome: &'static str,
}

/// A counter for each outcome. All are there from the beginning, so that counting takes no lock.
#[derive(Debug, Clone)]
pub(crate) struct ByOutcome<const N: usize> {
    family: Family<OutcomeLabels, Counter>,
    counters: [Counter; N],
}

impl<const N: usize> ByOutcome<N> {
    /// Returns counters of these outcomes, in their order.
    pub(crate) fn new(words: [&'static str; N]) -> Self {
        let family = Family::<OutcomeLabels, Counter>::default();
        let counters = words.map(|outcome| family.get_or_create(&OutcomeLabels { outcome }).clone());
        Self { family, counters }
    }

    /// Adds one to the outcome at this place.
    pub(crate) fn count(&self, place: usize) {
        if let Some(counter) = self.counters.get(place) {
            counter.inc();
        }
    }

    /// Adds the counters to a registry.
    pub(crate) fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.family.clone());
    }
}

/// The metrics that every program has.
#[derive(Debug, Clone)]
pub(crate) struct ProcessMetrics {
    resident: Gauge,
}

impl ProcessMetrics {
    /// Adds the metrics of a process that starts now to a registry.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let resident = Gauge::default();
        let help = "Memory of the process";
        registry.register_with_unit("resident_memory", help, Unit::Bytes, resident.clone());
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register_with_unit("start_time", "When this run began, since 1970", Unit::Seconds, start);
        Self { resident }
    }

    /// Measures.
    pub(crate) fn refresh(&self) {
        self.resident.set(whole(resident_bytes().unwrap_or(0)));
    }
}

/// A number for a gauge.
pub(crate) fn whole(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
