//! What the coordinator notes for the page and for monitors: workers, jobs, events, and what became of tasks.
//!
//! Counting costs an atomic operation. Each attempt is noted, as a bar of the task stream, only while somebody looks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, TaskId};
use dataframe_jobs::scheduler::{AttemptLoss, GoneCause, LossCause};
use page::history::Ring;
use page::latency::Latency;
use prometheus_client::metrics::counter::Counter;

use super::metrics::MasterMetrics;
use super::snapshot::{
    ClusterNews, ClusterSnapshot, JobEnd, JobView, LedgerTotals, SnapshotWanted, TaskBar, TaskOutcome,
    TimedNews,
};

/// How many events are kept.
pub(crate) const EVENTS_KEPT: usize = 256;
/// How many bars of the task stream are kept.
pub(crate) const BARS_KEPT: usize = 2048;
/// How many jobs are kept that have ended.
const JOBS_KEPT: usize = 16;
/// How many stages of a job are kept.
const STAGES_KEPT: usize = 32;
/// How many losses of a worker are kept.
const LOSSES_KEPT: usize = 32;
/// A loss is recent for so long.
const RECENT: Duration = Duration::from_secs(600);
/// Workers that are lost are forgotten when so many are known.
const WORKERS_KEPT: usize = 2048;

/// What is noted of a worker.
#[derive(Debug)]
pub(crate) struct WorkerRecord {
    /// Stands for its name in bars.
    pub(crate) number: u32,
    pub(crate) incarnation: String,
    pub(crate) resident_bytes: Option<u64>,
    /// Why it is gone, if it is.
    pub(crate) cause: Option<GoneCause>,
    /// Attempts that were lost at it.
    pub(crate) lost: u64,
    losses: VecDeque<Duration>,
    duration: Latency,
    done: Counter,
}

impl WorkerRecord {
    /// Returns how many attempts were lost at it in the last ten minutes.
    pub(crate) fn lost_recently(&self, now: Duration) -> usize {
        self.losses.iter().filter(|at| now.saturating_sub(**at) <= RECENT).count()
    }
}

/// What is noted of a job.
#[derive(Debug, Clone)]
struct JobRecord {
    number: u64,
    operations: Vec<&'static str>,
    begun: Duration,
    first_round: Option<u32>,
    /// Of each stage: tasks that are done, and all.
    stages: VecDeque<(u32, u32)>,
    lost: u64,
}

impl JobRecord {
    fn view(&self, end: Option<JobEnd>, took: Duration) -> JobView {
        JobView {
            number: self.number,
            operations: self.operations.clone(),
            stages: self.stages.iter().copied().collect(),
            lost: self.lost,
            took,
            end,
            ..JobView::default()
        }
    }
}

/// What is noted of a cluster since this master leads it. Times count from then.
#[derive(Debug)]
pub(crate) struct ClusterLedger {
    metrics: MasterMetrics,
    watched: Arc<AtomicBool>,
    begun_at: DateTime<Utc>,
    workers: HashMap<String, WorkerRecord>,
    last_worker: u32,
    jobs: HashMap<String, JobRecord>,
    last_job: u64,
    ended: VecDeque<JobView>,
    totals: LedgerTotals,
    events: Ring<TimedNews>,
    bars: Ring<TaskBar>,
    /// Since when all bars were noted.
    recording_since: Option<Duration>,
}

impl ClusterLedger {
    /// Begins to note. `watched` tells whether a page is open.
    pub(crate) fn new(metrics: MasterMetrics, watched: Arc<AtomicBool>, begun_at: DateTime<Utc>) -> Self {
        Self {
            metrics,
            watched,
            begun_at,
            workers: HashMap::new(),
            last_worker: 0,
            jobs: HashMap::new(),
            last_job: 0,
            ended: VecDeque::new(),
            totals: LedgerTotals::default(),
            events: Ring::new(EVENTS_KEPT),
            bars: Ring::new(BARS_KEPT),
            recording_since: None,
        }
    }

    fn tell(&mut self, at: Duration, worker: Option<&str>, job: Option<u64>, news: ClusterNews) {
        self.events.push(TimedNews { at, worker: worker.map(str::to_owned), job, news });
    }

    /// Notes that this master has taken the lead over from another one.
    pub(crate) fn took_lead(&mut self, term: u64) {
        self.tell(Duration::ZERO, None, None, ClusterNews::TookLead(term));
    }

    /// Notes that a worker was taken in.
    pub(crate) fn worker_joined(&mut self, name: &str, incarnation: &str, now: Duration) {
        if self.workers.len() >= WORKERS_KEPT {
            self.workers.retain(|_, worker| worker.cause.is_none());
        }
        let known = self.workers.get(name).map(|worker| worker.incarnation == incarnation);
        let news = match known {
            None => ClusterNews::Joined,
            Some(true) => ClusterNews::Back,
            Some(false) => ClusterNews::Restarted,
        };
        let worker = self.record(name);
        worker.cause = None;
        incarnation.clone_into(&mut worker.incarnation);
        self.tell(now, Some(name), None, news);
    }

    fn record(&mut self, name: &str) -> &mut WorkerRecord {
        let Self { metrics, last_worker, workers, .. } = self;
        workers.entry(name.to_owned()).or_insert_with(|| {
            *last_worker += 1;
            WorkerRecord {
                number: *last_worker,
                incarnation: String::new(),
                resident_bytes: None,
                cause: None,
                lost: 0,
                losses: VecDeque::new(),
                duration: metrics.task_duration.of(name),
                done: metrics.worker_tasks.of(name),
            }
        })
    }

    /// Notes how much memory a worker has, if it is one of the cluster.
    pub(crate) fn worker_memory(&mut self, name: &str, bytes: u64) {
        if let Some(worker) = self.workers.get_mut(name) {
            worker.resident_bytes = Some(bytes);
        }
    }

    /// Notes that a worker gets no more tasks, and how many it had.
    pub(crate) fn worker_gone(&mut self, name: &str, cause: GoneCause, tasks: u64, now: Duration) {
        self.metrics.worker_gone(cause);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.cause = Some(cause);
            worker.resident_bytes = None;
        }
        self.tell(now, Some(name), None, ClusterNews::Gone { cause, tasks });
        if !matches!(cause, GoneCause::Silent | GoneCause::Unreachable | GoneCause::Replaced) {
            self.workers.remove(name);
        }
    }

    /// Notes that a job has come.
    pub(crate) fn job_submitted(&mut self, job: &str, operations: Vec<&'static str>, now: Duration) {
        self.last_job += 1;
        let number = self.last_job;
        let (stages, first_round) = (VecDeque::new(), None);
        let record = JobRecord { number, operations, begun: now, first_round, stages, lost: 0 };
        self.jobs.insert(job.to_owned(), record);
        self.tell(now, None, Some(number), ClusterNews::Submitted);
    }

    /// Notes that a stage of a job has been cut into tasks.
    pub(crate) fn stage_planned(&mut self, job: &str, round: u32, tasks: usize) {
        if let Some(job) = self.jobs.get_mut(job) {
            job.first_round.get_or_insert(round);
            job.stages.push_back((0, u32::try_from(tasks).unwrap_or(u32::MAX)));
            if job.stages.len() > STAGES_KEPT {
                job.stages.pop_front();
            }
        }
    }

    /// Notes that a job has ended.
    pub(crate) fn job_ended(&mut self, job: &str, outcome: &Result<Finished, Failure>, now: Duration) {
        let Some(record) = self.jobs.remove(job) else { return };
        let took = now.saturating_sub(record.begun);
        let (end, news) = match outcome {
            Ok(finished) => (JobEnd::Done(finished.rows), ClusterNews::Finished(finished.rows)),
            Err(failure) => (JobEnd::Failed(failure.code), ClusterNews::Failed(failure.code)),
        };
        let failure: Option<FailureCode> = outcome.as_ref().err().map(|failure| failure.code);
        self.metrics.job_ended(failure, took);
        self.totals.jobs_done += u64::from(failure.is_none());
        self.totals.jobs_failed += u64::from(failure.is_some());
        self.tell(now, None, Some(record.number), news);
        self.ended.push_front(record.view(Some(end), took));
        self.ended.truncate(JOBS_KEPT);
    }

    /// Notes that an attempt, which was sent at `start`, has ended at this worker.
    pub(crate) fn task_ended(
        &mut self,
        task: &TaskId,
        worker: Option<&str>,
        (start, end): (Duration, Duration),
        outcome: TaskOutcome,
    ) {
        self.metrics.task_ended(outcome);
        let is_done = outcome == TaskOutcome::Done;
        self.totals.tasks_done += u64::from(is_done);
        self.totals.tasks_failed += u64::from(outcome == TaskOutcome::Failed);
        self.totals.tasks_lost += u64::from(outcome == TaskOutcome::Lost);
        let number = worker.and_then(|name| self.workers.get(name)).map(|worker| {
            if is_done {
                worker.duration.record(end.saturating_sub(start));
                worker.done.inc();
            }
            worker.number
        });
        if let Some(stage) = self.jobs.get_mut(&task.job).and_then(|job| job.stages.back_mut()) {
            stage.0 += u32::from(is_done);
        }
        if let Some(worker) = number {
            self.note_bar(task, worker, (start, end), outcome);
        }
    }

    fn note_bar(
        &mut self,
        task: &TaskId,
        worker: u32,
        (start, end): (Duration, Duration),
        outcome: TaskOutcome,
    ) {
        if !self.watched.load(Ordering::Relaxed) {
            self.recording_since = None;
            return;
        }
        self.recording_since.get_or_insert(end);
        if let Some((job, stage)) = self.place(task) {
            self.bars.push(TaskBar { worker, job, stage, start, end: Some(end), outcome });
        }
    }

    /// Returns the numbers of the job and the stage of a task.
    fn place(&self, task: &TaskId) -> Option<(u64, u32)> {
        let job = self.jobs.get(&task.job)?;
        Some((job.number, task.round.saturating_sub(job.first_round?) + 1))
    }

    /// Notes that an attempt was lost, which was sent at `start`.
    pub(crate) fn task_lost(&mut self, loss: &AttemptLoss, start: Duration, now: Duration) {
        let AttemptLoss { task, worker, cause } = loss;
        self.metrics.task_lost(*cause);
        self.task_ended(task, worker.as_deref(), (start, now), TaskOutcome::Lost);
        let job = self.jobs.get_mut(&task.job).map(|job| {
            job.lost += 1;
            job.number
        });
        let Some(worker) = worker.as_deref() else {
            return self.tell(now, None, job, ClusterNews::TaskLost(*cause));
        };
        if let Some(record) = self.workers.get_mut(worker) {
            record.lost += 1;
            record.losses.push_back(now);
            if record.losses.len() > LOSSES_KEPT {
                record.losses.pop_front();
            }
        }
        // A worker that is gone has one event, which counts its tasks.
        if *cause != LossCause::WorkerGone {
            self.tell(now, Some(worker), job, ClusterNews::TaskLost(*cause));
        }
    }

    /// Returns a bar for an attempt that has not ended.
    pub(crate) fn open_bar(&self, task: &TaskId, worker: &str, start: Duration) -> Option<TaskBar> {
        let (job, stage) = self.place(task)?;
        let worker = self.workers.get(worker)?.number;
        Some(TaskBar { worker, job, stage, start, end: None, outcome: TaskOutcome::Done })
    }

    /// Returns what is noted of a worker.
    pub(crate) fn worker(&self, name: &str) -> Option<&WorkerRecord> {
        self.workers.get(name)
    }

    /// Returns what is noted of the jobs that run, by their ids.
    pub(crate) fn running(&self, now: Duration) -> impl Iterator<Item = (&str, JobView)> {
        let view = move |job: &JobRecord| job.view(None, now.saturating_sub(job.begun));
        self.jobs.iter().map(move |(id, job)| (id.as_str(), view(job)))
    }

    /// Returns a snapshot without workers and running jobs, which the scheduler knows better.
    pub(crate) fn snapshot(&mut self, wanted: SnapshotWanted, now: Duration) -> ClusterSnapshot {
        if self.watched.load(Ordering::Relaxed) {
            self.recording_since.get_or_insert(now);
        } else {
            self.recording_since = None;
        }
        ClusterSnapshot {
            up: now,
            begun_at: self.begun_at,
            ended: self.ended.iter().cloned().collect(),
            totals: self.totals,
            last_event: self.events.last(),
            events: newest(&self.events, wanted.events_since, wanted.events),
            last_bar: self.bars.last(),
            bars: newest(&self.bars, wanted.bars_since, wanted.bars),
            recording_since: self.recording_since,
            ..ClusterSnapshot::default()
        }
    }
}

/// Returns the newest `count` things with numbers above `since`.
fn newest<T: Clone>(ring: &Ring<T>, since: u64, count: usize) -> Vec<(u64, T)> {
    let since = since.max(ring.last().saturating_sub(count as u64));
    ring.since(since).map(|(number, thing)| (number, thing.clone())).collect()
}

#[cfg(test)]
mod tests;
