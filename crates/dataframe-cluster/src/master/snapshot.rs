//! A master's cluster at one moment, as the page and monitors get it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::WorkerStatus;
use dataframe_jobs::scheduler::{GoneCause, LossCause};

/// The cluster at one moment. Times count from when this master took the lead.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterSnapshot {
    pub(crate) up: Duration,
    pub(crate) begun_at: DateTime<Utc>,
    /// The slots of all workers that get tasks.
    pub(crate) slots: usize,
    /// In the order of their names.
    pub(crate) workers: Vec<WorkerView>,
    /// In the order in which they came.
    pub(crate) running: Vec<JobView>,
    /// The newest first.
    pub(crate) ended: Vec<JobView>,
    pub(crate) totals: LedgerTotals,
    pub(crate) last_event: u64,
    pub(crate) events: Vec<(u64, TimedNews)>,
    pub(crate) last_bar: u64,
    pub(crate) bars: Vec<(u64, TaskBar)>,
    /// Attempts that have not ended, the newest first.
    pub(crate) open: Vec<TaskBar>,
    /// Since when all bars were noted.
    pub(crate) recording_since: Option<Duration>,
    /// What waits for the coordinator.
    pub(crate) commands_waiting: usize,
}

impl ClusterSnapshot {
    /// The tasks that workers have.
    pub(crate) fn tasks_running(&self) -> u64 {
        self.running.iter().map(|job| u64::from(job.tasks_running)).sum()
    }

    /// The tasks that wait for a worker.
    pub(crate) fn tasks_waiting(&self) -> u64 {
        self.running.iter().map(|job| u64::from(job.tasks_waiting)).sum()
    }
}

/// How many newest events and bars a snapshot has, and above which numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SnapshotWanted {
    pub(crate) events_since: u64,
    pub(crate) events: usize,
    pub(crate) bars_since: u64,
    pub(crate) bars: usize,
}

/// What was counted since this master took the lead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LedgerTotals {
    pub(crate) jobs_done: u64,
    pub(crate) jobs_failed: u64,
    pub(crate) tasks_done: u64,
    pub(crate) tasks_failed: u64,
    pub(crate) tasks_lost: u64,
}

/// One worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerView {
    /// Stands for its name in bars; 0 if it has none.
    pub(crate) number: u32,
    pub(crate) status: WorkerStatus,
    pub(crate) resident_bytes: Option<u64>,
    /// Why it is lost, if it is.
    pub(crate) cause: Option<GoneCause>,
    /// Attempts that were lost at it.
    pub(crate) lost: u64,
    /// The same, in the last ten minutes.
    pub(crate) lost_recently: usize,
}

/// One job.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobView {
    /// The first job of this lead is 1.
    pub(crate) number: u64,
    pub(crate) operations: Vec<&'static str>,
    /// Of each stage: tasks that are done, and all.
    pub(crate) stages: Vec<(u32, u32)>,
    /// Attempts that were lost.
    pub(crate) lost: u64,
    pub(crate) took: Duration,
    /// What became of it, if it has ended.
    pub(crate) end: Option<JobEnd>,
    /// Whether it waits for a worker.
    pub(crate) is_waiting: bool,
    pub(crate) tasks_running: u32,
    pub(crate) tasks_waiting: u32,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// It has a result of so many rows.
    Done(u64),
    /// It failed.
    Failed(FailureCode),
}

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimedNews {
    pub(crate) at: Duration,
    pub(crate) worker: Option<String>,
    pub(crate) job: Option<u64>,
    pub(crate) news: ClusterNews,
}

/// Something that happened to the cluster, with its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterNews {
    /// This master has taken the lead over, which is the one of this number.
    TookLead(u64),
    /// A worker has come.
    Joined,
    /// A worker that was lost has come back.
    Back,
    /// A worker has come back as another run of it.
    Restarted,
    /// A worker gets no more tasks, and had so many.
    Gone { cause: GoneCause, tasks: u64 },
    /// An attempt at a task was lost.
    TaskLost(LossCause),
    /// A job has come.
    Submitted,
    /// A job has ended with so many rows.
    Finished(u64),
    /// A job has failed.
    Failed(FailureCode),
}

impl ClusterNews {
    /// Returns in one word what happened.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::TookLead(_) => "took-lead",
            Self::Joined => "joined",
            Self::Back => "back",
            Self::Restarted => "restarted",
            Self::Gone { cause: GoneCause::Silent | GoneCause::Unreachable, .. } => "lost",
            Self::Gone { .. } => "gone",
            Self::TaskLost(_) => "task-lost",
            Self::Submitted => "submitted",
            Self::Finished(_) => "finished",
            Self::Failed(_) => "failed",
        }
    }

    /// Returns the cause in one word, if it has one.
    pub(crate) fn cause(self) -> Option<&'static str> {
        match self {
            Self::Gone { cause, .. } => Some(cause.word()),
            Self::TaskLost(cause) => Some(cause.word()),
            Self::Failed(code) => Some(code.word()),
            _ => None,
        }
    }

    /// Returns the number that belongs to it, if one does: tasks, rows, or the number of the lead.
    pub(crate) fn count(self) -> Option<u64> {
        match self {
            Self::TookLead(count) | Self::Finished(count) | Self::Gone { tasks: count, .. } => Some(count),
            _ => None,
        }
    }
}

/// An attempt at a task, as a bar of the task stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskBar {
    /// The number of its worker.
    pub(crate) worker: u32,
    /// The number of its job.
    pub(crate) job: u64,
    /// The stage of its job, from 1.
    pub(crate) stage: u32,
    pub(crate) start: Duration,
    /// When it ended, if it has.
    pub(crate) end: Option<Duration>,
    /// What became of it, if it has ended.
    pub(crate) outcome: TaskOutcome,
}

/// How an attempt at a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskOutcome {
    /// Its result is used.
    Done,
    /// Its result came after another one.
    Discarded,
    /// The data, a file or the memory made it fail, and the job with it.
    Failed,
    /// It was lost, and the task is started again.
    Lost,
    /// It was not needed any more.
    Stopped,
}

impl TaskOutcome {
    /// All outcomes.
    pub(crate) const ALL: [Self; 5] = [Self::Done, Self::Discarded, Self::Failed, Self::Lost, Self::Stopped];

    /// Returns the outcome in one word for programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Discarded => "discarded",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Stopped => "stopped",
        }
    }
}
