//! How long the way of a task takes, from a client over the master to a worker and back.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::place::ComputePlace;

/// What `dataframe nodes probe` measured.
#[derive(Debug, Serialize)]
pub struct ProbeReport {
    /// Jobs of one empty task that ran one after the other.
    pub jobs: usize,
    /// Half of these jobs took at most this time, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 of these jobs took at most this time, in milliseconds.
    pub p99_ms: f64,
    /// Empty tasks of the one large job.
    pub tasks: usize,
    /// Tasks of the large job a second, from when it was sent until it had ended.
    pub tasks_per_second: f64,
}

/// Runs the jobs and then the large job.
///
/// # Errors
/// Fails if there is no cluster, or a job fails.
pub async fn run(place: &ComputePlace, jobs: usize, tasks: usize) -> anyhow::Result<ProbeReport> {
    let mut times = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        times.push(timed(place, 1).await?);
    }
    times.sort_unstable();
    let quantile = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    let large = timed(place, tasks).await?;
    #[expect(clippy::cast_precision_loss, reason = "there are at most 100,000 tasks")]
    let tasks_per_second = tasks as f64 / large.as_secs_f64();
    Ok(ProbeReport { jobs, p50_ms: quantile(50), p99_ms: quantile(99), tasks, tasks_per_second })
}

async fn timed(place: &ComputePlace, tasks: usize) -> anyhow::Result<Duration> {
    let started = Instant::now();
    place.probe(u32::try_from(tasks)?).await?;
    Ok(started.elapsed())
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, p50_ms, p99_ms, tasks, tasks_per_second } = self;
        writeln!(f, "{jobs} jobs of one empty task: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms")?;
        write!(f, "one job of {tasks} empty tasks: {tasks_per_second:.0} tasks a second")
    }
}
