//! All assignments: one queue and one worker for many callers, a whole batch of jobs at a time.
//!
//! Callers [`submit`](Batcher::submit) jobs and wait. The worker takes all jobs that have gathered, runs them together,
//! and takes the jobs that have come meanwhile. So whatever a batch costs once, such as a sync of a file, is shared by all
//! who wait for it. There is no timer: a job that comes alone is run at once.
//!
//! | piece | what it does |
//! | --- | --- |
//! | [`Work`] | what is done with a batch: the only part that a user of this crate writes |
//! | [`Batcher`] | the callers' side: submit, wait, close, learn of a failure |
//! | [`Executor`] | where the work runs: on a thread, inline, or on a thread unless a job is alone |
//! | [`FailureSignal`] | the one failure after which nothing more is done |
//!
//! Two tasks stand between the callers and a worker on a thread, so that a batch costs each side one wake-up and not one
//! for each job: the *starter* wakes the worker once every task that was ready has had its turn to join, and the *answerer*
//! tells the callers the outcomes.

mod failure;
mod queue;
mod work;

use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, oneshot, watch};

pub use failure::FailureSignal;
use queue::{Answers, JobQueue};
pub use work::{Executor, Stopped, Work};

/// After a batch on the runtime's own thread that took longer than this, the next one is left to the worker's thread.
const ALONE_LIMIT: Duration = Duration::from_millis(2);

/// A queue of jobs and its worker. Clones share them; both end when the last clone is gone.
pub struct Batcher<W: Work> {
    handle: Arc<CloseOnDrop<W>>,
}

impl<W: Work> Clone for Batcher<W> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<W: Work> fmt::Debug for Batcher<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("work", &W::NAME).finish_non_exhaustive()
    }
}

struct CloseOnDrop<W: Work>(Arc<BatcherState<W>>);

impl<W: Work> Drop for CloseOnDrop<W> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What callers, tasks and the worker share.
struct BatcherState<W: Work> {
    queue: Mutex<JobQueue<W>>,
    /// `None` once the worker has ended.
    work: Mutex<Option<W>>,
    /// For the starter: the queue has its first job, or was closed.
    started: Notify,
    /// For the worker's thread: `JobQueue::is_running` was set, or the queue was closed.
    wake: Condvar,
    /// For the answerer: there are answers, or the worker has ended.
    answered: Notify,
    room: Semaphore,
    capacity: usize,
    failure: FailureSignal<W::Failure>,
    ended: watch::Sender<bool>,
}

/// A job that was submitted and whose outcome is not known yet.
pub struct PendingOutcome<W: Work> {
    outcome: oneshot::Receiver<Result<W::Outcome, Stopped<W::Failure>>>,
    state: Arc<BatcherState<W>>,
}

impl<W: Work> PendingOutcome<W> {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// [`Stopped`]: the job was not done, or nobody can say whether it was.
    pub async fn outcome(self) -> Result<W::Outcome, Stopped<W::Failure>> {
        self.outcome.await.unwrap_or_else(|_| Err(self.state.why_stopped()))
    }
}

impl<W: Work> Batcher<W> {
    /// Starts the worker, and its tasks on the present runtime. Jobs whose weights sum up to more than `capacity` wait in
    /// their callers. Made for current-thread runtimes.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if the system has no thread left.
    #[must_use]
    pub fn start(executor: Executor, capacity: usize, work: W) -> Self {
        let state = Arc::new(BatcherState {
            queue: Mutex::new(JobQueue::new()),
            work: Mutex::new(Some(work)),
            started: Notify::new(),
            wake: Condvar::new(),
            answered: Notify::new(),
            room: Semaphore::new(capacity),
            capacity,
            failure: FailureSignal::default(),
            ended: watch::Sender::new(false),
        });
        let end = EndOnDrop(state.clone());
        if executor == Executor::Inline {
            tokio::spawn(run_inline(end));
        } else {
            let thread = std::thread::Builder::new().name(W::NAME.to_owned());
            thread
                .spawn(move || end.0.run_on_thread())
                .expect("a program at its start can have one more thread");
            tokio::spawn(start_batches(CloseOnDrop(state.clone()), executor));
            tokio::spawn(answer_callers(state.clone()));
        }
        Self { handle: Arc::new(CloseOnDrop(state)) }
    }

    /// Puts `job` in the queue, once there is room for it, in the order of the calls.
    ///
    /// # Errors
    /// [`Stopped`]: the job is not done.
    pub async fn enqueue(&self, job: W::Job) -> Result<PendingOutcome<W>, Stopped<W::Failure>> {
        let state = &self.handle.0;
        let weight = W::weight(&job).min(state.capacity);
        let permits = u32::try_from(weight).unwrap_or(u32::MAX);
        let room = state.room.acquire_many(permits).await.map_err(|_| state.why_stopped())?;
        // The permits are given back when the job has been run.
        room.forget();
        let (caller, outcome) = oneshot::channel();
        let is_first = {
            let mut queue = state.lock_queue();
            if queue.is_closed {
                return Err(state.why_stopped());
            }
            queue.push(job, weight, caller)
        };
        if is_first {
            state.started.notify_one();
        }
        Ok(PendingOutcome { outcome, state: state.clone() })
    }

    /// Puts `job` in the queue and waits for its outcome.
    ///
    /// # Errors
    /// [`Stopped`]: the job was not done, or nobody can say whether it was.
    pub async fn submit(&self, job: W::Job) -> Result<W::Outcome, Stopped<W::Failure>> {
        self.enqueue(job).await?.outcome().await
    }

    /// The failure after which nothing more is done.
    #[must_use]
    pub fn failure(&self) -> &FailureSignal<W::Failure> {
        &self.handle.0.failure
    }

    /// Runs what is queued, drops the work, and returns when that is done. Later jobs are refused.
    pub async fn close(&self) {
        self.handle.0.close();
        let mut ended = self.handle.0.ended.subscribe();
        // It cannot fail: `self` holds the other side.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl<W: Work> BatcherState<W> {
    fn lock_queue(&self) -> MutexGuard<'_, JobQueue<W>> {
        lock(&self.queue)
    }

    fn close(&self) {
        self.lock_queue().is_closed = true;
        self.wake.notify_one();
        self.started.notify_one();
    }

    fn why_stopped(&self) -> Stopped<W::Failure> {
        self.failure.get().map_or(Stopped::Closed, Stopped::Failed)
    }

    /// Runs all jobs that are queued, and returns what to tell their callers.
    fn run_queued(&self) -> Answers<W> {
        let batch = self.lock_queue().take_batch();
        let mut outcomes = Vec::with_capacity(batch.jobs.len());
        self.with_work(|work| work.run_batch(batch.jobs, &mut outcomes));
        self.room.add_permits(batch.weight);
        Answers { callers: batch.callers, outcomes, otherwise: self.why_stopped() }
    }

    /// Does what is due without a job.
    fn run_idle(&self) {
        let mut idle_at = None;
        self.with_work(|work| {
            idle_at = work.idle()?;
            Ok(())
        });
        self.lock_queue().idle_at = idle_at;
    }

    fn with_work(&self, run: impl FnOnce(&mut W) -> Result<(), W::Failure>) {
        let ran = lock(&self.work).as_mut().map_or(Ok(()), run);
        if let Err(failure) = ran {
            self.failure.set(failure);
            self.room.close();
            self.lock_queue().fail();
            self.close();
        }
    }

    /// The worker's thread.
    fn run_on_thread(&self) {
        self.run_idle();
        loop {
            match self.wait_for_work() {
                Next::Batch => {
                    let answers = self.run_queued();
                    self.lock_queue().answers.push(answers);
                    self.answered.notify_one();
                    self.run_idle();
                }
                Next::Idle => self.run_idle(),
                Next::End => return,
            }
        }
    }

    fn wait_for_work(&self) -> Next {
        let mut queue = self.lock_queue();
        loop {
            if (queue.is_running || queue.is_closed) && !queue.is_empty() {
                return Next::Batch;
            }
            queue.is_running = false;
            if queue.is_closed {
                return Next::End;
            }
            let Some(idle_at) = queue.idle_at else {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let wait = idle_at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Next::Idle;
            }
            queue = self.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What the worker's thread does next.
enum Next {
    /// Run what is queued.
    Batch,
    /// Do what is due without a job.
    Idle,
    /// End: the queue is closed and empty.
    End,
}

/// Runs batches on the runtime's own thread.
async fn run_inline<W: Work>(end: EndOnDrop<W>) {
    let state = &end.0;
    state.run_idle();
    loop {
        let idle_at = state.lock_queue().idle_at;
        let due = async {
            match idle_at {
                Some(idle_at) => tokio::time::sleep_until(idle_at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = state.started.notified() => {}
            () = due => {}
        }
        // Every task that is ready to submit joins this batch.
        tokio::task::yield_now().await;
        if !state.lock_queue().is_empty() {
            state.run_queued().tell();
        }
        state.run_idle();
        let queue = state.lock_queue();
        if queue.is_closed && queue.is_empty() {
            return;
        }
    }
}

/// Wakes the worker's thread whenever it rests and there is something to run. A job that is alone is run here, if
/// `executor` says so and the last one did not take long.
async fn start_batches<W: Work>(state: CloseOnDrop<W>, executor: Executor) {
    let state = &state.0;
    let mut last_alone = Duration::ZERO;
    loop {
        state.started.notified().await;
        // Every task that is ready to submit joins this batch.
        tokio::task::yield_now().await;
        let mut queue = state.lock_queue();
        if queue.is_closed {
            return;
        }
        let may_run_here = executor == Executor::ThreadUnlessAlone && last_alone <= ALONE_LIMIT;
        if queue.len() != 1 || !may_run_here {
            last_alone = Duration::ZERO;
            queue.is_running = !queue.is_empty();
            state.wake.notify_one();
            continue;
        }
        drop(queue);
        let started = Instant::now();
        state.run_queued().tell();
        last_alone = started.elapsed();
        state.run_idle();
        if state.lock_queue().idle_at.is_some() {
            state.wake.notify_one();
        }
    }
}

/// Tells callers, on the runtime's own thread, what the worker has done.
async fn answer_callers<W: Work>(state: Arc<BatcherState<W>>) {
    loop {
        state.answered.notified().await;
        // In this order: the worker leaves its last answers before it ends.
        let ended = *state.ended.borrow();
        let answers = mem::take(&mut state.lock_queue().answers);
        answers.into_iter().for_each(Answers::tell);
        if ended {
            return;
        }
    }
}

/// Held by whoever runs the work: however that ends, nobody waits for it any longer.
struct EndOnDrop<W: Work>(Arc<BatcherState<W>>);

impl<W: Work> Drop for EndOnDrop<W> {
    fn drop(&mut self) {
        self.0.lock_queue().fail();
        lock(&self.0.work).take();
        self.0.room.close();
        self.0.ended.send_replace(true);
        self.0.answered.notify_one();
    }
}

/// Locks `mutex`. Nothing that holds these locks can panic half-way through a change; work that panicked is not used again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
