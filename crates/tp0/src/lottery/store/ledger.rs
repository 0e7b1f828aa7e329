//! What each agency has sent: new bets, repeats, and the end. No clock, and no files but what [`ReadBets`] reads.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::bets::{StoredBets, TakeAttempt, TakenBatch};
use super::claims::Claims;
use super::lines::ReadBets;
use crate::lottery::board::AgencyTally;

/// What is to be done with a batch.
#[derive(Debug)]
pub enum BatchVerdict {
    /// Store the new bets of the batch, which count as stored from now on; the others are stored already.
    Taken(TakenBatch),
    /// Refuse the batch.
    Refuse(BatchRefusal),
    /// Judge the batch again when all taken before is on disk.
    WriteFirst,
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefusal {
    /// The agency has said that all its bets are sent.
    #[error("the agency has already said that all its bets are sent")]
    Done,
    /// The draw is over.
    #[error("the draw has been held")]
    Drawn,
    /// There would be more lines than have numbers.
    #[error("the lottery has 4294967295 bets: it takes no more")]
    Full,
}

/// What all agencies have sent. The ledger takes some hundred bytes for each agency, and for each bet what the module
/// `bets` tells.
#[derive(Debug)]
pub struct Ledger {
    agencies: HashMap<String, AgencyBook>,
    done: usize,
    drawn: bool,
    bets: u64,
    /// `None` once forgotten.
    stored: Option<StoredBets>,
}

#[derive(Debug)]
struct AgencyBook {
    done: bool,
    /// What the page shows of the agency. Only the files and what is confirmed to be on disk count there.
    tally: Arc<AgencyTally>,
    /// The connection for which all lines of the agency were stored. `None` if there were several: then the lines are in the
    /// table.
    only: Option<Arc<Claims>>,
}

impl AgencyBook {
    fn new(agency: &str) -> Self {
        Self { done: false, tally: Arc::new(AgencyTally::new(agency)), only: None }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { agencies: HashMap::new(), done: 0, drawn: false, bets: 0, stored: Some(StoredBets::default()) }
    }
}

impl Ledger {
    /// Judges a batch that came on a connection with these `claims`, and counts what is new unless it is refused.
    ///
    /// # Errors
    /// If `bets` cannot be read.
    pub fn judge(
        &mut self,
        agency: &str,
        (text, count): (&[u8], u32),
        claims: &Arc<Claims>,
        bets: &impl ReadBets,
    ) -> io::Result<BatchVerdict> {
        let is_done = self.agencies.get(agency).is_some_and(|book| book.done);
        let refusal =
            if self.drawn { Some(BatchRefusal::Drawn) } else { is_done.then_some(BatchRefusal::Done) };
        let (book, stored) = match (self.agencies.get_mut(agency), &mut self.stored) {
            (Some(book), Some(stored)) => (book, stored),
            (None, Some(stored)) if refusal.is_none() => {
                // Only here is the name copied, not for each batch.
                let book = AgencyBook { only: Some(claims.clone()), ..AgencyBook::new(agency) };
                (self.agencies.entry(agency.to_owned()).or_insert(book), stored)
            }
            _ => return Ok(BatchVerdict::Refuse(refusal.unwrap_or(BatchRefusal::Drawn))),
        };
        let is_only = book.only.as_ref().is_some_and(|only| Arc::ptr_eq(only, claims));
        if let (false, Some(only)) = (is_only, &book.only) {
            if !stored.look_up(&only.lock(), bets)? {
                return Ok(BatchVerdict::WriteFirst);
            }
            book.only = None;
        }
        let attempt = match (is_only, refusal) {
            (true, Some(refusal)) => return Ok(BatchVerdict::Refuse(refusal)),
            (true, None) => stored.add_all(text, count, &mut claims.lock()),
            (false, _) => stored.claim_or_add(text, &mut claims.lock(), refusal.is_none(), bets)?,
        };
        Ok(match attempt {
            TakeAttempt::New => BatchVerdict::Refuse(refusal.unwrap_or(BatchRefusal::Done)),
            TakeAttempt::Full => BatchVerdict::Refuse(BatchRefusal::Full),
            TakeAttempt::WriteFirst => BatchVerdict::WriteFirst,
            TakeAttempt::Taken(taken) => {
                self.bets += taken.lines.len() as u64;
                BatchVerdict::Taken(taken)
            }
        })
    }

    /// Notes that all that was taken is on disk.
    pub fn written(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.written();
        }
    }

    /// Takes back a batch of a round that is not on disk; [`roll_back`](Self::roll_back) has to follow.
    pub fn take_back(&mut self, taken: &TakenBatch, claims: &Claims) {
        self.bets -= taken.lines.len() as u64;
        if let Some(stored) = &mut self.stored {
            stored.take_back(taken, &mut claims.lock());
        }
    }

    /// Forgets the lines that are not on disk, once all their batches are taken back.
    pub fn roll_back(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.roll_back();
        }
    }

    /// Adds bets that were stored earlier; returns `false` if there are too many.
    pub fn add(&mut self, agency: &str, bets: u32, bytes: u64) -> bool {
        let Some(stored) = &mut self.stored else { return false };
        let Some(lines) = stored.add_on_disk(bets, bytes) else { return false };
        self.bets += u64::from(bets);
        let book = self.book(agency);
        book.tally.recover(bets);
        book.only.get_or_insert_default().lock().add_range(lines);
        true
    }

    /// Notes that an agency has sent all its bets; returns `false` if that was known, or no longer matters.
    pub fn finish(&mut self, agency: &str) -> bool {
        if self.drawn || self.agencies.get(agency).is_some_and(|book| book.done) {
            return false;
        }
        self.book(agency).done = true;
        self.done += 1;
        true
    }

    fn book(&mut self, agency: &str) -> &mut AgencyBook {
        self.agencies.entry(agency.to_owned()).or_insert_with(|| AgencyBook::new(agency))
    }

    /// Takes back [`finish`](Self::finish).
    pub fn unfinish(&mut self, agency: &str) {
        if let Some(book) = self.agencies.get_mut(agency).filter(|book| book.done) {
            book.done = false;
            self.done -= 1;
        }
    }

    pub fn draw(&mut self) {
        self.drawn = true;
    }

    /// Gives back the memory for the bets.
    pub fn forget(&mut self) {
        self.stored = None;
        self.agencies.values_mut().for_each(|book| book.only = None);
    }

    /// Whether the ledger has the stored bets in memory.
    pub fn remembers(&self) -> bool {
        self.stored.is_some()
    }

    /// Whether an agency has sent anything.
    pub fn knows(&self, agency: &str) -> bool {
        self.agencies.contains_key(agency)
    }

    /// Takes over the bets in `read`, which were found in the files. The claims of connections stay good.
    pub fn remember(&mut self, read: Self) {
        self.stored = read.stored;
        for (agency, book) in read.agencies {
            self.book(&agency).only = book.only;
        }
    }

    pub fn is_drawn(&self) -> bool {
        self.drawn
    }

    /// Whether the draw is due, if it waits for `agencies`.
    pub fn is_due(&self, agencies: usize) -> bool {
        !self.drawn && self.done >= agencies
    }

    /// Returns the tally of an agency, if the ledger knows it.
    pub fn tally(&self, agency: &str) -> Option<&Arc<AgencyTally>> {
        self.agencies.get(agency).map(|book| &book.tally)
    }

    /// Returns the tallies of all agencies, each with whether it is done.
    pub fn tallies(&self) -> impl Iterator<Item = (&Arc<AgencyTally>, bool)> {
        self.agencies.values().map(|book| (&book.tally, book.done))
    }

    /// Returns the number of agencies.
    pub fn known(&self) -> usize {
        self.agencies.len()
    }

    /// Returns the number of stored bets.
    pub fn bets(&self) -> u64 {
        self.bets
    }

    /// Returns the number of agencies that have sent all their bets.
    pub fn done(&self) -> usize {
        self.done
    }
}
