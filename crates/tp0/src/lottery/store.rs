//! Where bets last: a thread that owns the files, and a group commit for everyone who waits.
//!
//! Connections put jobs in a queue and wait. The thread takes the whole queue, lets the [`Ledger`] judge each job in
//! turn, writes and syncs what is new, and answers all: one sync of each file for all agencies that waited. Meanwhile
//! the network goes on, and the next round gathers. Repeats alone need no sync. The same thread holds the draw.
//!
//! | module | what it does |
//! | --- | --- |
//! | `files` | the three files: a round of lines and records, the draw |
//! | `record`, `recovery` | the lines of `lottery.journal`; what a crash left |
//! | `ledger` | who has sent what, who is done |
//! | `bets` | which bets are new: the rule, and why it is exact |
//! | `claims`, `lines`, `table` | what that needs: lines by connection, by their number, and by what is in them |
//! | `round` | judge, write, sync, answer |
//! | `winners` | the winners of one agency |

mod bets;
mod claims;
mod files;
mod ledger;
mod lines;
#[cfg(test)]
mod model;
mod record;
mod recovery;
mod round;
mod table;
#[cfg(test)]
mod tests;
mod winners;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use journal::WriteFailure;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use claims::Claims;
pub use files::{BETS_FILE, Contents, Files, JOURNAL_FILE, WINNERS_FILE};
pub use ledger::{Ledger, Refusal};
pub use record::Draw;
pub use winners::Winners;

use crate::action_log::{ActionLog, action};
use round::{Answer, Round};

/// The name of the thread that owns the files.
pub const THREAD: &str = "store";
/// Bytes of batches that may wait to be written; agencies beyond it wait their turn.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// How long after a draw that failed it is tried again.
const DRAW_AGAIN: Duration = Duration::from_secs(1);
/// After a draw: how long bets stay in memory for agencies that come late.
const REMEMBER: Duration = Duration::from_secs(5);

/// What became of a job.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// So many bets of it were new, and are on disk; the others were there before.
    Stored(u32),
    /// It is done, and on disk.
    Done,
    /// It was done before, and is on disk.
    Repeated,
    /// It is refused.
    Refused(Refusal),
    /// There is no room; later there may be.
    NoSpace(Arc<WriteFailure>),
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
    pub bets: u32,
    /// What was taken on its connection.
    pub claims: Arc<Claims>,
}

#[derive(Debug)]
enum Job {
    Batch(NewBatch),
    Done { agency: Arc<str> },
}

/// Where bets last. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// Closes the store when the last clone of it is gone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// None once somebody has joined it.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    queue: Mutex<Queue>,
    /// For the thread: the queue has its first job, or was closed.
    wake: Condvar,
    room: Semaphore,
    drawn: watch::Sender<Option<Draw>>,
    failure: watch::Sender<Option<Arc<WriteFailure>>>,
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
            forget_after: None,
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || worker.run())?;
        tokio::spawn(hand_out(answered));
        Ok(Self { handle: Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) }) })
    }

    /// Puts a batch in the queue, in the order of the calls, when there is room. What it gives back tells the outcome.
    pub async fn submit(&self, batch: NewBatch) -> Pending {
        let shared = &self.handle.shared;
        let permits = u32::try_from(batch.lines.len().min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let Ok(room) = shared.room.acquire_many(permits).await else { return Pending(None) };
        // It is given back when the round has taken the job.
        room.forget();
        shared.push(Job::Batch(batch))
    }

    /// Notes that an agency has sent all its bets.
    pub async fn finish(&self, agency: Arc<str>) -> Outcome {
        self.handle.shared.push(Job::Done { agency }).outcome().await
    }

    /// The winners of an agency; `None` before the draw.
    #[must_use]
    pub fn winners(&self, agency: &str) -> Option<Winners> {
        let draw = (*self.handle.shared.drawn.borrow())?;
        Some(Winners::new(&self.handle.shared.folder, agency, draw.winners_bytes))
    }

    /// Waits for the failure after which nothing is acknowledged any more; for ever while there is none.
    pub async fn failed(&self) -> Arc<WriteFailure> {
        let mut failure = self.handle.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            _ => std::future::pending().await,
        }
    }

    /// The failure after which nothing is acknowledged any more, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<WriteFailure>> {
        self.handle.shared.failure.borrow().clone()
    }

    /// Does what is queued, closes the files, and waits for the end of the thread; later jobs are not done.
    pub async fn close(&self) {
        self.handle.shared.close();
        let mut ended = self.handle.shared.ended.subscribe();
        // It cannot fail: `self` holds the other side.
        let _ = ended.wait_for(|ended| *ended).await;
        let thread = self.handle.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // That was the last thing it did, so nobody is held up. Should it have panicked, that was told on stderr.
        let _ = thread.map(JoinHandle::join);
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
    /// The draw is over, and bets are in memory: until then.
    forget_after: Option<Instant>,
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
            self.forget_if_due(room > 0);
        }
    }

    /// Waits for jobs; none if only the time has come for something; `None` once the store is closed and all is done.
    fn next_jobs(&self) -> Option<Vec<(Job, oneshot::Sender<Outcome>)>> {
        let mut queue = self.shared.lock();
        loop {
            if !queue.jobs.is_empty() {
                return Some(std::mem::take(&mut queue.jobs));
            }
            if queue.closed {
                return None;
            }
            let next = self.draw_after.into_iter().chain(self.forget_after).min();
            let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
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
                action!(self.log, INFO, "sorteo", "success");
                tracing::info!(winners = draw.winners, "draw held");
                self.draw_after = None;
                self.shared.drawn.send_replace(Some(draw));
            }
            Err(error) => {
                if self.draw_after.is_none() {
                    action!(self.log, ERROR, "sorteo", "fail", error = %format_args!("{error:#}"));
                }
                self.draw_after = Some(Instant::now() + DRAW_AGAIN);
                if let Ok(failure @ WriteFailure::Fatal { .. }) = error.downcast::<WriteFailure>() {
                    self.fail(failure);
                }
            }
        }
    }

    /// After a draw bets are not kept in memory, but for a moment where an agency comes late.
    fn forget_if_due(&mut self, bets_came: bool) {
        if !self.round.remembers_after_draw() {
            self.forget_after = None;
        } else if bets_came || self.forget_after.is_none() {
            self.forget_after = Some(Instant::now() + REMEMBER);
        } else if self.forget_after.is_some_and(|after| Instant::now() >= after) {
            self.round.forget();
            self.forget_after = None;
        }
    }

    fn fail(&mut self, failure: WriteFailure) {
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
            Self::Batch(batch) => batch.lines.len().min(QUEUE_BYTES),
            Self::Done { .. } => 0,
        }
    }
}
