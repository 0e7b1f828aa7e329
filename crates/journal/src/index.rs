//! An index from identifiers to file offsets that holds millions of entries in little memory.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

/// A table grows by doubling, and needs the old and the new memory at the same time. With many small tables, only one
/// grows at a time, so the peak stays small.
const SHARDS: usize = 64;

/// Maps 128-bit identifiers to offsets in a file.
///
/// A slot takes 25 bytes: identifier, offset, and a control byte of the table. Tables are between 7/16 and 7/8 full,
/// which gives 29 to 57 bytes per identifier. Identifiers come from clients, so the hash is keyed (`SipHash`): a client
/// cannot choose identifiers that collide.
#[derive(Debug)]
pub struct OffsetIndex {
    shards: Vec<HashTable<Slot>>,
    keys: RandomState,
}

/// One entry as three 64-bit words. A `u128` would be aligned to 16 bytes and add padding.
#[derive(Debug, Clone, Copy)]
struct Slot {
    high: u64,
    low: u64,
    offset: u64,
}

impl Slot {
    fn new(id: u128, offset: u64) -> Self {
        Self { high: (id >> 64) as u64, low: id as u64, offset }
    }

    fn id(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

impl Default for OffsetIndex {
    fn default() -> Self {
        Self { shards: vec![HashTable::new(); SHARDS], keys: RandomState::new() }
    }
}

impl OffsetIndex {
    /// Returns the offset of `id`.
    #[must_use]
    pub fn get(&self, id: u128) -> Option<u64> {
        let hash = self.keys.hash_one(id);
        self.shards[shard(hash)].find(hash, |slot| slot.id() == id).map(|slot| slot.offset)
    }

    /// Sets the offset of `id`, and returns its previous offset.
    pub fn insert(&mut self, id: u128, offset: u64) -> Option<u64> {
        let hash = self.keys.hash_one(id);
        let table = &mut self.shards[shard(hash)];
        if let Some(slot) = table.find_mut(hash, |slot| slot.id() == id) {
            return Some(std::mem::replace(&mut slot.offset, offset));
        }
        table.insert_unique(hash, Slot::new(id, offset), |slot| self.keys.hash_one(slot.id()));
        None
    }

    /// Removes the identifiers whose offsets `is_kept` does not accept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(u64) -> bool) {
        for table in &mut self.shards {
            table.retain(|slot| is_kept(slot.offset));
        }
    }

    /// Returns the number of identifiers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Returns whether the index is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the memory in use, in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }
}

/// Returns the number of the table for `hash`. The table itself uses other bits of the hash first.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(entries in prop::collection::vec((prop_oneof![0u128..50, any::<u128>()], any::<u64>()), 0..300)) {
            let mut index = OffsetIndex::default();
            let mut model = HashMap::new();
            prop_assert!(index.is_empty());
            for (id, offset) in entries {
                prop_assert_eq!(index.insert(id, offset), model.insert(id, offset));
                prop_assert_eq!(index.len(), model.len());
                prop_assert!(!index.is_empty());
            }
            for id in 0..50 {
                prop_assert_eq!(index.get(id), model.get(&id).copied());
            }
            prop_assert!(model.iter().all(|(id, offset)| index.get(*id) == Some(*offset)));
            index.retain(|offset| offset.is_multiple_of(2));
            model.retain(|_, offset| offset.is_multiple_of(2));
            prop_assert_eq!(index.len(), model.len());
            prop_assert!(model.iter().all(|(id, offset)| index.get(*id) == Some(*offset)));
        }
    }

    #[test]
    fn an_identifier_takes_at_most_64_bytes() {
        let mut index = OffsetIndex::default();
        for id in 0..300_000u128 {
            index.insert(id, 0);
            let used = index.allocated_bytes();
            assert!(index.len() < 100_000 || used <= 64 * index.len(), "{used} bytes for {}", index.len());
            assert!(used >= 25 * index.len(), "{used} bytes for {}", index.len());
        }
        // No table is much larger than the others, so that little memory is needed while one grows.
        let largest = index.shards.iter().map(HashTable::len).max();
        assert!(largest < Some(2 * 300_000 / SHARDS), "{largest:?}");
    }
}
