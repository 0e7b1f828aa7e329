//! The last ten minutes of the lottery, as the page draws them.

use chrono::{DateTime, Utc};
use page::history::{Ring, SAMPLE_PERIOD, SAMPLES};
use page::latency::{LatencySnapshot, LatencyWindow};
use serde::Serialize;
use text::timestamp;

use super::metrics::LotteryMetrics;

/// The samples of the last ten minutes.
#[derive(Debug)]
pub struct LotteryHistory {
    samples: Ring<LotterySample>,
    rounds: LatencyWindow,
    syncs: LatencyWindow,
}

#[derive(Debug)]
struct LotterySample {
    time: DateTime<Utc>,
    /// Bets that were stored since the start.
    stored: u64,
    in_file: i64,
    finished: i64,
    connections: i64,
    round_p50_us: Option<u64>,
    round_p99_us: Option<u64>,
    sync_p50_us: Option<u64>,
    sync_p99_us: Option<u64>,
}

/// The history as the page gets it: a list for each thing that is drawn, oldest first.
#[derive(Debug, Serialize)]
pub struct LotteryHistoryReport<'a> {
    run: &'a str,
    step_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    series: LotterySeries,
    /// The shell's charts may be of parts of a system. A lottery has none.
    nodes: NoParts,
}

#[derive(Debug, Serialize)]
struct NoParts {}

#[derive(Debug, Default, Serialize)]
struct LotterySeries {
    bets: Vec<Option<u64>>,
    in_file: Vec<i64>,
    finished: Vec<i64>,
    connections: Vec<i64>,
    round_p50_us: Vec<Option<u64>>,
    round_p99_us: Vec<Option<u64>>,
    sync_p50_us: Vec<Option<u64>>,
    sync_p99_us: Vec<Option<u64>>,
}

impl LotteryHistory {
    /// Returns a history without samples.
    pub fn new(metrics: &LotteryMetrics) -> Self {
        Self {
            samples: Ring::new(SAMPLES),
            rounds: LatencyWindow::new(metrics.round_duration.clone()),
            syncs: LatencyWindow::new(metrics.sync_duration.clone()),
        }
    }

    /// Returns how long the last rounds took, and how long their syncs did.
    pub fn recent(&self) -> (LatencySnapshot, LatencySnapshot) {
        (self.rounds.recent(), self.syncs.recent())
    }

    /// Takes a sample.
    pub fn sample(&mut self, time: DateTime<Utc>, metrics: &LotteryMetrics) {
        self.rounds.roll();
        self.syncs.roll();
        let (rounds, syncs) = self.recent();
        self.samples.push(LotterySample {
            time,
            stored: metrics.bets.get(),
            in_file: metrics.bets_in_file.get(),
            finished: metrics.agencies.finished.get(),
            connections: metrics.connections.now(),
            round_p50_us: rounds.quantile(0.5),
            round_p99_us: rounds.quantile(0.99),
            sync_p50_us: syncs.quantile(0.5),
            sync_p99_us: syncs.quantile(0.99),
        });
    }

    /// Returns the history for the page.
    pub fn report<'a>(&self, run: &'a str) -> LotteryHistoryReport<'a> {
        let mut series = LotterySeries::default();
        let mut before: Option<&LotterySample> = None;
        for (_, sample) in self.samples.since(0) {
            series.bets.push(before.map(|before| sample.stored.saturating_sub(before.stored)));
            series.in_file.push(sample.in_file);
            series.finished.push(sample.finished);
            series.connections.push(sample.connections);
            series.round_p50_us.push(sample.round_p50_us);
            series.round_p99_us.push(sample.round_p99_us);
            series.sync_p50_us.push(sample.sync_p50_us);
            series.sync_p99_us.push(sample.sync_p99_us);
            before = Some(sample);
        }
        let time = before.map(|newest| timestamp(newest.time));
        LotteryHistoryReport { run, step_s: SAMPLE_PERIOD.as_secs(), time, series, nodes: NoParts {} }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_tell_what_came_between_samples() {
        let metrics = LotteryMetrics::new();
        let mut history = LotteryHistory::new(&metrics);
        let start = DateTime::from_timestamp_millis(1_795_253_400_000).unwrap();
        for (sample, bets) in [3, 5, 0].into_iter().enumerate() {
            metrics.bets.inc_by(bets);
            metrics.bets_in_file.inc_by(bets as i64);
            history.sample(start + SAMPLE_PERIOD * sample as u32, &metrics);
        }
        assert_eq!(
            serde_json::to_string(&history.report("RUN")).unwrap(),
            r#"{"run":"RUN","step_s":5,"time":"2026-11-21T09:30:10.000Z","series":{"bets":[null,5,0],"in_file":[3,8,8],"finished":[0,0,0],"connections":[0,0,0],"round_p50_us":[null,null,null],"round_p99_us":[null,null,null],"sync_p50_us":[null,null,null],"sync_p99_us":[null,null,null]},"nodes":{}}"#
        );
        for sample in 0..2 * SAMPLES as u32 {
            history.sample(start + SAMPLE_PERIOD * (sample + 3), &metrics);
        }
        let report = history.report("RUN");
        assert_eq!((report.series.bets.len(), report.series.sync_p99_us.len()), (SAMPLES, SAMPLES));
    }
}
