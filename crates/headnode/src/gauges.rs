//! The metrics of the store's present state, which are set when somebody asks for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use page::bounded::ByName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use protocol::store::types::NodeState;

use crate::placer::StoreOverview;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// The metrics that are set when somebody asks for metrics.
#[derive(Debug, Clone)]
pub struct StoreGauges {
    messages: Gauge,
    leads: Gauge,
    epoch: Gauge,
    rounds: Counter,
    events: Counter,
    expected: Gauge,
    replicas: Gauge,
    datanodes: Family<StateLabels, Gauge>,
    draining: Gauge,
    operative: ByName<Gauge>,
    available: ByName<Gauge>,
    records: ByName<Gauge>,
    lost_records: ByName<Gauge>,
    free_bytes: ByName<Gauge>,
    round_trip: ByName<Gauge<f64, AtomicU64>>,
}

impl StoreGauges {
    /// Returns gauges that were not set yet.
    #[must_use]
    pub fn new() -> Self {
        let by_datanode = || ByName::new("datanode");
        Self {
            messages: Gauge::default(),
            leads: Gauge::default(),
            epoch: Gauge::default(),
            rounds: Counter::default(),
            events: Counter::default(),
            expected: Gauge::default(),
            replicas: Gauge::default(),
            datanodes: Family::default(),
            draining: Gauge::default(),
            operative: by_datanode(),
            available: by_datanode(),
            records: by_datanode(),
            lost_records: by_datanode(),
            free_bytes: by_datanode(),
            round_trip: ByName::new("datanode"),
        }
    }

    /// Adds these metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let gauges = self.clone();
        registry.register("messages", "Messages in the registry", gauges.messages);
        registry.register("leads", "1 if the headnode leads, 0 if it stands by", gauges.leads);
        registry.register("epoch", "Number of the epoch in which the headnode leads, or 0", gauges.epoch);
        registry.register("heartbeat_rounds", "Probe rounds that have begun", gauges.rounds);
        registry.register("events", "Changes of datanodes, as in the page's timeline", gauges.events);
        registry.register("expected_datanodes", "Datanodes that are expected", gauges.expected);
        registry.register("replicas", "Datanodes that must confirm each message", gauges.replicas);
        registry.register("datanodes", "Datanodes that were ever known, by state", gauges.datanodes);
        registry.register("draining_datanodes", "Datanodes that are drained", gauges.draining);
        let help = "1 if the datanode answers the heartbeat, else 0";
        registry.register("datanode_operative", help, gauges.operative);
        let help = "1 if the datanode gets new messages, else 0";
        registry.register("datanode_available", help, gauges.available);
        registry.register("datanode_records", "Records that the datanode holds", gauges.records);
        let help = "Registered records that the datanode does not hold any more";
        registry.register("datanode_lost_records", help, gauges.lost_records);
        let help = "Free space for the datanode at its last answer";
        registry.register_with_unit("datanode_free", help, Unit::Bytes, gauges.free_bytes);
        let help = "Time from a probe to the datanode's last answer";
        registry.register_with_unit("datanode_round_trip", help, Unit::Seconds, gauges.round_trip);
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register_with_unit("start_time", "When this run began, since 1970", Unit::Seconds, start);
    }

    /// Sets what is not counted all the time.
    pub fn refresh(&self, overview: &StoreOverview, expected: usize) {
        let gauges = self;
        let cluster = &overview.cluster;
        gauges.messages.set(whole(overview.messages));
        gauges.leads.set(i64::from(overview.epoch.is_some()));
        gauges.epoch.set(whole(overview.epoch.map_or(0, |epoch| epoch.number)));
        gauges.rounds.inner().store(cluster.round, Ordering::Relaxed);
        gauges.events.inner().store(cluster.last_event, Ordering::Relaxed);
        gauges.expected.set(whole(expected as u64));
        gauges.replicas.set(whole(overview.replicas as u64));
        for (state, word) in STATES {
            let count = cluster.datanodes.iter().filter(|datanode| datanode.state == state).count();
            gauges.datanodes.get_or_create(&StateLabels { state: word }).set(whole(count as u64));
        }
        gauges.draining.set(whole(overview.drained.len() as u64));
        for (datanode, registered) in cluster.datanodes.iter().zip(&overview.registered) {
            let name = datanode.name.as_str();
            let set = |gauge: &ByName<Gauge>, value: u64| {
                if let Some(gauge) = gauge.own(name) {
                    gauge.set(whole(value));
                }
            };
            set(&gauges.operative, u64::from(datanode.state != NodeState::NotOperative));
            set(&gauges.available, u64::from(overview.is_available(datanode)));
            set(&gauges.records, datanode.records().max(registered.held));
            set(&gauges.lost_records, registered.lost);
            if let Some(answer) = &datanode.last_answer {
                set(&gauges.free_bytes, answer.free_bytes);
                if let Some(gauge) = gauges.round_trip.own(name) {
                    gauge.set(answer.round_trip.as_secs_f64());
                }
            }
        }
    }
}

impl Default for StoreGauges {
    fn default() -> Self {
        Self::new()
    }
}

/// The states of datanodes, in the words of the protocol.
const STATES: [(NodeState, &str); 3] = [
    (NodeState::Available, "available"),
    (NodeState::Operative, "operative"),
    (NodeState::NotOperative, "not-operative"),
];

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
