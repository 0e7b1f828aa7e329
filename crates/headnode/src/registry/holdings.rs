//! What the registry knows of each datanode: its registered numbers, those of them that it has lost, and whether it was
//! asked in this run. This is a pure type.
//!
//! An id that is not registered is free only if no datanode can hold it unregistered. If the registry may lack lines,
//! this is known only after an answer from every datanode that was ever known.

use std::collections::{BTreeMap, BTreeSet};

use protocol::store::types::{NodeName, Place};
use roaring::RoaringTreemap;

use crate::membership::MAX_DATANODES;

/// Number of known records that are asked for again, to check that they are the same.
pub const RECHECKED: u64 = 100;

/// The registered records of all datanodes.
#[derive(Debug)]
pub struct Holdings {
    /// In the order of their names, so that a simulation can be repeated.
    datanodes: BTreeMap<NodeName, RegisteredDatanode>,
    /// Whether the registry may lack lines that an earlier run of the headnode has acknowledged.
    may_lack_lines: bool,
    /// Datanodes that may hold such records and were not asked yet. It is empty if no lines can be missing.
    unasked: BTreeSet<NodeName>,
    /// Datanodes that are gone for ever.
    forgotten: BTreeSet<NodeName>,
    /// So many datanodes have to be asked for everything, at least.
    asked_at_least: usize,
}

/// The registered records of one datanode.
#[derive(Debug, Default)]
struct RegisteredDatanode {
    /// The registered numbers.
    numbers: RoaringTreemap,
    /// The highest number that was ever registered. It is never assigned again, even if its record is gone.
    highest: u64,
    /// Up to this number, everything that the datanode holds is registered, as checked in this run.
    reconciled_to: u64,
    /// The registered numbers that the datanode does not hold any more.
    lost: RoaringTreemap,
    /// The lost numbers that belong to another record there. Only a comparison of all records finds them.
    replaced: RoaringTreemap,
    asked: bool,
}

impl Holdings {
    /// Returns an empty value. `may_lack_lines` states that the registry may lack lines that an earlier run has
    /// acknowledged.
    pub fn new(may_lack_lines: bool) -> Self {
        Self {
            datanodes: BTreeMap::new(),
            may_lack_lines,
            unasked: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            asked_at_least: 1,
        }
    }

    /// Sets whether the registry may lack lines.
    #[must_use]
    pub fn with_lines_lacking(mut self, may_lack_lines: bool) -> Self {
        self.may_lack_lines = may_lack_lines;
        if may_lack_lines {
            self.unasked.extend(self.datanodes.keys().cloned());
        }
        self
    }

    /// Adds a registered place.
    pub fn hold(&mut self, place: &Place) {
        match self.datanodes.get_mut(&place.datanode) {
            Some(datanode) => {
                datanode.numbers.insert(place.seq);
                datanode.highest = datanode.highest.max(place.seq);
            }
            None => {
                let numbers = RoaringTreemap::from_iter([place.seq]);
                self.datanodes.insert(
                    place.datanode.clone(),
                    RegisteredDatanode { numbers, highest: place.seq, ..RegisteredDatanode::default() },
                );
                self.expect(&place.datanode);
            }
        }
    }

    /// Removes a place that was registered, and at which the message is not any more.
    pub fn release(&mut self, place: &Place) {
        if let Some(datanode) = self.datanodes.get_mut(&place.datanode) {
            datanode.numbers.remove(place.seq);
            datanode.lost.remove(place.seq);
            datanode.replaced.remove(place.seq);
        }
    }

    /// Notes that a datanode does not hold what is registered there. Returns whether that is news.
    pub fn mark_lost(&mut self, place: &Place) -> bool {
        let datanode = self.datanodes.get_mut(&place.datanode);
        let registered = datanode.filter(|datanode| datanode.numbers.contains(place.seq));
        registered.is_some_and(|datanode| datanode.lost.insert(place.seq))
    }

    /// Notes that no readable record of a datanode has a number within `ranges`. Returns how many registered records it
    /// has lost that were not known to be.
    pub fn mark_gaps(&mut self, name: &NodeName, ranges: &[(u64, u64)]) -> u64 {
        let lost = self.registered_in(name, ranges);
        let Some(datanode) = self.datanodes.get_mut(name) else { return 0 };
        let before = datanode.lost.len();
        datanode.lost |= lost;
        datanode.lost.len() - before
    }

    /// Notes that a datanode holds what was taken for lost.
    pub fn mark_found(&mut self, place: &Place) {
        if let Some(datanode) = self.datanodes.get_mut(&place.datanode) {
            datanode.lost.remove(place.seq);
            datanode.replaced.remove(place.seq);
        }
    }

    /// Returns whether a datanode has lost what is registered there.
    pub fn is_lost(&self, place: &Place) -> bool {
        self.datanodes.get(&place.datanode).is_some_and(|datanode| datanode.lost.contains(place.seq))
    }

    /// Returns whether a datanode was asked in this run for everything that it holds.
    pub fn was_asked(&self, name: &NodeName) -> bool {
        self.datanodes.get(name).is_some_and(|datanode| datanode.asked)
    }

    /// Marks these datanodes as gone for ever: nothing waits for what they may hold.
    pub fn forget(&mut self, names: &[NodeName]) {
        self.forgotten.extend(names.iter().cloned());
        self.unasked.retain(|name| !names.contains(name));
    }

    /// Sets how many datanodes have to be asked for everything, at least 1, if lines may be lacking.
    pub fn ask_at_least(&mut self, datanodes: usize) {
        self.asked_at_least = datanodes.max(1);
    }

    /// Adds a datanode that exists or existed.
    pub fn expect(&mut self, name: &NodeName) {
        let is_forgotten = self.forgotten.contains(name);
        if self.may_lack_lines
            && !is_forgotten
            && self.unasked.len() < MAX_DATANODES
            && self.datanodes.get(name).is_none_or(|holding| !holding.asked)
        {
            self.unasked.insert(name.clone());
        }
    }

    /// Notes that a datanode was asked for everything up to its number `last`, and which registered numbers it has
    /// lost. If all records were compared, `replaced` are the registered numbers that belong to another record there.
    /// Returns all numbers that the datanode has lost, if they have changed.
    pub fn reconciled(
        &mut self,
        name: &NodeName,
        last: u64,
        lost: RoaringTreemap,
        replaced: Option<RoaringTreemap>,
    ) -> Option<RoaringTreemap> {
        let holding = self.datanodes.entry(name.clone()).or_default();
        holding.reconciled_to = holding.reconciled_to.max(last);
        if let Some(replaced) = replaced {
            holding.replaced = replaced;
        }
        let lost = lost | &holding.replaced;
        let is_news = !lost.is_empty() && lost != holding.lost;
        holding.lost.clone_from(&lost);
        holding.asked = true;
        self.unasked.remove(name);
        is_news.then_some(lost)
    }

    /// Returns the datanodes that may hold acknowledged records which are not registered. Returns `None` if there are
    /// none: an id that is not registered was then never acknowledged. An empty list means that too few datanodes
    /// have answered yet, so the datanodes are not known.
    pub fn unasked(&self) -> Option<Vec<NodeName>> {
        let asked = || self.datanodes.values().filter(|datanode| datanode.asked).count();
        let may_lack = self.may_lack_lines && (!self.unasked.is_empty() || asked() < self.asked_at_least);
        may_lack.then(|| self.unasked.iter().cloned().collect())
    }

    /// Returns all datanodes with registered records.
    pub fn datanodes(&self) -> impl Iterator<Item = &NodeName> {
        self.datanodes.keys()
    }

    /// Returns the number of registered records that a datanode has not lost.
    pub fn records(&self, name: &NodeName) -> u64 {
        self.datanodes.get(name).map_or(0, |holding| holding.numbers.len().saturating_sub(holding.lost.len()))
    }

    /// Returns the number of registered records that a datanode has lost.
    pub fn lost(&self, name: &NodeName) -> u64 {
        self.datanodes.get(name).map_or(0, |holding| holding.lost.len())
    }

    /// Returns the highest number that was ever registered of a datanode, or 0 if there was none.
    pub fn highest(&self, name: &NodeName) -> u64 {
        self.datanodes.get(name).map_or(0, |holding| holding.highest)
    }

    /// Returns whether record `seq` of a datanode is registered.
    pub fn contains(&self, name: &NodeName, seq: u64) -> bool {
        self.datanodes.get(name).is_some_and(|holding| holding.numbers.contains(seq))
    }

    /// Returns the registered numbers of a datanode within `ranges`, each of which is a first and a last number.
    pub fn registered_in(&self, name: &NodeName, ranges: &[(u64, u64)]) -> RoaringTreemap {
        let Some(holding) = self.datanodes.get(name) else { return RoaringTreemap::new() };
        let within = ranges.iter().flat_map(|(first, last)| {
            let mut numbers = holding.numbers.iter();
            numbers.advance_to(*first);
            numbers.take_while(move |seq| seq <= last)
        });
        within.collect()
    }

    /// Returns the registered numbers of a datanode without those in `held`.
    pub fn registered_without(&self, name: &NodeName, held: &RoaringTreemap) -> RoaringTreemap {
        self.datanodes.get(name).map_or_else(RoaringTreemap::new, |holding| &holding.numbers - held)
    }

    /// Returns the number up to which everything that a datanode holds is registered.
    pub fn known_to(&self, name: &NodeName) -> u64 {
        let Some(RegisteredDatanode { numbers, reconciled_to, .. }) = self.datanodes.get(name) else {
            return 0;
        };
        let before = numbers.rank(*reconciled_to);
        let (mut known, mut unknown) = (*reconciled_to, reconciled_to + numbers.len() - before + 1);
        while known + 1 < unknown {
            let middle = known + (unknown - known) / 2;
            if numbers.rank(middle) - before == middle - reconciled_to {
                known = middle;
            } else {
                unknown = middle;
            }
        }
        known
    }

    /// Returns the first number to ask a datanode for, so that nothing is missing afterwards.
    pub fn first_wanted(&self, name: &NodeName) -> u64 {
        self.known_to(name).saturating_sub(RECHECKED).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn holding(numbers: &[u64]) -> Holdings {
        let mut holdings = Holdings::new(false);
        for seq in numbers {
            holdings.hold(&Place { datanode: node("a"), seq: *seq });
        }
        holdings
    }

    #[test]
    fn the_part_without_gaps_is_known() {
        for (numbers, expected) in
            [(vec![], 0), (vec![2], 0), (vec![1], 1), (vec![1, 2, 3, 7], 3), ((1..=1000).collect(), 1000)]
        {
            assert_eq!(holding(&numbers).known_to(&node("a")), expected, "{numbers:?}");
        }
    }

    #[test]
    fn what_was_reconciled_need_not_be_asked_for_again() {
        let mut holdings = holding(&[1, 2, 5, 6, 9]);
        holdings.reconciled(&node("a"), 6, RoaringTreemap::new(), None);
        assert_eq!(holdings.known_to(&node("a")), 6, "3 and 4 are nobody's");
        holdings.hold(&Place { datanode: node("a"), seq: 7 });
        assert_eq!(holdings.known_to(&node("a")), 7);
    }

    #[test]
    fn what_is_registered_and_not_held_is_lost_until_it_is_back() {
        let mut holdings = holding(&[1, 2, 3, 4, 900]);
        let lost = holdings.registered_in(&node("a"), &[(2, 3), (10, u64::MAX)]);
        assert_eq!(lost.iter().collect::<Vec<_>>(), [2, 3, 900]);
        assert_eq!(holdings.reconciled(&node("a"), 4, lost.clone(), None), Some(lost.clone()));
        assert_eq!(holdings.reconciled(&node("a"), 4, lost, None), None, "no news");
        assert_eq!((holdings.lost(&node("a")), holdings.records(&node("a"))), (3, 2));
        assert_eq!(holdings.highest(&node("a")), 900);
        holdings.reconciled(&node("a"), 4, RoaringTreemap::new(), None);
        assert_eq!(holdings.lost(&node("a")), 0);
        let replaced = holdings.registered_without(&node("a"), &RoaringTreemap::from_iter([1, 2, 3]));
        holdings.reconciled(&node("a"), 4, RoaringTreemap::new(), Some(replaced));
        holdings.reconciled(&node("a"), 4, RoaringTreemap::new(), None);
        assert_eq!(holdings.lost(&node("a")), 2, "only a comparison of all records can take that back");
    }

    #[test]
    fn a_place_that_is_gone_is_not_missed_and_its_number_stays_used() {
        let mut holdings = holding(&[1, 2, 3]);
        let last = Place { datanode: node("a"), seq: 3 };
        assert!(holdings.mark_lost(&last) && !holdings.mark_lost(&last) && holdings.is_lost(&last));
        assert!(!holdings.mark_lost(&Place { datanode: node("a"), seq: 4 }), "never registered");
        holdings.release(&last);
        assert_eq!((holdings.lost(&node("a")), holdings.records(&node("a"))), (0, 2));
        assert!(!holdings.contains(&node("a"), 3) && !holdings.is_lost(&last));
        assert_eq!(holdings.highest(&node("a")), 3);
    }

    #[test]
    fn a_miss_needs_the_word_of_every_datanode_where_lines_may_be_lacking() {
        assert_eq!(Holdings::new(false).unasked(), None);
        let mut holdings = Holdings::new(true);
        assert_eq!(holdings.unasked(), Some(vec![]), "nobody has answered yet");
        holdings.expect(&node("a"));
        holdings.hold(&Place { datanode: node("b"), seq: 1 });
        assert_eq!(holdings.unasked(), Some(vec![node("a"), node("b")]));
        holdings.reconciled(&node("a"), 0, RoaringTreemap::new(), None);
        holdings.expect(&node("a"));
        assert_eq!(holdings.unasked(), Some(vec![node("b")]));
        holdings.reconciled(&node("b"), 1, RoaringTreemap::new(), None);
        assert_eq!(holdings.unasked(), None);
        holdings.ask_at_least(3);
        assert_eq!(holdings.unasked(), Some(vec![]), "there may be one that nobody has told of");
        holdings.ask_at_least(2);
        holdings.expect(&node("c"));
        assert_eq!(holdings.unasked(), Some(vec![node("c")]), "somebody has told of a third one");
        holdings.forget(&[node("c"), node("d")]);
        holdings.expect(&node("d"));
        assert_eq!(holdings.unasked(), None);
    }
}
