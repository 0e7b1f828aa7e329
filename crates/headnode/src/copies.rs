//! Which copies of a message count, and how many a message has. This is a pure module.

use std::collections::BTreeMap;
use std::time::Duration;

use journal::plants::{Plant, is_planted};
use protocol::store::types::{NodeName, Place};

use crate::registry::Holdings;

/// Why the copies on a datanode do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discount {
    /// It has been away for longer than `--repair-after`.
    Away,
    /// Its messages are moved elsewhere, because an operator wants to remove it.
    Draining,
    /// An operator has declared it lost.
    Forgotten,
}

/// The datanodes whose copies do not count. Nothing new is stored on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discounts(BTreeMap<NodeName, Discount>);

impl FromIterator<(NodeName, Discount)> for Discounts {
    /// If a datanode has several discounts, the last one in the order of [`Discount`] is kept.
    fn from_iter<T: IntoIterator<Item = (NodeName, Discount)>>(discounts: T) -> Self {
        let mut strongest = BTreeMap::new();
        for (name, discount) in discounts {
            let known = strongest.entry(name).or_insert(discount);
            *known = discount.max(*known);
        }
        Self(strongest)
    }
}

impl Discounts {
    /// Returns why the copies on this datanode do not count, or `None` if they do.
    #[must_use]
    pub fn of(&self, name: &NodeName) -> Option<Discount> {
        self.0.get(name).copied()
    }

    /// Returns whether the copies on this datanode count.
    #[must_use]
    pub fn counts(&self, name: &NodeName) -> bool {
        is_planted(Plant::AbsentCopyCounted) || !self.0.contains_key(name)
    }

    /// Returns how many of these copies count.
    #[must_use]
    pub fn count(&self, places: &[Place]) -> usize {
        places.iter().filter(|place| self.counts(&place.datanode)).count()
    }

    /// Returns the datanodes that are drained.
    pub fn draining(&self) -> impl Iterator<Item = &NodeName> {
        self.0.iter().filter(|(_, discount)| **discount == Discount::Draining).map(|(name, _)| name)
    }
}

/// How many copies a message has, by what they are worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyTally {
    /// Copies that count.
    pub live: usize,
    /// Copies that do not count, on datanodes that are not forgotten.
    pub discounted: usize,
    /// Copies on datanodes that are forgotten.
    pub forgotten: usize,
    /// Registered places that do not hold the message any more.
    pub lost: usize,
}

impl CopyTally {
    /// Counts the copies of a message that is registered at `places`.
    #[must_use]
    pub fn of(places: &[Place], holdings: &Holdings, discounts: &Discounts) -> Self {
        let mut tally = Self::default();
        for place in places {
            match discounts.of(&place.datanode) {
                _ if holdings.is_lost(place) => tally.lost += 1,
                _ if discounts.counts(&place.datanode) => tally.live += 1,
                Some(Discount::Forgotten) => tally.forgotten += 1,
                _ => tally.discounted += 1,
            }
        }
        tally
    }

    /// Returns whether the message has to be copied, or its registry line has to be replaced.
    #[must_use]
    pub fn needs_repair(&self, replicas: usize) -> bool {
        self.can_be_read() && (self.live < replicas || self.lost > 0)
    }

    /// Returns whether a copy is left on a datanode that is not forgotten.
    #[must_use]
    pub fn can_be_read(&self) -> bool {
        self.live + self.discounted > 0
    }
}

/// Since when each datanode that is not available has been away. Times count from the start of the headnode.
#[derive(Debug, Default)]
pub struct Absences(BTreeMap<NodeName, Duration>);

impl Absences {
    /// Takes note of the datanodes that are known, each with whether it is available.
    pub fn observe<'a>(&mut self, now: Duration, datanodes: impl Iterator<Item = (&'a NodeName, bool)>) {
        for (name, is_available) in datanodes {
            if is_available {
                self.0.remove(name);
            } else if !self.0.contains_key(name) {
                self.0.insert(name.clone(), now);
            }
        }
    }

    /// Returns the datanodes that have been away for `limit` or longer.
    pub fn longer_than(&self, limit: Duration, now: Duration) -> impl Iterator<Item = &NodeName> {
        self.0.iter().filter(move |(_, since)| now.saturating_sub(**since) >= limit).map(|(name, _)| name)
    }
}

/// How many datanodes there are, without those that are forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence {
    pub known: usize,
    pub operative: usize,
    pub available: usize,
}

impl Presence {
    /// Returns whether messages may be repaired. After a start the headnode waits for all datanodes, or for `repair_after`.
    /// While fewer than half of them are operative, something else than a disk has failed: then nothing is copied.
    #[must_use]
    pub fn allows_repair(&self, since_start: Duration, repair_after: Duration) -> bool {
        let is_settled = self.available >= self.known || since_start >= repair_after;
        is_settled && self.operative * 2 >= self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn places(texts: &[&str]) -> Vec<Place> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn copies_are_told_apart() {
        let mut holdings = Holdings::new(false);
        let all = places(&["a:1", "b:1", "c:1", "d:1", "e:1"]);
        all.iter().for_each(|place| holdings.hold(place));
        holdings.mark_lost(&all[1]);
        let discounts = [
            ("c", Discount::Draining),
            ("c", Discount::Away),
            ("d", Discount::Forgotten),
            ("e", Discount::Away),
        ];
        let discounts: Discounts = discounts.into_iter().map(|(name, why)| (node(name), why)).collect();
        assert_eq!(
            discounts.of(&node("c")),
            Some(Discount::Draining),
            "that it is away is no reason to forget that"
        );
        assert_eq!(discounts.draining().collect::<Vec<_>>(), [&node("c")]);
        let tally = CopyTally::of(&all, &holdings, &discounts);
        assert_eq!(tally, CopyTally { live: 1, discounted: 2, forgotten: 1, lost: 1 });
        assert!(tally.needs_repair(1), "its line names a place that does not hold it");
        let forgotten = CopyTally::of(&all[3..4], &holdings, &discounts);
        assert!(!forgotten.can_be_read() && !forgotten.needs_repair(1), "there is nothing to copy");
        assert!(CopyTally::of(&all[2..3], &holdings, &discounts).needs_repair(1));
        assert!(!CopyTally::of(&all[..1], &holdings, &discounts).needs_repair(1));
    }

    #[test]
    fn absences_do_not_add_up() {
        let mut absences = Absences::default();
        let second = Duration::from_secs;
        let mut longest = Vec::new();
        for now in 0..100 {
            absences.observe(second(now), [(&node("a"), now % 10 == 0), (&node("b"), now < 50)].into_iter());
            longest = absences.longer_than(second(10), second(now)).cloned().collect();
            assert!(now >= 60 || longest.is_empty(), "at {now}");
        }
        assert_eq!(longest, [node("b")]);
    }

    #[test]
    fn nothing_is_copied_before_the_store_has_settled_or_while_most_of_it_is_away() {
        let (limit, short) = (Duration::from_secs(600), Duration::from_secs(1));
        let allows = |known, operative, available, since| {
            Presence { known, operative, available }.allows_repair(since, limit)
        };
        assert!(allows(3, 3, 3, short), "all are there");
        assert!(!allows(3, 2, 2, short) && allows(3, 2, 2, limit));
        assert!(!allows(3, 1, 1, limit) && allows(4, 2, 2, limit));
    }
}
