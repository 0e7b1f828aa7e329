//! What the store is asked, and what it answers.

use std::sync::Arc;

use journal::WriteFailure;

use super::claims::Claims;
use super::ledger::BatchRefusal;

/// A batch of bets that an agency has sent.
#[derive(Debug)]
pub struct NewBatch {
    /// The agency's name.
    pub agency: Arc<str>,
    /// The lines of `bets.csv` that the bets would become.
    pub lines: Vec<u8>,
    /// The number of lines.
    pub bets: u32,
    /// The lines that the connection has claimed so far.
    pub claims: Arc<Claims>,
}

/// What the store is asked to do.
#[derive(Debug)]
pub enum StoreJob {
    /// Store what is new of a batch.
    Batch(NewBatch),
    /// Note that an agency has sent all its bets.
    Finish { agency: Arc<str> },
}

/// What became of a job. All but the refusals are on disk.
#[derive(Debug, Clone)]
pub enum JobOutcome {
    /// This many bets were new; the others were stored before.
    Stored(u32),
    /// The end of the agency is noted.
    Finished,
    /// All of it was stored, or noted, before.
    Repeated,
    /// It is refused.
    Refused(BatchRefusal),
    /// There is no room now; there may be later.
    NoSpace(Arc<WriteFailure>),
}
