//! Tells datagrams that were received before from new ones.
//!
//! Each sender numbers its datagrams from 1, and has a number of its own that is random for each run. Of each run the guard
//! keeps the highest number that came, and which of the 64 numbers up to it came, so datagrams may overtake each other by so
//! much. Older ones count as received before.

use std::collections::BTreeMap;
use std::mem;

/// How many numbers a window remembers.
const WINDOW: u64 = 64;

/// The datagrams of each run of a sender that were received. It remembers the last runs that were heard.
#[derive(Debug)]
pub struct ReplayGuard {
    /// The runs that were heard since the older ones were put aside. As many may be remembered as `most`, and as many aside.
    recent: BTreeMap<u128, ReplayWindow>,
    older: BTreeMap<u128, ReplayWindow>,
    most: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct ReplayWindow {
    highest: u64,
    /// Bit `i` tells whether the number `highest - i` was received.
    received: u64,
}

impl ReplayGuard {
    /// Returns a guard that remembers at least the last `most` runs, and at most twice as many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { recent: BTreeMap::new(), older: BTreeMap::new(), most }
    }

    /// Returns whether the datagram `number` of the run `run` was not received before, and notes it. Only for datagrams that are
    /// authentic: others would fill the memory.
    pub fn is_new(&mut self, run: u128, number: u64) -> bool {
        if !self.recent.contains_key(&run) {
            if self.recent.len() >= self.most {
                self.older = mem::take(&mut self.recent);
            }
            let window = self.older.remove(&run).unwrap_or_default();
            self.recent.insert(run, window);
        }
        self.recent.get_mut(&run).is_some_and(|window| window.is_new(number))
    }
}

impl ReplayWindow {
    fn is_new(&mut self, number: u64) -> bool {
        if number > self.highest {
            let ahead = number - self.highest;
            self.received = if ahead < WINDOW { self.received << ahead | 1 } else { 1 };
            self.highest = number;
            return true;
        }
        let behind = self.highest - number;
        let bit = 1u64.checked_shl(u32::try_from(behind).unwrap_or(u32::MAX)).unwrap_or_default();
        let is_new = bit != 0 && self.received & bit == 0 && number > 0;
        self.received |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_a_run_counts_once_and_may_be_overtaken() {
        let mut guard = ReplayGuard::new(10);
        let numbers =
            [1, 3, 2, 3, 2, 1, 100, 37, 36, 99, 99, 100, 0, u64::MAX, 101, u64::MAX - 63, u64::MAX - 64];
        let new = numbers.map(|number| guard.is_new(7, number));
        assert_eq!(
            new,
            [
                true, true, true, false, false, false, true, true, false, true, false, false, false, true,
                false, true, false
            ]
        );
        assert!(guard.is_new(8, 3), "another run");
    }

    #[test]
    fn memory_is_bounded_and_the_last_runs_are_remembered() {
        let mut guard = ReplayGuard::new(4);
        for run in 0..100 {
            assert!(guard.is_new(run, 1));
            assert!(!guard.is_new(run, 1) && !guard.is_new(run.saturating_sub(1), 1), "the last two");
            assert!(guard.recent.len() + guard.older.len() <= 8);
        }
    }
}
