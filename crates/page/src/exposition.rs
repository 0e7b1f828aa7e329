//! Metrics as text, in the two formats that monitors read: OpenMetrics
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>) and the older one of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The media type of the older format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes `registry` in the format that `accept` asks for, the value of a request's header. Returns the media type and the
/// text.
///
/// # Errors
/// Fails if a metric cannot be written.
pub fn expose(registry: &Registry, accept: &str) -> Result<(&'static str, String), fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    if accept.contains("application/openmetrics-text") {
        Ok((OPEN_METRICS, text))
    } else {
        Ok((PROMETHEUS, to_prometheus(&text)))
    }
}

/// Turns OpenMetrics into the older format. There the family of a counter has the name of its samples, with `_total`, and
/// units and the mark of the end are unknown.
fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            // The type, which tells the family's name, comes in the next line.
            (Some("#"), Some("HELP"), Some(_), explanation) => help = explanation,
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let total = if kind == "counter" { "_total" } else { "" };
                if let Some(help) = help.take() {
                    text.extend(["# HELP ", name, total, " ", help, "\n"]);
                }
                text.extend(["# TYPE ", name, total, " ", kind, "\n"]);
            }
            (Some("#"), ..) => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::Unit;

    use super::*;
    use crate::latency::Latency;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let (sent, open, duration) = (Counter::<u64>::default(), Gauge::<i64>::default(), Latency::default());
        registry.register("sent", "Messages that were sent", sent.clone());
        registry.register("open", "Connections that are open", open.clone());
        registry.register_with_unit("store_duration", "Time to store", Unit::Seconds, duration.clone());
        sent.inc_by(7);
        open.set(2);
        duration.record(std::time::Duration::from_micros(100));
        registry
    }

    #[test]
    fn golden_open_metrics() {
        let (kind, text) =
            expose(&registry(), "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").unwrap();
        assert_eq!(kind, OPEN_METRICS);
        assert!(
            text.starts_with("# HELP sent Messages that were sent.\n# TYPE sent counter\nsent_total 7\n"),
            "{text}"
        );
        assert!(text.contains("# UNIT store_duration_seconds seconds\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn golden_prometheus() {
        let (kind, text) = expose(&registry(), "*/*").unwrap();
        assert_eq!(kind, PROMETHEUS);
        let beginning = "# HELP sent_total Messages that were sent.\n# TYPE sent_total counter\nsent_total 7\n\
                         # HELP open Connections that are open.\n# TYPE open gauge\nopen 2\n\
                         # HELP store_duration_seconds Time to store.\n# TYPE store_duration_seconds histogram\n";
        assert!(text.starts_with(beginning), "{text}");
        assert!(text.contains("store_duration_seconds_bucket{le=\"0.000128\"} 1\n"), "{text}");
        assert!(text.ends_with("store_duration_seconds_bucket{le=\"+Inf\"} 1\n"), "{text}");
        assert!(!text.contains("EOF") && !text.contains("UNIT"), "{text}");
    }
}
