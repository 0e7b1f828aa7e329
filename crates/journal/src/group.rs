//! Group commit: many writers, one file, one `fdatasync` for all who wait.
//!
//! Each writer's records are a job of a [`Batcher`]: it gathers the records of all writers that are ready, writes and syncs
//! them together, and goes on with those that have come meanwhile. There is no timer anywhere. A writer that is alone is
//! served on the runtime's own thread, for as long as the disk is fast.

use std::sync::Arc;

use batching::{Batcher, Executor, FailureSignal, Stopped, Work};

use crate::file::{Failure, JournalFile};
use crate::record::Batch;

/// Bytes that may wait to be written; writers beyond it wait their turn.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Memory that is kept to put the records of several writers together, in bytes.
const KEPT_BYTES: usize = 1024 * 1024;

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

impl From<Stopped<Failure>> for AppendError {
    fn from(stopped: Stopped<Failure>) -> Self {
        match stopped {
            Stopped::Failed(failure) => Self::Fatal(failure),
            Stopped::Closed => Self::Closed,
        }
    }
}

/// A file that many tasks append to. Clones share it.
#[derive(Debug, Clone)]
pub struct Journal(Batcher<Committer>);

impl Journal {
    /// Starts to serve writers of `file` on the present runtime, with a thread for the disk.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if the system has no thread left.
    #[must_use]
    pub fn start(file: JournalFile) -> Self {
        Self::start_on(Executor::ThreadUnlessAlone, file)
    }

    /// The same, with the disk's work on the given executor.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_on(executor: Executor, file: JournalFile) -> Self {
        Self(Batcher::start(executor, QUEUE_BYTES, Committer { file, gathered: Vec::new() }))
    }

    /// Appends the records of `batch`, all or none of them, and returns when they are on disk: the offset in the file
    /// of the first one. Records of one caller after the other keep their order.
    ///
    /// # Errors
    /// [`AppendError`]; the records are then not acknowledged and, unless the failure is fatal, not in the file.
    pub async fn append(&self, batch: Batch) -> Result<u64, AppendError> {
        self.0.submit(batch).await?
    }

    /// Returns the failure after which nothing is acknowledged any more.
    #[must_use]
    pub fn failure(&self) -> &FailureSignal<Failure> {
        self.0.failure()
    }

    /// Commits what is queued and gives the file back to the system; later appends are refused.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Writes for all.
struct Committer {
    file: JournalFile,
    /// The records of several writers, put together.
    gathered: Vec<u8>,
}

impl Work for Committer {
    type Job = Batch;
    /// The offset in the file of the first record.
    type Outcome = Result<u64, AppendError>;
    type Failure = Failure;

    const NAME: &'static str = "journal";

    fn weight(batch: &Batch) -> usize {
        batch.as_bytes().len()
    }

    fn run_batch(&mut self, writers: Vec<Batch>, outcomes: &mut Vec<Self::Outcome>) -> Result<(), Failure> {
        let committed = match &writers[..] {
            [alone] => self.file.commit(alone.as_bytes()),
            several => {
                several.iter().for_each(|batch| self.gathered.extend_from_slice(batch.as_bytes()));
                self.file.commit(&self.gathered)
            }
        };
        self.gathered.clear();
        self.gathered.shrink_to(KEPT_BYTES);
        match committed {
            Ok(mut offset) => outcomes.extend(writers.iter().map(|batch| {
                let start = offset;
                offset += batch.as_bytes().len() as u64;
                Ok(start)
            })),
            Err(failure @ Failure::NoSpace(_)) => {
                let no_space = AppendError::NoSpace(Arc::new(failure));
                outcomes.extend(writers.iter().map(|_| Err(no_space.clone())));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}
