//! Jobs that wait, and answers that wait to be told.

use std::mem;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::work::{Stopped, Work};

/// Tells one caller its outcome.
type Caller<W> = oneshot::Sender<Result<<W as Work>::Outcome, Stopped<<W as Work>::Failure>>>;

/// What the lock of a batcher protects.
pub struct JobQueue<W: Work> {
    waiting: JobBatch<W>,
    /// Outcomes that the answerer has not told yet.
    pub answers: Vec<Answers<W>>,
    /// The worker's thread runs, and takes what is queued when it is done with its batch.
    pub is_running: bool,
    /// No job is taken any more.
    pub is_closed: bool,
    /// When the work has something to do without a job.
    pub idle_at: Option<Instant>,
}

/// Jobs that are run together, and who waits for them.
pub struct JobBatch<W: Work> {
    pub jobs: Vec<W::Job>,
    pub callers: Vec<Caller<W>>,
    pub weight: usize,
}

impl<W: Work> JobBatch<W> {
    fn new() -> Self {
        Self { jobs: Vec::new(), callers: Vec::new(), weight: 0 }
    }
}

impl<W: Work> JobQueue<W> {
    pub fn new() -> Self {
        Self {
            waiting: JobBatch::new(),
            answers: Vec::new(),
            is_running: false,
            is_closed: false,
            idle_at: None,
        }
    }

    /// Adds a job, and returns whether somebody has to start the worker for it.
    pub fn push(&mut self, job: W::Job, weight: usize, caller: Caller<W>) -> bool {
        self.waiting.jobs.push(job);
        self.waiting.callers.push(caller);
        self.waiting.weight += weight;
        !self.is_running && self.len() == 1
    }

    pub fn len(&self) -> usize {
        self.waiting.jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.jobs.is_empty()
    }

    /// Takes all jobs that wait.
    pub fn take_batch(&mut self) -> JobBatch<W> {
        // The next batch is likely to be as large as this one.
        let count = self.waiting.jobs.len();
        let next =
            JobBatch { jobs: Vec::with_capacity(count), callers: Vec::with_capacity(count), weight: 0 };
        mem::replace(&mut self.waiting, next)
    }

    /// Closes the queue and drops its jobs: their callers learn that they are not done.
    pub fn fail(&mut self) {
        self.is_closed = true;
        self.idle_at = None;
        self.waiting = JobBatch::new();
    }
}

/// The outcomes of a batch, in the order of its callers.
pub struct Answers<W: Work> {
    pub callers: Vec<Caller<W>>,
    pub outcomes: Vec<W::Outcome>,
    /// What callers without an outcome are told.
    pub otherwise: Stopped<W::Failure>,
}

impl<W: Work> Answers<W> {
    pub fn tell(self) {
        let mut outcomes = self.outcomes.into_iter();
        for caller in self.callers {
            let outcome = outcomes.next().ok_or_else(|| self.otherwise.clone());
            // A caller that has gone away needs no answer.
            let _ = caller.send(outcome);
        }
    }
}
