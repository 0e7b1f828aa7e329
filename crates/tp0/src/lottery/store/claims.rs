//! The lines of `bets.csv` that answer for what one connection has sent.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use roaring::RoaringBitmap;

/// The fewest changes after which runs of lines are looked for.
const COMPACT_AFTER: u64 = 4096;

/// The lines that one connection has claimed: one for each bet that was taken on it.
///
/// New bets stand behind each other in the file, and repeats usually come in the order of their first sending, so most of
/// the numbers lie in runs, which take next to nothing. In the worst case a bet takes 4 bytes, and never all of them
/// together more than a bit for each line of the file.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Claimed>);

impl Claims {
    pub(super) fn lock(&self) -> MutexGuard<'_, Claimed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(super) struct Claimed {
    lines: RoaringBitmap,
    changes: u64,
    compact_at: u64,
}

impl Claimed {
    pub fn contains(&self, line: u32) -> bool {
        self.lines.contains(line)
    }

    pub fn lines(&self) -> &RoaringBitmap {
        &self.lines
    }

    pub fn add(&mut self, line: u32) {
        self.lines.insert(line);
        self.changed();
    }

    pub fn add_range(&mut self, lines: Range<u32>) {
        self.lines.insert_range(lines);
        self.changed();
    }

    pub fn remove(&mut self, line: u32) {
        self.lines.remove(line);
    }

    pub fn remove_range(&mut self, lines: Range<u32>) {
        self.lines.remove_range(lines);
    }

    fn changed(&mut self) {
        self.changes += 1;
        if self.changes >= self.compact_at.max(COMPACT_AFTER) {
            self.lines.optimize();
            self.changes = 0;
            // So the work for each change stays bounded.
            self.compact_at = self.lines.len() / 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(lines: impl Iterator<Item = u32>) -> usize {
        let mut claimed = Claimed::default();
        lines.for_each(|line| claimed.add(line));
        claimed.lines.serialized_size()
    }

    #[test]
    fn lines_in_runs_take_next_to_nothing_and_others_a_bit_each() {
        let all = bytes(0..1_000_000);
        assert!(all < 20_000, "{all} bytes");
        let runs = bytes((0..1_000_000).filter(|line| line / 150 % 100 == 7));
        assert!(runs < 6000, "{runs} bytes");
        let apart = bytes((0..1_000_000).map(|line| 3 * line));
        assert!(apart < 3_000_000 / 8 + 10_000, "{apart} bytes");
    }
}
