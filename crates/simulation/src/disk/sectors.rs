//! The content of one simulated file: what the program sees, and what a power cut would leave of it.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use rand::rngs::StdRng;

/// The unit in which a disk writes, in bytes.
pub const SECTOR: usize = 512;

/// A file as it is in memory (`cached`), and as it is on the disk (`stored`).
#[derive(Debug, Clone, Default)]
pub struct FileContent {
    cached: Vec<u8>,
    /// The sectors on the disk. Some of them may be behind `stored_length`.
    stored: Vec<u8>,
    /// The length on the disk.
    stored_length: usize,
    /// The sectors that were changed since they were last stored.
    dirty: BTreeSet<usize>,
    /// The lengths that the file has had since its length was last stored.
    lengths: Vec<usize>,
    /// What was in a sector before its present content was stored.
    earlier: BTreeMap<usize, Vec<u8>>,
}

/// What a disk does to a sector that it should have kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorDamage {
    /// Its bytes are zero.
    Zeroed,
    /// One of its bits has changed.
    Flipped,
    /// It holds what it held before the last write.
    Stale,
    /// It holds what was written for another sector.
    Misdirected,
}

pub const DAMAGES: [(SectorDamage, &str); 4] = [
    (SectorDamage::Zeroed, "disk: a sector was zeroed"),
    (SectorDamage::Flipped, "disk: a bit was flipped"),
    (SectorDamage::Stale, "disk: a sector went back to what it held before"),
    (SectorDamage::Misdirected, "disk: a sector was written to another place"),
];

impl FileContent {
    /// Returns what the program reads.
    pub fn bytes(&self) -> &[u8] {
        &self.cached
    }

    /// Returns whether a power cut can change the file.
    pub fn is_unsynced(&self) -> bool {
        !self.dirty.is_empty() || self.cached.len() != self.stored_length
    }

    pub fn append(&mut self, bytes: &[u8]) {
        let start = self.cached.len();
        self.cached.extend_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(start / SECTOR..=(self.cached.len() - 1) / SECTOR);
        }
        self.lengths.push(self.cached.len());
    }

    pub fn truncate(&mut self, length: usize) {
        self.cached.truncate(length);
        self.dirty.retain(|sector| sector * SECTOR < length);
        self.lengths.push(self.cached.len());
    }

    /// Puts everything on the disk.
    pub fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.store(sector);
        }
        self.stored.resize(self.cached.len(), 0);
        self.stored_length = self.cached.len();
        self.lengths.clear();
    }

    /// Puts some of the changed sectors on the disk, as the system does at any time.
    pub fn write_back(&mut self, rng: &mut StdRng) {
        for sector in self.dirty.clone() {
            if rng.random() {
                self.store(sector);
                self.dirty.remove(&sector);
            }
        }
    }

    /// Fails to sync: some of the changed sectors are on the disk, and the system has forgotten that the others are not.
    /// The program still reads them.
    pub fn fail_sync(&mut self, rng: &mut StdRng) {
        self.write_back(rng);
        self.dirty.clear();
    }

    /// Reads what was not changed since it was stored from the disk again, from an offset on.
    pub fn forget_cached(&mut self, from: usize) {
        let length = self.cached.len();
        self.stored.resize(self.stored.len().max(length), 0);
        for sector in from.div_ceil(SECTOR)..length.div_ceil(SECTOR) {
            if !self.dirty.contains(&sector) {
                let range = range_of(sector, length);
                self.cached[range.clone()].copy_from_slice(&self.stored[range]);
            }
        }
    }

    /// Cuts the power: any of the unsynced sectors may be on the disk or not, and so may the length.
    pub fn cut(&mut self, rng: &mut StdRng) {
        let share = [0.0, 0.5, 0.9, 1.0][rng.random_range(0..4)];
        for sector in std::mem::take(&mut self.dirty) {
            if rng.random_bool(share) {
                self.store(sector);
            }
        }
        let lengths = std::mem::take(&mut self.lengths);
        self.stored_length = match rng.random_range(0..=2 * lengths.len()) {
            0 => self.stored_length,
            at => lengths.get(at - 1).or(lengths.last()).copied().unwrap_or(self.stored_length),
        };
        self.stored.resize(self.stored_length, 0);
        self.cached.clone_from(&self.stored);
    }

    /// Damages a stored sector, and returns whether there is one that can be damaged like this.
    pub fn damage(&mut self, damage: SectorDamage, rng: &mut StdRng) -> bool {
        let clean: Vec<usize> = (0..self.stored.len().div_ceil(SECTOR))
            .filter(|sector| !self.dirty.contains(sector) && sector * SECTOR < self.cached.len())
            .collect();
        if clean.is_empty() {
            return false;
        }
        let sector = clean[rng.random_range(0..clean.len())];
        let range = range_of(sector, self.stored.len().min(self.cached.len()));
        let mut bytes = self.stored[range.clone()].to_vec();
        match damage {
            SectorDamage::Zeroed => bytes.fill(0),
            SectorDamage::Flipped => {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            SectorDamage::Stale => {
                let Some(earlier) = self.earlier.get(&sector) else { return false };
                bytes.fill(0);
                let length = bytes.len().min(earlier.len());
                bytes[..length].copy_from_slice(&earlier[..length]);
            }
            SectorDamage::Misdirected => {
                let other = range_of(clean[rng.random_range(0..clean.len())], self.stored.len());
                let length = bytes.len().min(other.len());
                bytes[..length].copy_from_slice(&self.stored[other][..length]);
            }
        }
        if bytes == self.stored[range.clone()] {
            return false;
        }
        self.stored[range.clone()].copy_from_slice(&bytes);
        self.cached[range].copy_from_slice(&bytes);
        true
    }

    fn store(&mut self, sector: usize) {
        let range = range_of(sector, self.cached.len());
        if range.is_empty() {
            return;
        }
        let old = range_of(sector, self.stored.len());
        if !old.is_empty() {
            self.earlier.insert(sector, self.stored[old].to_vec());
        }
        if self.stored.len() < range.end {
            self.stored.resize(range.end, 0);
        }
        self.stored[range.clone()].copy_from_slice(&self.cached[range]);
    }
}

/// Returns the bytes of a sector in a file of `length` bytes.
fn range_of(sector: usize, length: usize) -> std::ops::Range<usize> {
    (sector * SECTOR).min(length)..((sector + 1) * SECTOR).min(length)
}
