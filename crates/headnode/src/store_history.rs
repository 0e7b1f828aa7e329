//! The last ten minutes of the store, as the page draws them.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use page::history::{Ring, SAMPLE_PERIOD, SAMPLES};
use page::latency::{LatencySnapshot, LatencyWindow};
use protocol::store::types::{NodeName, NodeState};
use serde::Serialize;
use text::timestamp;

use crate::cluster_view::ClusterStatus;
use crate::frame::{Confirmations, LISTED};
use crate::metrics::HeadnodeMetrics;
use crate::placer::StoreOverview;

/// A disk's rate is taken from samples that are so far apart.
const RATE_OVER: usize = 12;

/// The samples of the last ten minutes.
#[derive(Debug)]
pub struct StoreHistory {
    samples: Ring<Sample>,
    put: LatencyWindow,
    nodes: BTreeMap<NodeName, LatencyWindow>,
}

#[derive(Debug)]
struct Sample {
    time: DateTime<Utc>,
    saved: u64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    messages: u64,
    available: usize,
    nodes: BTreeMap<NodeName, NodeSample>,
}

#[derive(Debug, Clone, Copy)]
struct NodeSample {
    confirmed: u64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    sync_p50_us: Option<u64>,
    sync_p99_us: Option<u64>,
    rtt_us: Option<u64>,
    records: u64,
    free: Option<u64>,
}

/// The history as the page gets it: a list for each thing that is drawn, oldest first.
#[derive(Debug, Serialize)]
pub struct HistoryReport<'a> {
    run: &'a str,
    step_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    series: StoreSeries,
    nodes: BTreeMap<&'a NodeName, NodeSeries>,
}

#[derive(Debug, Default, Serialize)]
struct StoreSeries {
    puts: Vec<Option<u64>>,
    p50_us: Vec<Option<u64>>,
    p99_us: Vec<Option<u64>>,
    messages: Vec<u64>,
    available: Vec<usize>,
}

#[derive(Debug, Default, Serialize)]
struct NodeSeries {
    confirmed: Vec<Option<u64>>,
    p50_us: Vec<Option<u64>>,
    p99_us: Vec<Option<u64>>,
    sync_p50_us: Vec<Option<u64>>,
    sync_p99_us: Vec<Option<u64>>,
    rtt_us: Vec<Option<u64>>,
    records: Vec<Option<u64>>,
    free: Vec<Option<u64>>,
}

impl StoreHistory {
    /// Returns a history without samples.
    #[must_use]
    pub fn new(metrics: &HeadnodeMetrics) -> Self {
        let put = LatencyWindow::new(metrics.put.duration.clone());
        Self { samples: Ring::new(SAMPLES), put, nodes: BTreeMap::new() }
    }

    /// Returns the durations of the last `put` requests.
    #[must_use]
    pub fn put(&self) -> LatencySnapshot {
        self.put.recent()
    }

    /// Returns what each of the datanodes has confirmed, in their order.
    #[must_use]
    pub fn confirmations(&self, cluster: &ClusterStatus, metrics: &HeadnodeMetrics) -> Vec<Confirmations> {
        let of = |name: &NodeName| {
            let Some(window) = self.nodes.get(name) else {
                let total = metrics.confirmation_duration.own(name.as_str());
                let recent = total.map_or_else(LatencySnapshot::default, |latency| latency.snapshot());
                return Confirmations { total: recent.count(), recent, full_in: None };
            };
            Confirmations { total: window.total(), recent: window.recent(), full_in: self.full_in(name) }
        };
        cluster.datanodes.iter().map(|datanode| of(&datanode.name)).collect()
    }

    /// Returns the time until the disk of a datanode is full, if it goes on as in the last minute.
    fn full_in(&self, name: &NodeName) -> Option<Duration> {
        let free = |sample: &Sample| sample.nodes.get(name).and_then(|node| node.free);
        let (_, first) = self.samples.newest(RATE_OVER).next()?;
        let (_, last) = self.samples.newest(1).next()?;
        let (before, now) = (free(first)?, free(last)?);
        let used = before.checked_sub(now).filter(|used| *used > 0)?;
        let time = (last.time - first.time).to_std().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let left = time.as_secs_f64() * (now as f64 / used as f64);
        Duration::try_from_secs_f64(left).ok()
    }

    /// Takes a sample.
    pub fn sample(&mut self, time: DateTime<Utc>, overview: &StoreOverview, metrics: &HeadnodeMetrics) {
        self.put.roll();
        let put = self.put.recent();
        let mut nodes = BTreeMap::new();
        let datanodes = overview.cluster.datanodes.iter().zip(&overview.registered);
        for (datanode, registered) in datanodes.take(LISTED) {
            let name = &datanode.name;
            let window = self
                .nodes
                .entry(name.clone())
                .or_insert_with(|| LatencyWindow::new(metrics.confirmation_duration.of(name.as_str())));
            window.roll();
            let (recent, answer) = (window.recent(), datanode.last_answer.as_ref());
            let answer = answer.filter(|_| datanode.state != NodeState::NotOperative);
            let sync = answer.and_then(|answer| answer.sync);
            let rtt = answer.map(|answer| u64::try_from(answer.round_trip.as_micros()).unwrap_or(u64::MAX));
            nodes.insert(
                name.clone(),
                NodeSample {
                    confirmed: window.total(),
                    p50_us: recent.quantile(0.5),
                    p99_us: recent.quantile(0.99),
                    sync_p50_us: sync.map(|sync| sync.p50_us),
                    sync_p99_us: sync.map(|sync| sync.p99_us),
                    rtt_us: rtt,
                    records: datanode.records().max(registered.held),
                    free: answer.map(|answer| answer.free_bytes),
                },
            );
        }
        self.samples.push(Sample {
            time,
            saved: metrics.put.saved.get(),
            p50_us: put.quantile(0.5),
            p99_us: put.quantile(0.99),
            messages: overview.messages,
            available: overview.available(),
            nodes,
        });
    }

    /// Returns the history for the page.
    #[must_use]
    pub fn report<'a>(&'a self, run: &'a str) -> HistoryReport<'a> {
        let mut series = StoreSeries::default();
        let mut nodes: BTreeMap<&NodeName, NodeSeries> = BTreeMap::new();
        let names = self.samples.newest(1).next().map(|(_, sample)| sample.nodes.keys());
        let names: Vec<_> = names.into_iter().flatten().collect();
        let mut before: Option<&Sample> = None;
        for (_, sample) in self.samples.since(0) {
            series.puts.push(before.map(|before| sample.saved.saturating_sub(before.saved)));
            series.p50_us.push(sample.p50_us);
            series.p99_us.push(sample.p99_us);
            series.messages.push(sample.messages);
            series.available.push(sample.available);
            for name in &names {
                let earlier = before.and_then(|before| before.nodes.get(*name));
                nodes.entry(name).or_default().push(sample.nodes.get(*name), earlier);
            }
            before = Some(sample);
        }
        let time = before.map(|newest| timestamp(newest.time));
        HistoryReport { run, step_s: SAMPLE_PERIOD.as_secs(), time, series, nodes }
    }
}

impl NodeSeries {
    fn push(&mut self, sample: Option<&NodeSample>, before: Option<&NodeSample>) {
        let step = sample.zip(before).map(|(now, before)| now.confirmed.saturating_sub(before.confirmed));
        self.confirmed.push(step);
        self.p50_us.push(sample.and_then(|node| node.p50_us));
        self.p99_us.push(sample.and_then(|node| node.p99_us));
        self.sync_p50_us.push(sample.and_then(|node| node.sync_p50_us));
        self.sync_p99_us.push(sample.and_then(|node| node.sync_p99_us));
        self.rtt_us.push(sample.and_then(|node| node.rtt_us));
        self.records.push(sample.map(|node| node.records));
        self.free.push(sample.and_then(|node| node.free));
    }
}
