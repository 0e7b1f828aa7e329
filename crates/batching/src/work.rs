//! What a user of this crate writes and chooses.

use std::sync::Arc;
use std::time::Instant;

/// What is done with jobs, a batch at a time.
pub trait Work: Send + 'static {
    /// What a caller wants done.
    type Job: Send + 'static;
    /// What the caller is told.
    type Outcome: Send + 'static;
    /// Why nothing more can be done, ever.
    type Failure: Send + Sync + 'static;

    /// The name of the worker's thread.
    const NAME: &'static str;

    /// Returns how much of the [`Batcher`](crate::Batcher)'s capacity the job takes until it has been run.
    fn weight(job: &Self::Job) -> usize;

    /// Runs `jobs`, and pushes one outcome for each of them, in their order.
    ///
    /// # Errors
    /// If nothing more can be done. Jobs without an outcome are told so, and no other batch is run.
    fn run_batch(
        &mut self,
        jobs: Vec<Self::Job>,
        outcomes: &mut Vec<Self::Outcome>,
    ) -> Result<(), Self::Failure>;

    /// Does what is due without a job. Called at the start, after each batch, and at the moment that it returned last.
    ///
    /// # Errors
    /// If nothing more can be done.
    fn idle(&mut self) -> Result<Option<Instant>, Self::Failure> {
        Ok(None)
    }
}

/// Where the work is run. The queue is the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// On a thread of its own: the runtime goes on meanwhile.
    Thread,
    /// On a thread of its own, except for a job that comes alone: to hand it over and back would take as long again as a
    /// fast disk does. After a job that took long, the next ones are handed over.
    ThreadUnlessAlone,
    /// On the runtime's own thread, which every batch holds up. For work that is always short, and for simulations, in
    /// which time stands still meanwhile, so that nothing depends on how fast a thread is.
    Inline,
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum Stopped<F> {
    /// The work has failed, and does nothing more.
    #[error("{0}")]
    Failed(Arc<F>),
    /// The batcher was closed.
    #[error("it is closed")]
    Closed,
}

impl<F> Clone for Stopped<F> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(failure.clone()),
            Self::Closed => Self::Closed,
        }
    }
}
