//! Metrics by name, for a bounded number of names: a name that is made up by somebody else must not cost memory for ever.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The highest number of names with metrics of their own.
pub const MAX_NAMES: usize = 1000;
/// The label's value that stands for all further names. No name of a program can have brackets.
const OTHERS: &str = "(others)";

/// One metric for each of up to [`MAX_NAMES`] names, and one for all others together. Clones share the same metrics.
#[derive(Debug, Clone)]
pub struct ByName<M> {
    label: &'static str,
    metrics: Arc<Mutex<HashMap<String, M>>>,
}

impl<M: Default + Clone> ByName<M> {
    /// Returns no metrics yet. `label` is the label that holds the name.
    #[must_use]
    pub fn new(label: &'static str) -> Self {
        Self { label, metrics: Arc::default() }
    }

    /// Returns the metric of `name`, which is made if it is new, or that of all further names. Callers keep it, because
    /// looking it up takes a lock.
    #[must_use]
    pub fn of(&self, name: &str) -> M {
        self.own(name).unwrap_or_else(|| self.lock().entry(OTHERS.to_owned()).or_default().clone())
    }

    /// Returns the metric of `name`, or `None` if it has none of its own because there are too many names. Use this where
    /// adding up makes no sense.
    #[must_use]
    pub fn own(&self, name: &str) -> Option<M> {
        let mut metrics = self.lock();
        let known = metrics.len() - usize::from(metrics.contains_key(OTHERS));
        let is_own = metrics.contains_key(name) || known < MAX_NAMES;
        is_own.then(|| metrics.entry(name.to_owned()).or_default().clone())
    }
}

impl<M> ByName<M> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, M>> {
        // No code that holds the lock can panic in the middle of a change.
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for ByName<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let metrics = self.lock();
        let mut names: Vec<_> = metrics.keys().collect();
        names.sort();
        for name in names {
            metrics[name].encode(encoder.encode_family(&[(self.label, name.as_str())])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl<M: TypedMetric> TypedMetric for ByName<M> {
    const TYPE: MetricType = M::TYPE;
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn further_names_are_counted_together() {
        let by_name = ByName::<Counter>::new("datanode");
        for number in 0..2 * MAX_NAMES {
            by_name.of(&format!("datanode{number}")).inc();
        }
        by_name.of("datanode7").inc();
        let mut registry = Registry::default();
        registry.register("confirmed", "Messages that were confirmed", by_name);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(text.matches("confirmed_total{").count(), MAX_NAMES + 1);
        assert!(text.contains("confirmed_total{datanode=\"datanode7\"} 2\n"), "{text}");
        assert!(text.contains("confirmed_total{datanode=\"(others)\"} 1000\n"), "{text}");
    }
}
