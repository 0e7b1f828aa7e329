//! What the coordinator is told and asked.

use std::sync::Arc;
use std::time::Duration;

use dataframe_engine::PlannedTask;
use dataframe_jobs::failure::Failure;
use dataframe_jobs::message::{Finished, Progress, TaskId, WorkerStatus};
use dataframe_jobs::operation::Operation;
use dataframe_jobs::scheduler::SchedulerEvent;
use tokio::sync::{mpsc, oneshot, watch};

use super::call::{TaskNews, TaskOutput};
use super::snapshot::{ClusterSnapshot, SnapshotWanted};

/// Task, worker and attempt whose result counts, in the order of the tasks.
pub(crate) type Places = Vec<(u32, String, u32)>;

/// What the coordinator is told and asked.
pub(crate) enum Command {
    /// Something happened to a worker, or somebody wants to change the workers.
    Worker(SchedulerEvent, oneshot::Sender<Result<Standing, Failure>>),
    /// A worker of this name has so many bytes in memory.
    Memory { worker: String, bytes: u64 },
    /// The page or a monitor looks.
    Observe(SnapshotWanted, oneshot::Sender<ClusterSnapshot>),
    /// Who is there?
    Nodes(oneshot::Sender<Vec<WorkerStatus>>),
    /// Somebody wants to hear of each change of the workers.
    Watch(oneshot::Sender<watch::Receiver<Vec<WorkerStatus>>>),
    /// Somebody wants a job. Its state is given back, whether it runs already or begins now.
    Submit(JobOrder, oneshot::Sender<watch::Receiver<JobStatus>>),
    /// Somebody gives a job up.
    Cancel(String),
    /// How many tasks can run at a time, and with which round a job is planned next.
    Outlook { job: String, answer: oneshot::Sender<(usize, u32)> },
    /// A job has been cut into tasks.
    Planned(PlannedRound),
    /// Something happened to an attempt at a task.
    Task(TaskId, TaskNews),
    /// A job has ended.
    Ended { job: String, outcome: Result<Finished, Failure> },
}

/// The answer to a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The worker gets tasks.
    Member,
    /// The worker finishes what it has and leaves.
    Draining,
}

/// A job that has been cut into tasks.
pub(crate) struct PlannedRound {
    pub(crate) job: String,
    pub(crate) round: u32,
    pub(crate) tasks: Arc<[PlannedTask]>,
    pub(crate) wait: Duration,
    /// Gets the result of each task once.
    pub(crate) results: mpsc::UnboundedSender<(u32, TaskOutput)>,
    /// Gets the places of the tasks when all results are there, or why there will be none.
    pub(crate) ended: oneshot::Sender<Result<Places, Failure>>,
}

/// The state of a job.
#[derive(Debug, Clone)]
pub(crate) enum JobStatus {
    Running(Progress),
    Done(Finished),
    Failed(Failure),
}

/// What a client wants.
pub(crate) enum JobOrder {
    /// A frame.
    Compute {
        /// The client's id.
        job: String,
        /// What to compute.
        operations: Vec<Operation>,
        /// How long to wait for workers.
        wait: Duration,
        /// Whether the plan is wanted, in place of the rows.
        explain: bool,
    },
    /// Empty tasks.
    Probe {
        /// The client's id.
        job: String,
        /// How many.
        tasks: u32,
    },
}

impl JobOrder {
    /// The client's id.
    pub(crate) fn job(&self) -> &str {
        match self {
            JobOrder::Compute { job, .. } | JobOrder::Probe { job, .. } => job,
        }
    }
}
