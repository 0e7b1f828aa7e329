//! The last ten minutes of a cluster, as the page draws them.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use dataframe_jobs::message::WorkerState;
use page::history::{Ring, SAMPLE_PERIOD, SAMPLES};
use page::latency::{LatencySnapshot, LatencyWindow};
use serde::Serialize;
use text::timestamp;

use super::frame::LISTED;
use super::metrics::MasterMetrics;
use super::snapshot::{ClusterSnapshot, WorkerView};

/// The samples of the last ten minutes of one lead.
#[derive(Debug)]
pub(crate) struct ClusterHistory {
    run: String,
    samples: Ring<ClusterSample>,
    windows: HashMap<String, LatencyWindow>,
}

#[derive(Debug)]
struct ClusterSample {
    time: DateTime<Utc>,
    tasks_done: u64,
    tasks_lost: u64,
    busy: u64,
    waiting: u64,
    ready: usize,
    resident: u64,
    workers: BTreeMap<String, WorkerSample>,
}

#[derive(Debug, Clone, Copy)]
struct WorkerSample {
    done: u64,
    busy: u32,
    resident: Option<u64>,
}

/// The history as the page gets it: a list for each thing that is drawn, oldest first.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterHistoryReport<'a> {
    run: &'a str,
    step_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    series: ClusterSeries,
    nodes: BTreeMap<&'a str, WorkerSeries>,
}

#[derive(Debug, Default, Serialize)]
struct ClusterSeries {
    tasks: Vec<Option<u64>>,
    lost: Vec<Option<u64>>,
    busy: Vec<u64>,
    waiting: Vec<u64>,
    ready: Vec<usize>,
    resident: Vec<u64>,
}

#[derive(Debug, Default, Serialize)]
struct WorkerSeries {
    tasks: Vec<Option<u64>>,
    busy: Vec<Option<u32>>,
    resident: Vec<Option<u64>>,
}

impl ClusterHistory {
    /// Returns a history without samples.
    pub(crate) fn new() -> Self {
        Self { run: String::new(), samples: Ring::new(SAMPLES), windows: HashMap::new() }
    }

    /// Returns how long the last tasks of each worker took, in the order of the workers.
    pub(crate) fn durations(&self, workers: &[WorkerView], metrics: &MasterMetrics) -> Vec<LatencySnapshot> {
        let of = |worker: &WorkerView| match self.windows.get(&worker.status.info.name) {
            Some(window) => window.recent(),
            // It has come since the last sample.
            None => {
                let own = metrics.task_duration.own(&worker.status.info.name);
                own.map_or_else(LatencySnapshot::default, |latency| latency.snapshot())
            }
        };
        workers.iter().map(of).collect()
    }

    /// Takes a sample. What another lead has told is forgotten.
    pub(crate) fn sample(
        &mut self,
        run: &str,
        time: DateTime<Utc>,
        cluster: &ClusterSnapshot,
        metrics: &MasterMetrics,
    ) {
        if self.run != run {
            *self = Self { run: run.to_owned(), ..Self::new() };
        }
        let mut windows = std::mem::take(&mut self.windows);
        for worker in &cluster.workers {
            let name = &worker.status.info.name;
            let known = windows.remove(name).map(|mut window| {
                window.roll();
                window
            });
            if let Some(window) = known.or_else(|| own_duration(metrics, name)) {
                self.windows.insert(name.clone(), window);
            }
        }
        let sampled = |worker: &WorkerView| {
            let status = &worker.status;
            let sample =
                WorkerSample { done: status.finished, busy: status.running, resident: worker.resident_bytes };
            (status.info.name.clone(), sample)
        };
        let ready = cluster.workers.iter().filter(|worker| worker.status.state == WorkerState::Ready);
        self.samples.push(ClusterSample {
            time,
            tasks_done: cluster.totals.tasks_done,
            tasks_lost: cluster.totals.tasks_lost,
            busy: cluster.tasks_running(),
            waiting: cluster.tasks_waiting(),
            ready: ready.count(),
            resident: cluster.workers.iter().filter_map(|worker| worker.resident_bytes).sum(),
            workers: cluster.workers.iter().take(LISTED).map(sampled).collect(),
        });
    }

    /// Returns the history for the page.
    pub(crate) fn report(&self) -> ClusterHistoryReport<'_> {
        let mut series = ClusterSeries::default();
        let mut nodes: BTreeMap<&str, WorkerSeries> = BTreeMap::new();
        let newest = self.samples.newest(1).next().map(|(_, sample)| sample.workers.keys());
        let names: Vec<_> = newest.into_iter().flatten().collect();
        let mut before: Option<&ClusterSample> = None;
        for (_, sample) in self.samples.since(0) {
            let change = |value: fn(&ClusterSample) -> u64| {
                before.map(|before| value(sample).saturating_sub(value(before)))
            };
            series.tasks.push(change(|sample| sample.tasks_done));
            series.lost.push(change(|sample| sample.tasks_lost));
            series.busy.push(sample.busy);
            series.waiting.push(sample.waiting);
            series.ready.push(sample.ready);
            series.resident.push(sample.resident);
            for name in &names {
                let earlier = before.and_then(|before| before.workers.get(*name));
                nodes.entry(name).or_default().push(sample.workers.get(*name), earlier);
            }
            before = Some(sample);
        }
        let time = before.map(|newest| timestamp(newest.time));
        ClusterHistoryReport { run: &self.run, step_s: SAMPLE_PERIOD.as_secs(), time, series, nodes }
    }
}

/// Returns a window on the tasks of a worker, unless there are too many workers.
fn own_duration(metrics: &MasterMetrics, name: &str) -> Option<LatencyWindow> {
    metrics.task_duration.own(name).map(LatencyWindow::new)
}

impl WorkerSeries {
    fn push(&mut self, sample: Option<&WorkerSample>, before: Option<&WorkerSample>) {
        self.tasks.push(sample.zip(before).map(|(now, before)| now.done.saturating_sub(before.done)));
        self.busy.push(sample.map(|worker| worker.busy));
        self.resident.push(sample.and_then(|worker| worker.resident));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::snapshot::LedgerTotals;
    use super::*;

    #[test]
    fn samples_tell_what_was_done_between_them_and_another_lead_begins_again() {
        let (metrics, mut history) = (MasterMetrics::new(), ClusterHistory::new());
        let mut sample = |run: &str, second: i64, tasks_done: u64| {
            let totals = LedgerTotals { tasks_done, ..LedgerTotals::default() };
            let cluster = ClusterSnapshot { totals, ..ClusterSnapshot::default() };
            let time = DateTime::from_timestamp(second, 0).unwrap();
            history.sample(run, time, &cluster, &metrics);
            serde_json::to_value(history.report()).unwrap()
        };
        sample("ONE", 0, 10);
        let told = sample("ONE", 5, 17);
        assert_eq!(told["series"]["tasks"], serde_json::json!([null, 7]));
        assert_eq!((&told["run"], &told["step_s"]), (&"ONE".into(), &5.into()));
        assert_eq!(told["time"], "1970-01-01T00:00:05.000Z");
        let told = sample("TWO", 10, 3);
        assert_eq!((&told["run"], &told["series"]["tasks"]), (&"TWO".into(), &serde_json::json!([null])));
    }

    #[test]
    fn a_window_on_tasks_forgets() {
        use dataframe_jobs::message::{WorkerInfo, WorkerStatus};
        let (metrics, mut history) = (MasterMetrics::new(), ClusterHistory::new());
        let info = WorkerInfo {
            name: "a".to_owned(),
            incarnation: String::new(),
            address: None,
            datafusion: String::new(),
            release: String::new(),
            slots: 1,
            functions: Vec::new(),
            wasm: false,
        };
        let status = WorkerStatus { info, state: WorkerState::Ready, running: 1, finished: 4, silent_ms: 0 };
        let (number, resident_bytes, cause) = (1, Some(7), None);
        let worker = WorkerView { number, status, resident_bytes, cause, lost: 0, lost_recently: 0 };
        let cluster = ClusterSnapshot { workers: vec![worker], ..ClusterSnapshot::default() };
        let mut recent = |took: Option<Duration>| {
            history.sample("ONE", DateTime::UNIX_EPOCH, &cluster, &metrics);
            if let Some(took) = took {
                metrics.task_duration.of("a").record(took);
            }
            history.durations(&cluster.workers, &metrics)[0].count()
        };
        assert_eq!(recent(Some(Duration::from_millis(3))), 1);
        assert_eq!([(); 4].map(|()| recent(None)), [1, 1, 0, 0]);
        let told = serde_json::to_value(history.report()).unwrap();
        assert_eq!(told["nodes"]["a"]["tasks"], serde_json::json!([null, 0, 0, 0, 0]));
        assert_eq!(told["series"]["resident"], serde_json::json!([7, 7, 7, 7, 7]));
    }
}
