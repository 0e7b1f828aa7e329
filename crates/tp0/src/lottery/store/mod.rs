//! Where bets last: a thread that owns the files, and a group commit for everyone who waits.
//!
//! Connections put jobs in a queue and wait. The thread takes the whole queue, lets the [`Ledger`] judge each job in
//! turn, writes and syncs what is new, and answers all: one sync of each file for all agencies that waited. Meanwhile
//! the network goes on, and the next round gathers. Repeats alone need no disk. The same thread holds the draw.

mod files;
mod ledger;
mod record;
mod recovery;
mod round;
#[cfg(test)]
mod tests;
mod winners;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use journal::Failure;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use files::{BETS_FILE, Contents, Files, JOURNAL_FILE, WINNERS_FILE};
pub use ledger::{Ledger, Refusal, Taken, Verdict};
pub use record::{Digest, Draw, digest};
pub use winners::Winners;

use crate::ActionLog;
use round::{Answer, Round};

/// Bytes of batches that may wait to be written; agencies beyond it wait their turn.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// How long after a draw that failed it is tried again.
const DRAW_AGAIN: Duration = Duration::from_secs(1);

/// What became of a job.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is done, and on disk.
    Done,
    /// It was done before, and is on disk.
    Repeated,
    /// It is refused.
    Refused(Refusal),
    /// There is no room; later there may be.
    NoSpace(Arc<Failure>),
    /// Nobody can say whether it is on disk. Nothing more is acknowledged.
    Unknown,
}

/// A batch on its way.
#[derive(Debug)]
pub struct NewBatch {
    /// Whose.
    pub agency: Arc<str>,
    /// Its lines of `bets.csv`.
    pub lines: Vec<u8>,
    /// How many they are.
    pub bets: u64,
    /// What has been taken on its connection.
    pub taken: Arc<Taken>,
}

#[derive(Debug)]
enum Job {
    Batch { batch: NewBatch, digest: Digest },
    Done { agency: Arc<str> },
}

/// Where bets last. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Handle>,
}

/// Closes the store when the last clone of it is gone.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Of the digests.
    key: u128,
    queue: Mutex<Queue>,
    /// For the thread: the queue has its first job, or was closed.
    wake: Condvar,
    room: Semaphore,
    drawn: watch::Sender<Option<Draw>>,
    failure: watch::Sender<Option<Arc<Failure>>>,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: Vec<(Job, oneshot::Sender<Outcome>)>,
    closed: bool,
}

impl Store {
    /// Starts the thread, and a task that hands out its answers on the present runtime. The draw waits for `agencies`.
    ///
    /// # Errors
    /// If the system refuses the thread.
    pub fn start(
        folder: &Path,
        files: Files,
        contents: Contents,
        agencies: usize,
        log: ActionLog,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            key: contents.key,
            queue: Mutex::default(),
            wake: Condvar::new(),
            room: Semaphore::new(QUEUE_BYTES),
            drawn: watch::Sender::new(contents.draw),
            failure: watch::Sender::new(None),
            ended: watch::Sender::new(false),
        });
        let (answers, answered) = mpsc::unbounded_channel();
        let worker = Worker {
            shared: shared.clone(),
            round: Round::new(files, contents.ledger),
            agencies,
            log,
            answers,
            draw_after: None,
        };
        std::thread::Builder::new().name("store".to_owned()).spawn(move || worker.run())?;
        tokio::spawn(hand_out(answered));
        Ok(Self { shared: Arc::new(Handle(shared)) })
    }

    /// Puts a batch in the queue, in the order of the calls, when there is room. What it gives back tells the outcome.
    pub async fn submit(&self, batch: NewBatch) -> Pending {
        let shared = &self.shared.0;
        let permits = u32::try_from(batch.lines.len().min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let Ok(room) = shared.room.acquire_many(permits).await else { return Pending(None) };
        // It is given back when the round has taken the job.
        room.forget();
        let digest = digest(shared.key, &batch.lines);
        shared.push(Job::Batch { batch, digest })
    }

    /// Notes that an agency has sent all its bets.
    pub async fn finish(&self, agency: Arc<str>) -> Outcome {
        self.shared.0.push(Job::Done { agency }).outcome().await
    }

    /// The winners of an agency; `None` before the draw.
    #[must_use]
    pub fn winners(&self, agency: &str) -> Option<Winners> {
        let draw = (*self.shared.0.drawn.borrow())?;
        Some(Winners::new(&self.shared.0.folder, agency, draw.winners_bytes))
    }

    /// Waits for the failure after which nothing is acknowledged any more; for ever while there is none.
    pub async fn failed(&self) -> Arc<Failure> {
        let mut failure = self.shared.0.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            _ => std::future::pending().await,
        }
    }

    /// The failure after which nothing is acknowledged any more, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.shared.0.failure.borrow().clone()
    }

    /// Does what is queued and closes the files; later jobs are not done.
    pub async fn close(&self) {
        self.shared.0.close();
        let mut ended = self.shared.0.ended.subscribe();
        // It cannot fail: `self` holds the other side.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// A job whose outcome is not known yet.
#[derive(Debug)]
pub struct Pending(Option<oneshot::Receiver<Outcome>>);

impl Pending {
    /// Waits for it.
    pub async fn outcome(self) -> Outcome {
        match self.0 {
            Some(outcome) => outcome.await.unwrap_or(Outcome::Unknown),
            None => Outcome::Unknown,
        }
    }
}

/// Wakes those who wait on the runtime's own thread: one wake-up for a round.
async fn hand_out(mut answered: mpsc::UnboundedReceiver<Vec<Answer>>) {
    while let Some(answers) = answered.recv().await {
        for (who, outcome) in answers {
            // Who went away meanwhile needs no answer.
            let _ = who.send(outcome);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds it can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Pending {
        let (done, outcome) = oneshot::channel();
        let mut queue = self.lock();
        if queue.closed {
            return Pending(None);
        }
        let first = queue.jobs.is_empty();
        queue.jobs.push((job, done));
        drop(queue);
        if first {
            self.wake.notify_one();
        }
        Pending(Some(outcome))
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}

/// The thread.
struct Worker {
    shared: Arc<Shared>,
    round: Round,
    agencies: usize,
    log: ActionLog,
    answers: mpsc::UnboundedSender<Vec<Answer>>,
    /// The draw has failed: not before then again.
    draw_after: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        self.draw_if_due();
        while let Some(jobs) = self.next_jobs() {
            let room = jobs.iter().map(|(job, _)| job.bytes()).sum();
            let (answers, failed) = self.round.work(jobs);
            self.shared.room.add_permits(room);
            // The runtime may have ended.
            let _ = self.answers.send(answers);
            if let Some(failure) = failed {
                return self.fail(failure);
            }
            self.draw_if_due();
        }
    }

    /// Waits for jobs; none if only the draw is to be tried again; `None` once the store is closed and all is done.
    fn next_jobs(&self) -> Option<Vec<(Job, oneshot::Sender<Outcome>)>> {
        let mut queue = self.shared.lock();
        loop {
            if !queue.jobs.is_empty() {
                return Some(std::mem::take(&mut queue.jobs));
            }
            if queue.closed {
                return None;
            }
            let wait = self.draw_after.map(|after| after.saturating_duration_since(Instant::now()));
            match wait {
                Some(Duration::ZERO) => return Some(Vec::new()),
                Some(wait) => {
                    let waited = self.shared.wake.wait_timeout(queue, wait);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn draw_if_due(&mut self) {
        let too_early = self.draw_after.is_some_and(|after| Instant::now() < after);
        if too_early || !self.round.is_draw_due(self.agencies) {
            return;
        }
        match self.round.draw() {
            // In this order: it is told once at most, and never again after a restart.
            Ok(draw) => {
                self.log.info("sorteo").success().write();
                tracing::info!(winners = draw.winners, "draw held");
                self.draw_after = None;
                self.shared.drawn.send_replace(Some(draw));
            }
            Err(error) => {
                if self.draw_after.is_none() {
                    self.log.error("sorteo").fail().error(format_args!("{error:#}")).write();
                }
                self.draw_after = Some(Instant::now() + DRAW_AGAIN);
                if let Ok(failure @ Failure::Fatal { .. }) = error.downcast::<Failure>() {
                    self.fail(failure);
                }
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.shared.failure.send_replace(Some(Arc::new(failure)));
        self.shared.close();
    }
}

impl Drop for Worker {
    /// However the thread ends, nobody waits for it any longer.
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.jobs.clear();
        drop(queue);
        self.shared.room.close();
        self.round.close();
        self.shared.ended.send_replace(true);
    }
}

impl Job {
    /// Room that it takes in the queue.
    fn bytes(&self) -> usize {
        match self {
            Self::Batch { batch, .. } => batch.lines.len().min(QUEUE_BYTES),
            Self::Done { .. } => 0,
        }
    }
}
