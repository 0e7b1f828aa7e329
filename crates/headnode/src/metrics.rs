//! What the headnode counts. The README of Actividad 2 lists all metrics.

use std::time::Duration;

use page::bounded::ByName;
use page::latency::Latency;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are those of the labels")]
pub enum RequestKind {
    put,
    get,
    list,
    status,
    drain,
    forget,
    fsck,
    /// A line that is no request.
    invalid,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    request: RequestKind,
    /// `ok`, or the code of the error.
    result: String,
}

impl RequestLabels {
    fn new(request: RequestKind, error: Option<String>) -> Self {
        Self { request, result: error.unwrap_or_else(|| "ok".to_owned()) }
    }
}

/// The metrics of a headnode. Clones share the same counts.
#[derive(Debug, Clone)]
pub struct HeadnodeMetrics {
    requests: Family<RequestLabels, Counter>,
    /// How many messages were saved, and how many were not.
    pub put: PutCounts,
    request_duration: ByName<Latency>,
    /// The time from sending a message to a datanode to its confirmation.
    pub confirmation_duration: ByName<Latency>,
    pub dropped_datagrams: Counter,
    /// Messages that had too few copies, and were copied.
    pub repaired: Counter,
}

/// The results and the durations of `put` requests.
#[derive(Debug, Clone)]
pub struct PutCounts {
    pub saved: Counter,
    pub failed: Counter,
    pub duration: Latency,
}

impl HeadnodeMetrics {
    /// Returns metrics of which nothing was counted yet.
    #[must_use]
    pub fn new() -> Self {
        let requests = Family::default();
        let request_duration = ByName::new("request");
        let put = PutCounts {
            // Most requests are of this kind, so that their count is not looked up each time.
            saved: requests.get_or_create_owned(&RequestLabels::new(RequestKind::put, None)),
            failed: Counter::default(),
            duration: request_duration.of("put"),
        };
        Self {
            requests,
            put,
            request_duration,
            confirmation_duration: ByName::new("datanode"),
            dropped_datagrams: Counter::default(),
            repaired: Counter::default(),
        }
    }

    /// Adds these metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { requests, put: _, request_duration, confirmation_duration, dropped_datagrams, repaired } =
            self.clone();
        registry.register("requests", "Requests of clients, by what was asked and what came of it", requests);
        let help = "Time from a whole request to its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, request_duration);
        let help = "Time from sending a message to a datanode to its confirmation";
        registry.register_with_unit("confirmation_duration", help, Unit::Seconds, confirmation_duration);
        let help = "Datagrams on the heartbeat's port that were no answer to a probe of the round";
        registry.register("dropped_datagrams", help, dropped_datagrams);
        let help = "Messages that had too few copies, or a lost one, and were repaired";
        registry.register("repaired_messages", help, repaired);
    }

    /// Counts `count` answers that have the same kind, result and duration. `error` is the code of an error.
    pub fn answered(&self, request: RequestKind, error: Option<String>, duration: Duration, count: u64) {
        let latency = match request {
            RequestKind::put => &self.put.duration,
            RequestKind::get => &self.request_duration.of("get"),
            RequestKind::list => &self.request_duration.of("list"),
            RequestKind::status => &self.request_duration.of("status"),
            RequestKind::drain => &self.request_duration.of("drain"),
            RequestKind::forget => &self.request_duration.of("forget"),
            RequestKind::fsck => &self.request_duration.of("fsck"),
            RequestKind::invalid => &self.request_duration.of("invalid"),
        };
        latency.record_many(duration, count);
        if (request, &error) == (RequestKind::put, &None) {
            self.put.saved.inc_by(count);
            return;
        }
        if request == RequestKind::put {
            self.put.failed.inc_by(count);
        }
        self.requests.get_or_create(&RequestLabels::new(request, error)).inc_by(count);
    }
}

impl Default for HeadnodeMetrics {
    fn default() -> Self {
        Self::new()
    }
}
