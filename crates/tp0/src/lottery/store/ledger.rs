//! Who has sent what: which batch is new, which one is a repeat, who is done. Pure: no files, no clock.
//!
//! The grammar gives batches no number, so a repeat has to be told by what is in it. For each agency the ledger knows
//! how often each batch (by its digest) is stored, and for each connection how often it was taken there. The n-th
//! sending of a batch on a connection is a repeat if that batch is stored n times or more: it is acknowledged, and not
//! stored again.
//!
//! This is exact for an agency that, on each new connection, begins with its first batch and sends the same batches in
//! the same order. Let it have a batch k times in all. On any connection, when it sends it for the n-th time, the n - 1
//! sendings before were acknowledged, so it is stored n - 1 times or more. If it is stored n times or more, this sending
//! adds nothing; if n - 1 times, it is stored now. So no pass stores more than k, and a whole pass leaves exactly k;
//! also when an older connection of the same agency is still being worked off.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::record::Digest;

/// How often each batch was taken on one connection. At most 48 bytes for each batch.
#[derive(Debug, Default)]
pub struct Taken(Mutex<HashMap<Digest, u32>>);

impl Taken {
    fn change<T>(&self, digest: Digest, change: impl FnOnce(&mut u32) -> T) -> T {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default())
    }
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Store it: it counts as stored from now on.
    Store,
    /// It is stored already: this is its n-th sending on the connection.
    Repeat(u32),
    /// Refuse it.
    Refuse(Refusal),
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its agency has said that it had sent all.
    #[error("the agency has already said that all its bets are sent")]
    Done,
    /// The draw is over.
    #[error("the draw has been held")]
    Drawn,
}

/// What all agencies have sent. At most 48 bytes for each batch, and some hundred for each agency.
#[derive(Debug, Default)]
pub struct Ledger {
    agencies: HashMap<String, Book>,
    done: usize,
    drawn: bool,
    bets: u64,
}

#[derive(Debug, Default)]
struct Book {
    stored: HashMap<Digest, u32>,
    done: bool,
}

impl Ledger {
    /// Judges a batch that came on a connection with these `taken` ones, and counts it unless it is refused.
    pub fn take(&mut self, agency: &str, digest: Digest, bets: u64, taken: &Taken) -> Verdict {
        taken.change(digest, |count| {
            let sending = *count + 1;
            let stored = self.times_stored(agency, digest);
            if sending <= stored {
                *count = sending;
                return Verdict::Repeat(sending);
            }
            if self.drawn {
                return Verdict::Refuse(Refusal::Drawn);
            }
            if self.agencies.get(agency).is_some_and(|book| book.done) {
                return Verdict::Refuse(Refusal::Done);
            }
            *count = sending;
            self.stored(agency, digest, bets);
            Verdict::Store
        })
    }

    /// Takes back a [`Verdict::Store`] whose batch could not be stored.
    pub fn take_back(&mut self, agency: &str, digest: Digest, bets: u64, taken: &Taken) {
        taken.change(digest, |count| *count = count.saturating_sub(1));
        self.bets -= bets.min(self.bets);
        let Some(book) = self.agencies.get_mut(agency) else { return };
        if let Some(count) = book.stored.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                book.stored.remove(&digest);
            }
        }
    }

    /// After others were taken back: whether a [`Verdict::Repeat`] still is one. If not, it is taken back too.
    pub fn still_repeat(&mut self, agency: &str, digest: Digest, sending: u32, taken: &Taken) -> bool {
        let still = sending <= self.times_stored(agency, digest);
        if !still {
            taken.change(digest, |count| *count = count.saturating_sub(1));
        }
        still
    }

    /// Counts a batch as stored.
    pub fn stored(&mut self, agency: &str, digest: Digest, bets: u64) {
        self.bets += bets;
        // Looked up first, so that no name is copied for each batch.
        if !self.agencies.contains_key(agency) {
            self.agencies.insert(agency.to_owned(), Book::default());
        }
        if let Some(book) = self.agencies.get_mut(agency) {
            *book.stored.entry(digest).or_default() += 1;
        }
    }

    /// Notes that an agency has sent all its bets; `false` if that was known, or no longer matters.
    pub fn finish(&mut self, agency: &str) -> bool {
        if self.drawn || self.agencies.get(agency).is_some_and(|book| book.done) {
            return false;
        }
        self.agencies.entry(agency.to_owned()).or_default().done = true;
        self.done += 1;
        true
    }

    /// Takes back [`finish`](Self::finish).
    pub fn unfinish(&mut self, agency: &str) {
        if let Some(book) = self.agencies.get_mut(agency).filter(|book| book.done) {
            book.done = false;
            self.done -= 1;
        }
    }

    /// Notes that the draw was held.
    pub fn draw(&mut self) {
        self.drawn = true;
    }

    /// Whether the draw is due, if it waits for `agencies`.
    #[must_use]
    pub fn is_due(&self, agencies: usize) -> bool {
        !self.drawn && self.done >= agencies
    }

    /// Bets that are stored.
    #[must_use]
    pub fn bets(&self) -> u64 {
        self.bets
    }

    /// Agencies that are done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done
    }

    fn times_stored(&self, agency: &str, digest: Digest) -> u32 {
        self.agencies.get(agency).and_then(|book| book.stored.get(&digest)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(number: u8) -> Digest {
        [number; 16]
    }

    #[test]
    fn a_repeat_is_told_on_a_new_connection_and_twins_are_kept() {
        let mut ledger = Ledger::default();
        let first = Taken::default();
        let twins = [1, 2, 1].map(|number| ledger.take("1", digest(number), 10, &first));
        assert_eq!(twins, [Verdict::Store; 3]);
        let second = Taken::default();
        let again = [1, 2, 1, 3].map(|number| ledger.take("1", digest(number), 10, &second));
        assert_eq!(again, [Verdict::Repeat(1), Verdict::Repeat(1), Verdict::Repeat(2), Verdict::Store]);
        assert_eq!(ledger.take("2", digest(1), 10, &Taken::default()), Verdict::Store, "of another agency");
        assert_eq!(ledger.bets(), 50);
    }

    #[test]
    fn after_the_end_only_repeats_are_taken() {
        let mut ledger = Ledger::default();
        let taken = Taken::default();
        ledger.take("1", digest(1), 1, &taken);
        assert!(ledger.finish("1") && !ledger.finish("1"));
        assert_eq!(ledger.take("1", digest(1), 1, &taken), Verdict::Refuse(Refusal::Done));
        assert_eq!(ledger.take("1", digest(2), 1, &taken), Verdict::Refuse(Refusal::Done));
        assert_eq!(ledger.take("1", digest(1), 1, &Taken::default()), Verdict::Repeat(1));
        assert!(!ledger.is_due(2) && ledger.is_due(1));
        ledger.draw();
        assert!(!ledger.is_due(1) && !ledger.finish("2"));
        assert_eq!(ledger.take("2", digest(2), 1, &taken), Verdict::Refuse(Refusal::Drawn));
    }

    #[test]
    fn what_could_not_be_stored_is_taken_back() {
        let mut ledger = Ledger::default();
        let (one, two) = (Taken::default(), Taken::default());
        assert_eq!(ledger.take("1", digest(1), 5, &one), Verdict::Store);
        assert_eq!(ledger.take("1", digest(1), 5, &two), Verdict::Repeat(1));
        ledger.take_back("1", digest(1), 5, &one);
        assert!(!ledger.still_repeat("1", digest(1), 1, &two));
        assert_eq!(ledger.bets(), 0);
        assert_eq!(ledger.take("1", digest(1), 5, &two), Verdict::Store);
        assert_eq!(ledger.take("1", digest(1), 5, &one), Verdict::Repeat(1));
    }

    proptest! {
        /// However often the connection breaks and batches fail, a whole pass leaves each batch as often as it is there.
        #[test]
        fn any_number_of_passes_stores_each_batch_as_often_as_it_is_there(
            batches in prop::collection::vec(0u8..4, 1..20),
            passes in prop::collection::vec((0usize..25, prop::collection::vec(any::<bool>(), 20)), 0..6),
        ) {
            let mut ledger = Ledger::default();
            let whole = (batches.len(), vec![false; batches.len()]);
            for (length, fails) in passes.iter().chain([&whole]) {
                let taken = Taken::default();
                for (number, fail) in batches.iter().zip(fails).take(*length) {
                    if ledger.take("1", digest(*number), 1, &taken) == Verdict::Store && *fail {
                        ledger.take_back("1", digest(*number), 1, &taken);
                    }
                }
            }
            prop_assert_eq!(ledger.bets(), batches.len() as u64);
            for number in 0..4 {
                let there = batches.iter().filter(|batch| **batch == number).count();
                prop_assert_eq!(ledger.times_stored("1", digest(number)) as usize, there);
            }
        }
    }
}
