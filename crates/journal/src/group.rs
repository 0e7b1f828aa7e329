//! Group commit: many writers append to one file, and writers that wait at the same time share one `fdatasync`.
//!
//! Each writer's records are a job of a [`Batcher`]. The batcher gathers the records of all writers that are ready,
//! writes and syncs them together, and then continues with the records that arrived in the meantime. No timer is
//! involved. A single writer is served on the runtime's own thread, as long as the disk is fast.

use std::sync::Arc;

use batching::{Batcher, Executor, FailureSignal, Stopped, Work};

use crate::file::{JournalFile, WriteFailure};
use crate::record::Batch;

/// Bytes that may wait to be written. Further writers wait until there is room.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Memory that is kept between batches to join the records of several writers, in bytes.
const KEPT_BYTES: usize = 1024 * 1024;

/// Says why a batch of records is not on disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// There is no room for the batch. A later one may succeed.
    #[error("{0}")]
    NoSpace(Arc<WriteFailure>),
    /// The journal has failed and accepts nothing more. The program has to stop.
    #[error("{0}")]
    Fatal(Arc<WriteFailure>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl From<Stopped<WriteFailure>> for AppendError {
    fn from(stopped: Stopped<WriteFailure>) -> Self {
        match stopped {
            Stopped::Failed(failure) => Self::Fatal(failure),
            Stopped::Closed => Self::Closed,
        }
    }
}

/// A file that many tasks append to. Clones share the file.
#[derive(Debug, Clone)]
pub struct Journal(Batcher<Committer>);

impl Journal {
    /// Starts to serve writers of `file` on the present runtime, with a thread for the disk's work.
    ///
    /// # Panics
    /// Panics outside a tokio runtime, or if the operating system has no thread left.
    #[must_use]
    pub fn start(file: JournalFile) -> Self {
        Self::start_on(Executor::ThreadUnlessAlone, file)
    }

    /// Starts to serve writers of `file` on the present runtime, with the disk's work on `executor`.
    ///
    /// # Panics
    /// Panics as [`start`](Self::start) does.
    #[must_use]
    pub fn start_on(executor: Executor, file: JournalFile) -> Self {
        Self(Batcher::start(executor, QUEUE_BYTES, Committer { file, gathered: Vec::new() }))
    }

    /// Appends the records of `batch`, all or none of them. Waits until they are on disk, and returns the offset of the
    /// first one in the file. Batches that a caller appends one after another keep their order.
    ///
    /// # Errors
    /// Fails with an [`AppendError`]. The records are then not acknowledged and, unless the failure is fatal, not in
    /// the file.
    pub async fn append(&self, batch: Batch) -> Result<u64, AppendError> {
        self.0.submit(batch).await?
    }

    /// Returns the signal that is set when the journal fails. After a failure nothing more is acknowledged.
    #[must_use]
    pub fn failure(&self) -> &FailureSignal<WriteFailure> {
        self.0.failure()
    }

    /// Commits what is queued, and closes the file. Later appends are refused.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Writes and syncs the batches of all writers.
struct Committer {
    file: JournalFile,
    /// The joined records of several writers.
    gathered: Vec<u8>,
}

impl Work for Committer {
    type Job = Batch;
    /// The offset of the batch's first record in the file.
    type Outcome = Result<u64, AppendError>;
    type Failure = WriteFailure;

    const NAME: &'static str = "journal";

    fn weight(batch: &Batch) -> usize {
        batch.as_bytes().len()
    }

    fn run_batch(
        &mut self,
        writers: Vec<Batch>,
        outcomes: &mut Vec<Self::Outcome>,
    ) -> Result<(), WriteFailure> {
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
            Err(failure @ WriteFailure::NoSpace(_)) => {
                let no_space = AppendError::NoSpace(Arc::new(failure));
                outcomes.extend(writers.iter().map(|_| Err(no_space.clone())));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}
