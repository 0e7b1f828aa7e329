//! Finds lines by a hash of what is in them: eight bytes for each line, in a table that never grows as a whole.
//!
//! The hashes are split into parts, and each part lies in a segment of 512 slots. A segment that is nearly full is split
//! in two, by one more bit of the hash; nothing else moves, and no memory is ever copied from a smaller table to a larger
//! one (extendible hashing). A slot holds 32 bits of the hash and the number of the line; the place of its segment stands
//! for three more bits. So a hit is only a candidate: the caller compares the lines themselves.
//!
//! Segments that began alike would all be split at about the same time and be half empty together. So the hashes begin in
//! eight parts of unequal size, each 2^(1/8) of the one before: at any time some are nearly full and some nearly empty, and
//! a line takes 12 to 14 bytes whatever the number of lines.

use std::hash::Hasher as _;
use std::hint::black_box;

use siphasher::sip::SipHasher13;

/// The number of slots in a segment.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 9;
/// The number of used slots at which a segment is split.
const FULL: u16 = 448;
/// How often a segment can be split.
const MAX_DEPTH: u32 = u32::BITS - SLOT_BITS;
/// The number of segments in a slab. Its 64 MiB are the system's own pages: untouched ones take no memory, and all go back to the system
/// when the table is dropped, which smaller pieces would not.
const SLAB_SEGMENTS: usize = 16 * 1024;
/// The first six bits of a hash choose the part, the next 32 are the tag.
const PART_SHIFT: u32 = u64::BITS - 6;
const TAG_SHIFT: u32 = PART_SHIFT - u32::BITS;
/// The eight parts, in 64ths of all hashes.
const PARTS: [usize; 8] = [6, 6, 7, 7, 8, 9, 10, 11];
/// The part for each value of the first six bits of a hash.
const PART_OF: [u8; 64] = {
    let mut part_of = [0; 64];
    let (mut part, mut at, mut end) = (0, 0, PARTS[0]);
    while at < 64 {
        if at == end {
            part += 1;
            end += PARTS[part as usize];
        }
        part_of[at] = part;
        at += 1;
    }
    part_of
};
const EMPTY: u64 = 0;
/// Distance between the tags of a line's copies. Since it is odd, no two of 2^32 copies have the same tag.
const COPY_STEP: u32 = 0x9e37_79b9;

/// The key of the hashes. Nobody else knows the key, so nobody can make lines whose hashes agree.
#[derive(Debug, Clone, Copy)]
pub struct HashKey([u8; 16]);

impl Default for HashKey {
    fn default() -> Self {
        Self(rand::random())
    }
}

/// SipHash-1-3 of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineHash(u64);

impl HashKey {
    /// Returns the hash of a line.
    pub fn hash(&self, line: &[u8]) -> LineHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(line);
        LineHash(hasher.finish())
    }
}

impl LineHash {
    /// Returns the hash of a further copy of the line, with `before` copies in front. No two copies of one line have the
    /// same place in the table.
    pub fn of_copy(self, before: u32) -> Self {
        let tag = self.tag().wrapping_add(before.wrapping_mul(COPY_STEP));
        Self(self.0 & !(u64::from(u32::MAX) << TAG_SHIFT) | (u64::from(tag) << TAG_SHIFT))
    }

    /// Returns the bits that a slot keeps.
    fn tag(self) -> u32 {
        (self.0 >> TAG_SHIFT) as u32
    }

    fn part(self) -> usize {
        usize::from(PART_OF[(self.0 >> PART_SHIFT) as usize])
    }
}

/// A multimap from the hashes of lines to their numbers.
#[derive(Debug)]
pub struct LineTable {
    slabs: Vec<Vec<u64>>,
    segments: Vec<TableSegment>,
    parts: [TablePart; PARTS.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct TableSegment {
    /// The number of slots in use.
    used: u16,
    /// How many of the first bits all tags in the segment share.
    depth: u8,
}

/// The segments of a part of the hashes, by the first `depth` bits of the tag.
#[derive(Debug)]
struct TablePart {
    depth: u32,
    directory: Vec<u32>,
}

impl Default for LineTable {
    fn default() -> Self {
        let mut table = Self {
            slabs: Vec::new(),
            segments: Vec::new(),
            parts: std::array::from_fn(|_| TablePart { depth: 0, directory: Vec::new() }),
        };
        for part in 0..PARTS.len() {
            let segment = table.add_segment(0);
            table.parts[part].directory.push(segment);
        }
        table
    }
}

fn pack(tag: u32, line: u32) -> u64 {
    // One is added, so that no slot in use looks like an empty one.
    (u64::from(tag) << 32) | (u64::from(line) + 1)
}

fn line_of(slot: u64) -> u32 {
    (slot as u32) - 1
}

fn tag_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

/// Returns the slot in its segment where a tag belongs.
fn home(tag: u32) -> usize {
    tag as usize % SLOTS
}

/// Returns the first `depth` bits of a tag.
fn prefix(tag: u32, depth: u32) -> usize {
    (u64::from(tag) >> (u32::BITS - depth)) as usize
}

impl LineTable {
    /// Brings the places of these hashes into the processor's cache, all at the same time.
    pub fn prepare(&self, hashes: &[LineHash]) {
        let touched = hashes.iter().map(|hash| self.slots(self.segment(*hash))[home(hash.tag())]);
        black_box(touched.fold(0, |all, slot| all ^ slot));
    }

    /// Returns the lines whose hash may be this one.
    pub fn candidates(&self, hash: LineHash) -> impl Iterator<Item = u32> + '_ {
        let (slots, tag) = (self.slots(self.segment(hash)), hash.tag());
        let from_home = (0..SLOTS).map(move |step| slots[(home(tag) + step) % SLOTS]);
        from_home.take_while(|slot| *slot != EMPTY).filter(move |slot| tag_of(*slot) == tag).map(line_of)
    }

    /// Adds a line; the number `u32::MAX` is not allowed.
    pub fn insert(&mut self, hash: LineHash, line: u32) {
        let mut segment = self.segment(hash);
        while self.segments[segment].used >= FULL && self.split(hash, segment) {
            segment = self.segment(hash);
        }
        let used = &mut self.segments[segment].used;
        *used += 1;
        assert!(usize::from(*used) < SLOTS, "hundreds of keyed hashes agree in 26 bits: not by chance");
        place(self.slots_mut(segment), pack(hash.tag(), line));
    }

    /// Removes a line; returns `false` if it is not there.
    pub fn remove(&mut self, hash: LineHash, line: u32) -> bool {
        let segment = self.segment(hash);
        let slots = self.slots_mut(segment);
        let (start, slot) = (home(hash.tag()), pack(hash.tag(), line));
        let mut at = start;
        while slots[at] != slot {
            if slots[at] == EMPTY {
                return false;
            }
            at = (at + 1) % SLOTS;
        }
        // The slots behind the gap move up, unless one would get in front of its own place.
        let mut next = (at + 1) % SLOTS;
        while slots[next] != EMPTY {
            let distance = |from: usize| (next + SLOTS - from) % SLOTS;
            if distance(home(tag_of(slots[next]))) >= distance(at) {
                slots[at] = slots[next];
                at = next;
            }
            next = (next + 1) % SLOTS;
        }
        slots[at] = EMPTY;
        self.segments[segment].used -= 1;
        true
    }

    fn segment(&self, hash: LineHash) -> usize {
        let part = &self.parts[hash.part()];
        part.directory[prefix(hash.tag(), part.depth)] as usize
    }

    fn slots(&self, segment: usize) -> &[u64] {
        let start = segment % SLAB_SEGMENTS * SLOTS;
        &self.slabs[segment / SLAB_SEGMENTS][start..start + SLOTS]
    }

    fn slots_mut(&mut self, segment: usize) -> &mut [u64] {
        let start = segment % SLAB_SEGMENTS * SLOTS;
        &mut self.slabs[segment / SLAB_SEGMENTS][start..start + SLOTS]
    }

    fn add_segment(&mut self, depth: u8) -> u32 {
        let segment = self.segments.len();
        if segment == self.slabs.len() * SLAB_SEGMENTS {
            self.slabs.push(vec![EMPTY; SLAB_SEGMENTS * SLOTS]);
        }
        self.segments.push(TableSegment { used: 0, depth });
        u32::try_from(segment).expect("2^32 lines need fewer segments")
    }

    /// Splits the segment of this hash in two; returns `false` if its hashes have no further bit.
    fn split(&mut self, hash: LineHash, segment: usize) -> bool {
        let depth = u32::from(self.segments[segment].depth);
        if depth == MAX_DEPTH {
            return false;
        }
        self.segments[segment].depth += 1;
        let sibling = self.add_segment(self.segments[segment].depth);
        let part = &mut self.parts[hash.part()];
        if part.depth == depth {
            part.directory = part.directory.iter().flat_map(|segment| [*segment; 2]).collect();
            part.depth += 1;
        }
        // Of those that point to the segment the second half has the next bit set.
        let pointing = 1 << (part.depth - depth);
        let first = prefix(hash.tag(), depth) * pointing;
        part.directory[first + pointing / 2..first + pointing].fill(sibling);
        let sibling = sibling as usize;
        let mut old = [EMPTY; SLOTS];
        old.copy_from_slice(self.slots(segment));
        self.slots_mut(segment).fill(EMPTY);
        let mut moved = 0;
        for slot in old.into_iter().filter(|slot| *slot != EMPTY) {
            let moves = prefix(tag_of(slot), depth + 1) % 2 == 1;
            moved += u16::from(moves);
            place(self.slots_mut(if moves { sibling } else { segment }), slot);
        }
        self.segments[segment].used -= moved;
        self.segments[sibling].used = moved;
        true
    }
}

/// Puts a slot into the first empty place, starting at its own.
fn place(slots: &mut [u64], slot: u64) {
    let mut at = home(tag_of(slot));
    while slots[at] != EMPTY {
        at = (at + 1) % SLOTS;
    }
    slots[at] = slot;
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn every_line_is_found_and_few_others() {
        const LINES: u32 = 300_000;
        let mut rng = StdRng::seed_from_u64(7574);
        let hashes: Vec<_> = (0..LINES).map(|_| LineHash(rng.random())).collect();
        let mut table = LineTable::default();
        for (hash, line) in hashes.iter().zip(0..) {
            table.insert(*hash, line);
        }
        table.prepare(&hashes);
        let mut others = 0;
        for (hash, line) in hashes.iter().zip(0..) {
            let found: Vec<_> = table.candidates(*hash).collect();
            assert!(found.contains(&line));
            others += found.len() - 1;
        }
        assert!(others < 20, "{others}: 35 bits of 300,000 hashes");
        for (hash, line) in hashes.iter().zip(0..).filter(|(_, line)| line % 3 > 0) {
            assert!(table.remove(*hash, line) && !table.remove(*hash, line));
        }
        for (hash, line) in hashes.iter().zip(0..) {
            assert_eq!(table.candidates(*hash).any(|found| found == line), line % 3 == 0);
        }
        assert_eq!(table.segments.iter().map(|segment| u32::from(segment.used)).sum::<u32>(), LINES / 3);
    }

    #[test]
    fn a_line_takes_12_to_14_bytes_at_any_time() {
        let mut rng = StdRng::seed_from_u64(7574);
        let mut table = LineTable::default();
        for line in 0..2_000_000u32 {
            table.insert(LineHash(rng.random()), line);
            if line >= 200_000 && line % 10_000 == 0 {
                let directories: usize = table.parts.iter().map(|part| part.directory.capacity() * 4).sum();
                let bytes = table.segments.len() * SLOTS * 8 + table.segments.capacity() * 4 + directories;
                let each = bytes as f64 / f64::from(line);
                assert!((12.0..14.2).contains(&each), "{each} bytes for each of {line} lines");
            }
        }
    }

    #[test]
    fn copies_of_a_line_never_share_a_place() {
        let first = HashKey::default().hash(b"1,Ana,Paz,1,2000-01-01,1\r\n");
        assert_eq!(first.of_copy(0), first);
        let tags: HashSet<u32> = (0..1_000_000).map(|before| first.of_copy(before).tag()).collect();
        assert_eq!(tags.len(), 1_000_000);
        assert_eq!(first.of_copy(999).part(), first.part());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_a_map_from_hashes_to_lines(
            // All with the same home, and alike in the first 17 bits: segments are split deep down, and slots collide.
            actions in prop::collection::vec((0u8..8, 0u64..2, 0u64..64, 0u32..40), 1..4000),
        ) {
            let mut table = LineTable::default();
            let mut model: HashSet<(u64, u32)> = HashSet::new();
            for (number, (kind, high, low, line)) in actions.into_iter().enumerate() {
                let bits = (high << 62) | (0x155 << 41) | (low << 35);
                let hash = LineHash(bits);
                if kind > 0 && model.insert((bits, line)) {
                    table.insert(hash, line);
                } else if kind == 0 {
                    prop_assert_eq!(table.remove(hash, line), model.remove(&(bits, line)));
                }
                if number % 16 == 0 {
                    let found: BTreeSet<_> = table.candidates(hash).collect();
                    let expected = model.iter().filter(|(key, _)| *key == bits).map(|(_, line)| *line);
                    prop_assert_eq!(found, expected.collect());
                }
            }
        }
    }
}
