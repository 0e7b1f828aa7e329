//! Group commit: many writers, one file, one `fdatasync` for all who wait.
//!
//! Writers put their records in a queue and wait. The committer, a thread of its own, takes the whole queue, writes
//! and syncs it, and takes what has come meanwhile, until the queue is empty. There is no timer anywhere.
//!
//! Two tasks stand between it and the writers, so that a round costs each side one wake-up and not one a writer: the
//! starter wakes the committer once every task that was ready has had its turn to join, and the answerer tells the
//! writers what became of their records. A writer that is alone is served by the starter itself, on the runtime's own
//! thread: to hand its record to the committer and back would take it as long again as a fast disk does.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, oneshot, watch};

use crate::file::{Failure, JournalFile};
use crate::record::Batch;

/// Bytes that may wait to be written; writers beyond it wait their turn.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Memory that a queue keeps between rounds, in bytes.
const KEPT_QUEUE_BYTES: usize = 1024 * 1024;
/// After a commit on the runtime's own thread that took longer than this, the next one is left to the committer.
const ALONE_LIMIT: Duration = Duration::from_millis(2);

/// A record that is not on disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// There is no room for it; a later one may fit.
    #[error("{0}")]
    NoSpace(Arc<Failure>),
    /// The journal has failed and takes nothing more; the program has to stop.
    #[error("{0}")]
    Fatal(Arc<Failure>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

/// What runs the committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// A thread of its own: the runtime goes on while the disk works.
    Thread,
    /// The runtime's own thread, which every commit holds up. For simulations, whose time stands still meanwhile, so
    /// that nothing depends on how fast a thread is. Everything else is the same.
    Inline,
}

/// A file that many tasks append to. Clones share it.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Handle>,
}

/// Closes the journal when the last clone of it is gone.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl std::ops::Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// `None` once the committer has ended: the file then belongs to nobody.
    file: Mutex<Option<JournalFile>>,
    /// For the starter: the queue has its first record, or was closed.
    started: Notify,
    /// For the committer: `Queue::committing` was set, or the queue was closed.
    wake: Condvar,
    /// For the answerer: there are answers, or the committer has ended.
    answered: Notify,
    room: Semaphore,
    failure: watch::Sender<Option<Arc<Failure>>>,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    round: Round,
    /// An emptied round, for its memory.
    spare: Round,
    answers: Vec<Answer>,
    /// The committer works, and takes what is put in the queue when it is done with its round.
    committing: bool,
    closed: bool,
}

/// What is written and synced together.
#[derive(Debug, Default)]
struct Round {
    bytes: Vec<u8>,
    writers: Vec<Writer>,
}

#[derive(Debug)]
struct Writer {
    /// Where its records start within the round.
    start: usize,
    done: oneshot::Sender<Result<u64, AppendError>>,
}

#[derive(Debug)]
struct Answer {
    writers: Vec<Writer>,
    outcome: Result<u64, AppendError>,
}

impl Journal {
    /// Starts the committer of `file`, and its two tasks on the present runtime. Made for current-thread runtimes.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if the system has no thread left.
    #[must_use]
    pub fn start(file: JournalFile) -> Self {
        Self::start_on(Executor::Thread, file)
    }

    /// The same, with the committer on the given executor.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_on(executor: Executor, file: JournalFile) -> Self {
        let (journal, committer) = Self::new(file);
        let shared = committer.0.clone();
        let inline = match executor {
            Executor::Thread => {
                let thread = std::thread::Builder::new().name("journal".to_owned());
                thread
                    .spawn(move || committer.run())
                    .expect("a program at its start can have one more thread");
                None
            }
            Executor::Inline => Some(committer),
        };
        tokio::spawn(start_rounds(shared.clone(), inline));
        tokio::spawn(answer_writers(shared));
        journal
    }

    fn new(file: JournalFile) -> (Self, Committer) {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            file: Mutex::new(Some(file)),
            started: Notify::new(),
            wake: Condvar::new(),
            answered: Notify::new(),
            room: Semaphore::new(QUEUE_BYTES),
            failure: watch::Sender::new(None),
            ended: watch::Sender::new(false),
        });
        let committer = Committer(shared.clone());
        (Self { shared: Arc::new(Handle(shared)) }, committer)
    }

    /// Appends the records of `batch`, all or none of them, and returns when they are on disk: the offset in the file
    /// of the first one. Records of one caller after the other keep their order.
    ///
    /// # Errors
    /// [`AppendError`]; the records are then not acknowledged and, unless the failure is fatal, not in the file.
    pub async fn append(&self, batch: &Batch) -> Result<u64, AppendError> {
        let bytes = batch.as_bytes();
        let permits = u32::try_from(bytes.len().min(QUEUE_BYTES)).map_err(|_| AppendError::Closed)?;
        let _room = self.shared.room.acquire_many(permits).await.map_err(|_| self.closed_reason())?;
        let (done, outcome) = oneshot::channel();
        let is_first = {
            let mut queue = lock(&self.shared.queue);
            if queue.closed {
                return Err(self.closed_reason());
            }
            let start = queue.round.bytes.len();
            queue.round.bytes.extend_from_slice(bytes);
            queue.round.writers.push(Writer { start, done });
            !queue.committing && queue.round.writers.len() == 1
        };
        if is_first {
            self.shared.started.notify_one();
        }
        outcome.await.unwrap_or_else(|_| Err(self.closed_reason()))
    }

    /// Waits for the failure after which nothing is acknowledged any more; for ever while there is none.
    pub async fn failed(&self) -> Arc<Failure> {
        let mut failure = self.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            _ => std::future::pending().await,
        }
    }

    /// The failure after which nothing is acknowledged any more, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.shared.failure.borrow().clone()
    }

    /// Commits what is queued and gives the file back to the system; later appends are refused.
    pub async fn close(&self) {
        self.shared.close();
        let mut ended = self.shared.ended.subscribe();
        // It cannot fail: `self` holds the other side.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    fn closed_reason(&self) -> AppendError {
        self.failure().map_or(AppendError::Closed, AppendError::Fatal)
    }
}

impl Shared {
    fn close(&self) {
        lock(&self.queue).closed = true;
        self.wake.notify_one();
        self.started.notify_one();
    }

    /// Writes and syncs a round; gives back what to tell its writers, and the emptied round.
    fn commit(&self, mut round: Round) -> (Answer, Round) {
        let outcome = match lock(&self.file).as_mut().map(|file| file.commit(&round.bytes)) {
            Some(Ok(offset)) => Ok(offset),
            Some(Err(failure)) => Err(self.failed(failure)),
            None => Err(AppendError::Closed),
        };
        let answer = Answer { writers: mem::take(&mut round.writers), outcome };
        round.bytes.clear();
        round.bytes.shrink_to(KEPT_QUEUE_BYTES);
        (answer, round)
    }

    fn failed(&self, failure: Failure) -> AppendError {
        let failure = Arc::new(failure);
        if matches!(*failure, Failure::NoSpace(_)) {
            return AppendError::NoSpace(failure);
        }
        self.failure.send_replace(Some(failure.clone()));
        self.close();
        AppendError::Fatal(failure)
    }
}

impl Answer {
    fn tell(self) {
        for writer in self.writers {
            // A writer that went away meanwhile needs no answer.
            let _ = writer.done.send(self.outcome.clone().map(|offset| offset + writer.start as u64));
        }
    }
}

/// Starts a round whenever the committer rests and there is something to write. An `inline` committer runs here.
async fn start_rounds(shared: Arc<Shared>, inline: Option<Committer>) {
    let mut last_alone = Duration::ZERO;
    loop {
        shared.started.notified().await;
        // Everyone who is ready to write gets into this round.
        tokio::task::yield_now().await;
        let mut queue = lock(&shared.queue);
        if queue.closed {
            if let Some(committer) = &inline {
                drop(queue);
                committer.commit_rounds(When::Now);
            }
            return;
        }
        // How long a commit took says nothing where time stands still meanwhile.
        let was_slow = inline.is_none() && last_alone > ALONE_LIMIT;
        if queue.round.writers.len() != 1 || was_slow {
            last_alone = Duration::ZERO;
            queue.committing = !queue.round.writers.is_empty();
            match &inline {
                Some(committer) => {
                    drop(queue);
                    committer.commit_rounds(When::Now);
                }
                None => shared.wake.notify_one(),
            }
            continue;
        }
        let spare = mem::take(&mut queue.spare);
        let round = mem::replace(&mut queue.round, spare);
        drop(queue);
        let started = Instant::now();
        let (answer, emptied) = shared.commit(round);
        last_alone = started.elapsed();
        lock(&shared.queue).spare = emptied;
        answer.tell();
    }
}

/// Tells writers, on the runtime's own thread, what the committer has done.
async fn answer_writers(shared: Arc<Shared>) {
    loop {
        shared.answered.notified().await;
        // In this order: the committer leaves its last answers before it ends.
        let ended = *shared.ended.borrow();
        let answers = mem::take(&mut lock(&shared.queue).answers);
        answers.into_iter().for_each(Answer::tell);
        if ended {
            return;
        }
    }
}

/// Writes for all.
struct Committer(Arc<Shared>);

/// How long a committer that has nothing to write goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// It returns.
    Now,
    /// It waits for the next round, until the queue is closed.
    Closed,
}

impl Committer {
    fn run(self) {
        self.commit_rounds(When::Closed);
    }

    /// Writes rounds until there is nothing to write, and then until `end`.
    fn commit_rounds(&self, end: When) {
        let shared = &self.0;
        while let Some(round) = self.next_round(end) {
            let (answer, emptied) = shared.commit(round);
            let mut queue = lock(&shared.queue);
            queue.spare = emptied;
            queue.answers.push(answer);
            drop(queue);
            shared.answered.notify_one();
        }
    }

    /// The next round; if there is none, `None` at once or when the queue is closed.
    fn next_round(&self, end: When) -> Option<Round> {
        let mut queue = lock(&self.0.queue);
        loop {
            if (queue.committing || queue.closed) && !queue.round.writers.is_empty() {
                let spare = mem::take(&mut queue.spare);
                return Some(mem::replace(&mut queue.round, spare));
            }
            queue.committing = false;
            if queue.closed || end == When::Now {
                return None;
            }
            queue = self.0.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Committer {
    /// However the committer ends, nobody waits for it any longer.
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.closed = true;
        queue.round = Round::default();
        drop(queue);
        lock(&self.0.file).take();
        self.0.room.close();
        self.0.ended.send_replace(true);
        self.0.answered.notify_one();
    }
}

/// Nothing that holds these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
