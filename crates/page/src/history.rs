//! The last of many things, each with its number: samples of the last ten minutes, events, messages.

use std::collections::VecDeque;
use std::time::Duration;

/// The time from one sample to the next.
pub const SAMPLE_PERIOD: Duration = Duration::from_secs(5);
/// The number of samples in ten minutes.
pub const SAMPLES: usize = 120;

/// The last things that were pushed. They are numbered from 1.
#[derive(Debug, Clone)]
pub struct Ring<T> {
    capacity: usize,
    kept: VecDeque<T>,
    last: u64,
}

impl<T> Ring<T> {
    /// Returns a ring that keeps the last `capacity` things.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, kept: VecDeque::new(), last: 0 }
    }

    /// Adds the newest thing, and forgets the oldest one if there are too many.
    pub fn push(&mut self, thing: T) {
        if self.kept.len() == self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(thing);
        self.last += 1;
    }

    /// Returns the number of the newest thing, or 0 if there was none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the things that are kept and have a number above `number`, oldest first, each with its number.
    pub fn since(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let oldest = self.last - self.kept.len() as u64 + 1;
        (oldest..).zip(&self.kept).skip_while(move |(at, _)| *at <= number)
    }

    /// Returns the newest `count` things, oldest first, each with its number.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (u64, &T)> {
        self.since(self.last.saturating_sub(count as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_things_keep_their_numbers() {
        let mut ring = Ring::new(3);
        assert_eq!((ring.last(), ring.since(0).count()), (0, 0));
        for letter in ["a", "b", "c", "d"] {
            ring.push(letter);
        }
        assert_eq!(ring.since(0).collect::<Vec<_>>(), [(2, &"b"), (3, &"c"), (4, &"d")]);
        assert_eq!(ring.since(3).collect::<Vec<_>>(), [(4, &"d")]);
        assert_eq!(ring.newest(2).collect::<Vec<_>>(), [(3, &"c"), (4, &"d")]);
        assert_eq!((ring.since(9).count(), ring.last()), (0, 4));
    }
}
