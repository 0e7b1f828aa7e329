//! Where bets last: a thread that owns the files, and a group commit for all connections that wait.
//!
//! Connections put jobs in a queue and wait (see [`batching`]). The thread takes the whole queue, lets the ledger judge
//! each job in turn, writes and syncs what is new, and answers all: one sync of each file for all agencies that waited.
//! Meanwhile the network goes on, and the next round gathers. Repeats alone need no sync. The same thread holds the draw.
//!
//! | module | what it does |
//! | --- | --- |
//! | `job` | what the store is asked, and what it answers |
//! | `work` | what the thread does: rounds, the draw, forgetting |
//! | `round` | one round: judge, write, sync, answer |
//! | `ledger` | what each agency has sent, and which agencies are done |
//! | `bets` | which bets are new: the rule, and why it is exact |
//! | `claims`, `lines`, `table` | what that needs: lines by connection, by their number, and by what is in them |
//! | `files` | the three files: a round of lines and records, the draw |
//! | `record`, `recovery` | the lines of `lottery.journal`; what a crash left |
//! | `winners` | the winners of one agency |

mod bets;
mod claims;
mod files;
mod job;
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
mod work;

use std::path::Path;
use std::sync::Arc;

use batching::{Batcher, Executor, FailureSignal, PendingOutcome, Stopped, Work as _};
use journal::WriteFailure;
use tokio::sync::watch;

pub use claims::Claims;
pub use files::{BETS_FILE, JOURNAL_FILE, LotteryContents, LotteryFiles, WINNERS_FILE};
pub use job::{JobOutcome, NewBatch};
pub use record::Draw;
pub use winners::AgencyWinners;
pub use work::StoreWork;

use super::board::LotteryBoard;
use crate::action_log::ActionLog;
use job::StoreJob;
use round::StoreRound;

/// The name of the thread that owns the files.
pub const THREAD: &str = StoreWork::NAME;
/// Bytes of batches that may wait to be written; agencies beyond that wait their turn.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Where bets last. Clones share it; the thread ends with the last clone.
#[derive(Debug, Clone)]
pub struct BetStore {
    folder: Arc<Path>,
    batcher: Batcher<StoreWork>,
    drawn: watch::Receiver<Option<Draw>>,
}

impl BetStore {
    /// Starts the thread, which tells `board` what it does. The draw waits for `agencies`.
    pub fn start(
        folder: &Path,
        files: LotteryFiles,
        contents: LotteryContents,
        agencies: usize,
        log: ActionLog,
        board: Arc<LotteryBoard>,
    ) -> Self {
        let (draw, drawn) = watch::channel(contents.draw);
        let work = StoreWork::new(StoreRound::new(files, contents.ledger), agencies, log, board, draw);
        Self { folder: folder.into(), batcher: Batcher::start(Executor::Thread, QUEUE_BYTES, work), drawn }
    }

    /// Puts a batch in the queue once there is room, in the order of the calls.
    ///
    /// # Errors
    /// If nothing more is stored.
    pub async fn enqueue(&self, batch: NewBatch) -> Result<PendingOutcome<StoreWork>, Stopped<WriteFailure>> {
        self.batcher.enqueue(StoreJob::Batch(batch)).await
    }

    /// Notes that an agency has sent all its bets.
    ///
    /// # Errors
    /// If nothing more is stored, or nobody can say whether this is.
    pub async fn finish(&self, agency: Arc<str>) -> Result<JobOutcome, Stopped<WriteFailure>> {
        self.batcher.submit(StoreJob::Finish { agency }).await
    }

    /// Returns the winners of an agency, or `None` before the draw.
    pub fn winners(&self, agency: &str) -> Option<AgencyWinners> {
        let draw = (*self.drawn.borrow())?;
        Some(AgencyWinners::new(&self.folder, agency, draw.winners_bytes))
    }

    /// Returns the failure after which nothing is stored any more.
    pub fn failure(&self) -> &FailureSignal<WriteFailure> {
        self.batcher.failure()
    }

    /// Does what is queued, closes the files, and waits for the end of the thread; later jobs are not done.
    pub async fn close(&self) {
        self.batcher.close().await;
    }
}
