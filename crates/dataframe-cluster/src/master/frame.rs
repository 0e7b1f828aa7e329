//! What the page shows of a master, as one JSON object: a pure function of the cluster's state.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dataframe_jobs::message::WorkerState;
use page::FrameStamp;
use page::latency::LatencySnapshot;
use serde::Serialize;
use text::timestamp;

use super::snapshot::{ClusterSnapshot, JobEnd, JobView, LedgerTotals, TaskBar, TimedNews, WorkerView};
use crate::spool::SpoolDisk;

/// The longest frame of a cluster with at most [`FEW`] workers, in bytes.
const FEW_BYTES: usize = 4 * 1024;
const FEW: usize = 3;
/// The longest frame of a larger cluster, in bytes.
const MANY_BYTES: usize = 16 * 1024;
/// The highest number of workers with a line of their own in a frame.
pub(crate) const LISTED: usize = 48;
/// The highest number of jobs in a frame, and of stages of each.
const JOBS_LISTED: usize = 6;
const STAGES_LISTED: usize = 6;
const OPERATIONS_LISTED: usize = 4;
/// The longest name of a worker in a frame, in characters.
const NAME_SHOWN: usize = 64;
/// A frame holds the newest events and bars. A page that has missed some asks for them.
pub(crate) const NEW_EVENTS: usize = 5;
/// See [`NEW_EVENTS`].
pub(crate) const NEW_BARS: usize = 100;
/// Bars of attempts that have not ended.
const OPEN_BARS: usize = 24;
/// A worker is slow if its tasks take so many times as long as those of the worker in the middle.
const SLOW: u64 = 5;
/// So many tasks tell whether a worker is slow.
const ENOUGH_TASKS: u64 = 4;
/// A worker that has lost so many tasks in ten minutes has lost them again and again.
const MANY_LOSSES: usize = 3;
/// The disk of the spools is nearly full if less than this part of it is free.
const SPOOL_PART: u64 = 20;
const WARNINGS: usize = 8;

/// A master's state at one moment.
#[derive(Debug, Clone)]
pub(crate) struct MasterState {
    pub(crate) run: String,
    pub(crate) now: DateTime<Utc>,
    /// The time since the program started.
    pub(crate) up: Duration,
    /// The number of its lead, if this master leads.
    pub(crate) term: Option<u64>,
    /// Whether its coordinator does not answer, so that nothing else is known.
    pub(crate) hangs: bool,
    pub(crate) cluster: ClusterSnapshot,
    /// How long the last tasks of each worker took, in the order of the workers.
    pub(crate) durations: Vec<LatencySnapshot>,
    pub(crate) spools: SpoolState,
}

/// Where results lie until they are used.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpoolState {
    pub(crate) in_memory: usize,
    pub(crate) on_disk: u64,
    pub(crate) disk: Option<SpoolDisk>,
}

#[derive(Debug, Serialize)]
struct MasterFrame<'a> {
    kind: &'static str,
    run: &'a str,
    n: u64,
    time: String,
    up_s: u64,
    /// The time since this master took the lead, from which the times of bars count.
    lead_ms: u128,
    period_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    verdict: ClusterVerdict,
    ready: usize,
    draining: usize,
    lost: usize,
    slots: usize,
    busy: u64,
    waiting: u64,
    running: usize,
    jobs_done: u64,
    jobs_failed: u64,
    tasks_done: u64,
    tasks_failed: u64,
    tasks_lost: u64,
    resident: u64,
    spool_memory: usize,
    spool_disk: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    spool_free: Option<u64>,
    workers: Vec<WorkerLine>,
    #[serde(skip_serializing_if = "is_zero")]
    more_workers: usize,
    jobs: Vec<JobLine<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    more_jobs: usize,
    events: NewestNews<'a>,
    warnings: Vec<ClusterWarning>,
    tasks: TaskStream,
}

/// Whether jobs are computed, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct ClusterVerdict {
    level: &'static str,
    code: &'static str,
}

/// One worker, as the page shows it.
#[derive(Debug, Clone, Serialize)]
struct WorkerLine {
    /// Stands for the worker in bars.
    w: u32,
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    threads: u32,
    busy: u32,
    done: u64,
    #[serde(skip_serializing_if = "is_none")]
    lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident: Option<u64>,
    age_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_us: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct JobLine<'a> {
    j: u64,
    ops: &'a [&'static str],
    #[serde(skip_serializing_if = "is_zero")]
    more_ops: usize,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// The number of all stages so far, of which the last ones are listed.
    stage: usize,
    stages: &'a [(u32, u32)],
    #[serde(skip_serializing_if = "is_none")]
    lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    ms: u128,
}

#[derive(Debug, Serialize)]
struct NewestNews<'a> {
    last: u64,
    new: Vec<NumberedNews<'a>>,
}

/// An event, as the page shows it.
#[derive(Debug, Serialize)]
pub(crate) struct NumberedNews<'a> {
    n: u64,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<u64>,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ClusterWarning {
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    value: u64,
}

/// The attempts that have ended last, and those that have not ended.
#[derive(Debug, Serialize)]
struct TaskStream {
    /// The number of the newest bar. The bars of `new` have the last numbers, without a gap.
    last: u64,
    /// Since when every attempt has a bar.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<u128>,
    new: Vec<BarFields>,
    open: Vec<BarFields>,
}

/// Worker, job, stage, start and length in milliseconds, and outcome of a bar. An attempt that has not ended has no more than a start.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum BarFields {
    Ended(u32, u64, u32, u128, u128, u8),
    Open(u32, u64, u32, u128),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Returns the frame as JSON.
///
/// # Errors
/// Fails if the state cannot be written as JSON.
pub(crate) fn frame(state: &MasterState, stamp: FrameStamp) -> serde_json::Result<Vec<u8>> {
    let cluster = &state.cluster;
    let most = if cluster.workers.len() <= FEW { FEW_BYTES } else { MANY_BYTES };
    let mut frame = without_bars(state, stamp);
    let mut bytes = serde_json::to_vec(&frame)?;
    // Names that somebody else made up may be long.
    while bytes.len() > most && frame.workers.len() + frame.jobs.len() + frame.events.new.len() > 0 {
        let (workers, jobs) = (frame.workers.len() / 2, frame.jobs.len() / 2);
        frame.more_workers += frame.workers.drain(workers..).count();
        frame.more_jobs += frame.jobs.drain(jobs..).count();
        frame.events.new.drain(..frame.events.new.len().div_ceil(2));
        bytes = serde_json::to_vec(&frame)?;
    }
    let mut room = most.saturating_sub(bytes.len());
    frame.tasks.open = fitting(cluster.open.iter().take(OPEN_BARS).map(bar), &mut room)?;
    let newest = cluster.bars.iter().rev().take(NEW_BARS).map(|(_, newest)| bar(newest));
    frame.tasks.new = fitting(newest, &mut room)?;
    frame.tasks.new.reverse();
    serde_json::to_vec(&frame)
}

/// Takes bars as long as there is room for them, in bytes.
fn fitting(bars: impl Iterator<Item = BarFields>, room: &mut usize) -> serde_json::Result<Vec<BarFields>> {
    let mut fitting = Vec::new();
    for bar in bars {
        let bytes = serde_json::to_vec(&bar)?.len() + 1;
        let Some(left) = room.checked_sub(bytes) else { break };
        *room = left;
        fitting.push(bar);
    }
    Ok(fitting)
}

fn without_bars(state: &MasterState, stamp: FrameStamp) -> MasterFrame<'_> {
    let MasterState { run, now, up, term, cluster, spools, .. } = state;
    let of_state =
        |wanted: WorkerState| cluster.workers.iter().filter(|worker| worker.status.state == wanted).count();
    let (lines, more_workers) = worst(state);
    let LedgerTotals { jobs_done, jobs_failed, tasks_done, tasks_failed, tasks_lost } = cluster.totals;
    let jobs = cluster.running.iter().chain(&cluster.ended).take(JOBS_LISTED).map(job_line).collect();
    let news = cluster.events.iter().rev().take(NEW_EVENTS).rev();
    let since_ms = cluster.recording_since.map(|since| since.as_millis());
    MasterFrame {
        kind: "dataframe",
        run,
        n: stamp.number,
        time: timestamp(*now),
        up_s: up.as_secs(),
        lead_ms: cluster.up.as_millis(),
        period_ms: stamp.period.as_millis(),
        term: *term,
        verdict: verdict(state),
        ready: of_state(WorkerState::Ready),
        draining: of_state(WorkerState::Draining),
        lost: of_state(WorkerState::Lost),
        slots: cluster.slots,
        busy: cluster.tasks_running(),
        waiting: cluster.tasks_waiting(),
        running: cluster.running.len(),
        jobs_done,
        jobs_failed,
        tasks_done,
        tasks_failed,
        tasks_lost,
        resident: cluster.workers.iter().filter_map(|worker| worker.resident_bytes).sum(),
        spool_memory: spools.in_memory,
        spool_disk: spools.on_disk,
        spool_free: spools.disk.map(|disk| disk.free),
        workers: lines,
        more_workers,
        jobs,
        more_jobs: cluster.running.len().saturating_sub(JOBS_LISTED),
        events: NewestNews {
            last: cluster.last_event,
            new: news.map(|(n, news)| numbered(*n, news, cluster.begun_at)).collect(),
        },
        warnings: warnings(state),
        tasks: TaskStream { last: cluster.last_bar, since_ms, new: Vec::new(), open: Vec::new() },
    }
}

/// Returns all workers, as the page shows them.
fn worker_lines(state: &MasterState) -> Vec<WorkerLine> {
    let nothing = LatencySnapshot::default();
    let durations = state.durations.iter().chain(std::iter::repeat(&nothing));
    state.cluster.workers.iter().zip(durations).map(|(worker, took)| worker_line(worker, took)).collect()
}

fn worker_line(worker: &WorkerView, took: &LatencySnapshot) -> WorkerLine {
    let WorkerView { number, status, resident_bytes, cause, lost, .. } = worker;
    WorkerLine {
        w: *number,
        name: status.info.name.chars().take(NAME_SHOWN).collect(),
        state: state_word(status.state),
        cause: cause.map(dataframe_jobs::scheduler::GoneCause::word),
        threads: status.info.slots,
        busy: status.running,
        done: status.finished,
        lost: *lost,
        resident: *resident_bytes,
        age_ms: status.silent_ms,
        p50_us: took.quantile(0.5),
    }
}

fn state_word(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Ready => "ready",
        WorkerState::Draining => "draining",
        WorkerState::Lost => "lost",
    }
}

/// Returns the workers that the frame lists. If there are too many, these are the worst ones, and the others are counted.
fn worst(state: &MasterState) -> (Vec<WorkerLine>, usize) {
    let mut lines = worker_lines(state);
    if lines.len() <= LISTED {
        return (lines, 0);
    }
    lines.sort_by_key(|line| match line.state {
        "lost" => (0, 0),
        "draining" => (1, 0),
        _ => (2, u64::MAX - line.lost),
    });
    let more = lines.drain(LISTED..).count();
    (lines, more)
}

fn job_line(job: &JobView) -> JobLine<'_> {
    let (state, cause, rows) = match job.end {
        Some(JobEnd::Done(rows)) => ("done", None, Some(rows)),
        Some(JobEnd::Failed(code)) => ("failed", Some(code.word()), None),
        None if job.stages.is_empty() => ("planning", None, None),
        None if job.is_waiting => ("waiting", None, None),
        None if job.stages.last().is_some_and(|(done, all)| done == all) => ("finishing", None, None),
        None => ("running", None, None),
    };
    let shown = job.operations.len().min(OPERATIONS_LISTED);
    JobLine {
        j: job.number,
        ops: &job.operations[..shown],
        more_ops: job.operations.len() - shown,
        state,
        cause,
        stage: job.stages.len(),
        stages: &job.stages[job.stages.len().saturating_sub(STAGES_LISTED)..],
        lost: job.lost,
        rows,
        ms: job.took.as_millis(),
    }
}

/// Returns a bar in few bytes.
pub(crate) fn bar(bar: &TaskBar) -> BarFields {
    let TaskBar { worker, job, stage, start, end, outcome } = *bar;
    match end {
        Some(end) => {
            let length = end.saturating_sub(start).as_millis();
            BarFields::Ended(worker, job, stage, start.as_millis(), length, outcome as u8)
        }
        None => BarFields::Open(worker, job, stage, start.as_millis()),
    }
}

/// Returns whether jobs are computed.
fn verdict(state: &MasterState) -> ClusterVerdict {
    let cluster = &state.cluster;
    let is_any = |wanted| cluster.workers.iter().any(|worker| worker.status.state == wanted);
    let is_stuck = cluster.tasks_running() == 0 && cluster.running.iter().any(|job| job.is_waiting);
    let (level, code) = if state.term.is_none() {
        ("info", "standby")
    } else if state.hangs {
        ("bad", "hangs")
    } else if !is_any(WorkerState::Ready) {
        ("bad", "no-workers")
    } else if is_stuck {
        ("bad", "stuck")
    } else if is_any(WorkerState::Lost) {
        ("warn", "workers-lost")
    } else {
        ("ok", "working")
    };
    ClusterVerdict { level, code }
}

fn warnings(state: &MasterState) -> Vec<ClusterWarning> {
    let cluster = &state.cluster;
    let of_all = |rule, value| ClusterWarning { rule, worker: None, value };
    let mut warnings = Vec::new();
    if state.term.is_some()
        && !state.hangs
        && cluster.workers.iter().all(|worker| worker.status.state != WorkerState::Ready)
    {
        warnings.push(of_all("no-workers", 0));
    }
    if let Some(SpoolDisk { free, total }) = state.spools.disk
        && free < total / SPOOL_PART
    {
        warnings.push(of_all("spool-full", free));
    }
    let told = |took: &LatencySnapshot| took.quantile(0.5).filter(|_| took.count() >= ENOUGH_TASKS);
    let mut medians: Vec<_> = state.durations.iter().filter_map(told).collect();
    medians.sort_unstable();
    let middle = medians.get(medians.len().saturating_sub(1) / 2).copied().unwrap_or(u64::MAX).max(1);
    let nothing = LatencySnapshot::default();
    let durations = state.durations.iter().chain(std::iter::repeat(&nothing));
    for (worker, took) in cluster.workers.iter().zip(durations) {
        let name = || Some(worker.status.info.name.chars().take(NAME_SHOWN).collect::<String>());
        let mut warn = |rule, value| warnings.push(ClusterWarning { rule, worker: name(), value });
        if worker.lost_recently >= MANY_LOSSES {
            warn("losses", worker.lost_recently as u64);
        }
        if let Some(times) = told(took).map(|p50| p50 / middle).filter(|times| *times >= SLOW) {
            warn("slow", times);
        }
    }
    warnings.truncate(WARNINGS);
    warnings
}

/// Returns an event, as the page shows it. Its time counts from `begun_at`.
pub(crate) fn numbered(n: u64, timed: &TimedNews, begun_at: DateTime<Utc>) -> NumberedNews<'_> {
    let TimedNews { at, worker, job, news } = timed;
    NumberedNews {
        n,
        time: timestamp(begun_at + *at),
        worker: worker.as_deref(),
        job: *job,
        what: news.word(),
        cause: news.cause(),
        count: news.count(),
    }
}

#[cfg(test)]
mod tests;
