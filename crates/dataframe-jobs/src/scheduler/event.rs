//! What happens to a scheduler, and what it answers.

use std::time::Duration;

use crate::failure::Failure;
use crate::message::{TaskId, WorkerInfo};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerEvent {
    /// A worker offers itself, or was called by `nodes add` (`invited`). It is taken in unless a [`SchedulerAction::Refuse`] follows.
    WorkerJoined {
        /// Who it is.
        worker: WorkerInfo,
        /// Whether a person asked for it, so that an earlier removal is forgotten.
        invited: bool,
    },
    /// A worker is there. One that is not known, because it was lost or the master has begun again, joins by this.
    WorkerHeartbeat {
        /// Who it is.
        worker: WorkerInfo,
        /// What it runs. This renews the leases of these attempts.
        running: Vec<TaskId>,
    },
    /// A worker ends of its own will. Its tasks start elsewhere, and nothing counts as a death.
    WorkerLeft {
        /// Its name.
        worker: String,
        /// Its run. The event of an earlier run is ignored.
        incarnation: String,
    },
    /// A worker cannot be reached or its connection broke. Its tasks start elsewhere at once.
    WorkerLost {
        /// Its name.
        worker: String,
        /// Its run, where it is known. The event of an earlier run is ignored.
        incarnation: Option<String>,
        /// What was seen: part of what people are told.
        why: String,
    },
    /// A person removes a worker at once.
    Remove {
        /// Name or address.
        worker: String,
    },
    /// A person wants a worker to finish its tasks, to get no other one, and to go.
    Drain {
        /// Name or address.
        worker: String,
    },
    /// A job's plan is there. A job that is planned again (its types were widened, or it failed and is sent again) has a
    /// higher round than before.
    JobPlanned {
        /// The job.
        job: String,
        /// Which planning of the job.
        round: u32,
        /// Its tasks: the number of a task is its place here.
        tasks: Vec<TaskSpec>,
        /// How long the job waits while there is no worker for it.
        wait: Duration,
    },
    /// The client gives its job up.
    JobCancelled {
        /// The job.
        job: String,
    },
    /// A worker has begun a task. With a shared queue this tells who took it. It comes twice if a broker delivers a task again.
    Started {
        /// Which attempt.
        task: TaskId,
        /// The worker's name.
        worker: String,
    },
    /// A worker is still at a task.
    Alive {
        /// Which attempt.
        task: TaskId,
    },
    /// All pieces of a result have come.
    ResultComplete {
        /// Which attempt.
        task: TaskId,
        /// Whose result it is.
        worker: String,
    },
    /// A worker says that a task failed.
    TaskFailed {
        /// Which attempt.
        task: TaskId,
        /// Who says so.
        worker: String,
        /// What it says.
        failure: Failure,
    },
    /// The request did not get through or the stream of its reply broke.
    TaskLost {
        /// Which attempt.
        task: TaskId,
        /// Which worker had it; `None` means each worker that has this attempt.
        worker: Option<String>,
        /// What was seen.
        why: String,
    },
    /// The process that a worker had started for a task died, and the worker did not.
    TaskDied {
        /// Which attempt.
        task: TaskId,
        /// The worker that had started the process.
        worker: String,
        /// What was seen.
        why: String,
    },
    /// Time has passed.
    Tick,
}

/// What the driver of a scheduler does, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerAction {
    /// A worker was taken in: newly, again, or as a new run of its name.
    Admit {
        /// Its name.
        worker: String,
        /// Its run.
        incarnation: String,
    },
    /// The event is refused: a worker at the door, or a `Remove` or `Drain` of a worker that is not there. An event about workers that is
    /// followed by no `Refuse` is accepted.
    Refuse {
        /// Name of the worker, or what was asked for.
        worker: String,
        /// Why, and what to do.
        failure: Failure,
    },
    /// Answers the heartbeat of a worker that is drained: it is to take no more tasks from a shared queue, and to leave when it has none.
    TellDraining {
        /// Its name.
        worker: String,
    },
    /// A worker gets no more tasks: it is lost, it left, it was removed, or it is drained. Its attempts have been given up:
    /// the driver forgets their streams.
    WorkerGone {
        /// Its name.
        worker: String,
        /// Its run.
        incarnation: String,
        /// Why.
        cause: GoneCause,
        /// Why, for the log.
        why: String,
    },
    /// Send a task.
    Send {
        /// Which attempt.
        task: TaskId,
        /// To whom.
        to: Recipient,
    },
    /// Tell a worker that an attempt is not needed any more, and forget its stream. The worker may be unable to hear it.
    Stop {
        /// Which attempt.
        task: TaskId,
        /// The worker's name.
        worker: String,
    },
    /// The result that has just come is the first one of its task: it counts.
    UseResult {
        /// Which attempt.
        task: TaskId,
        /// Whose result.
        worker: String,
    },
    /// The result that has just come is not needed. A copy that counted before stays.
    DiscardResult {
        /// Which attempt.
        task: TaskId,
        /// Whose result.
        worker: String,
    },
    /// The results of all tasks are there.
    JobDone {
        /// The job.
        job: String,
        /// Its round.
        round: u32,
        /// Task, worker and attempt whose result counts, in the order of the tasks.
        places: Vec<(u32, String, u32)>,
    },
    /// The job ends without a result.
    JobFailed {
        /// The job.
        job: String,
        /// Its round.
        round: u32,
        /// Why.
        failure: Failure,
    },
    /// A planned job is not taken: there are too many, it has too many tasks, or this round of it is known. A job of the
    /// same name that runs is not touched.
    JobRefused {
        /// The job.
        job: String,
        /// Its round.
        round: u32,
        /// Why.
        failure: Failure,
    },
}

/// Who gets a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recipient {
    /// This worker: called directly, or through its own queue.
    Worker(String),
    /// The worker that is free first, through the shared queue.
    AnyWorker,
}

/// What the scheduler knows of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskSpec {
    /// The only worker that has its file. The task waits for that worker.
    pub pinned: Option<String>,
    /// A worker that has its file nearby. Another one gets the task if that one is busy.
    pub prefers: Option<String>,
    /// Whether only a worker that runs WebAssembly modules can run it.
    pub wasm: bool,
    /// How much it reads.
    pub bytes: u64,
}

/// Why a worker gets no more tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GoneCause {
    /// It gave no sign of life for too long.
    Silent,
    /// It cannot be reached, or its connection broke.
    Unreachable,
    /// It ended of its own will.
    Left,
    /// A person removed it.
    Removed,
    /// A person drained it, and it has finished its tasks.
    Drained,
    /// Another run has its name.
    Replaced,
}

impl GoneCause {
    /// All causes.
    pub const ALL: [Self; 6] =
        [Self::Silent, Self::Unreachable, Self::Left, Self::Removed, Self::Drained, Self::Replaced];

    /// Returns the cause in one word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Unreachable => "unreachable",
            Self::Left => "left",
            Self::Removed => "removed",
            Self::Drained => "drained",
            Self::Replaced => "replaced",
        }
    }
}

/// An attempt that was given up without a result, although its result was still wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptLoss {
    /// Which attempt.
    pub task: TaskId,
    /// Where it was lost; `None` if no worker had it.
    pub worker: Option<String>,
    /// Why.
    pub cause: LossCause,
}

/// Why an attempt was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossCause {
    /// Its worker is gone.
    WorkerGone,
    /// There was no sign of life until its lease ended.
    LeaseEnded,
    /// The request did not get through, or the reply broke off.
    ReplyBroken,
    /// Its worker gave it back, or refused it.
    GivenBack,
    /// The process died that its worker had started for it.
    ProcessDied,
    /// It stood in the shared queue, and nobody took it, although workers were free.
    NotTaken,
}

impl LossCause {
    /// All causes.
    pub const ALL: [Self; 6] = [
        Self::WorkerGone,
        Self::LeaseEnded,
        Self::ReplyBroken,
        Self::GivenBack,
        Self::ProcessDied,
        Self::NotTaken,
    ];

    /// Returns the cause in one word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::WorkerGone => "worker-gone",
            Self::LeaseEnded => "lease-ended",
            Self::ReplyBroken => "reply-broken",
            Self::GivenBack => "given-back",
            Self::ProcessDied => "process-died",
            Self::NotTaken => "not-taken",
        }
    }
}
