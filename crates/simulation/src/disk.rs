//! A disk in memory that does to files whatever a real one may do, at moments that a seed chooses.
//!
//! Until they are synced, changed sectors, lengths and names are only in the machine's memory. A power cut leaves any
//! subset of them, for each file on its own. The end of a process leaves all of them.

mod names;
mod sectors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

pub use names::{FileNumber, Names};
use sectors::{DAMAGES, FileContent};

/// How often the operations of a disk fail, from 0 to 1 each.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFaults {
    pub read: f64,
    pub write: f64,
    pub sync: f64,
    /// Opening, renaming and syncing folders.
    pub names: f64,
    /// A sync that reports success and does nothing.
    pub lying_sync: f64,
    /// The system puts changed sectors on the disk although nobody asked for it.
    pub write_back: f64,
    /// The bytes that can still be written.
    pub space: Option<u64>,
}

/// All files of a machine.
#[derive(Debug, Default)]
pub struct DiskState {
    pub names: Names,
    files: BTreeMap<FileNumber, FileContent>,
    created: BTreeMap<FileNumber, Duration>,
    /// The files that a program has locked.
    pub locked: BTreeSet<FileNumber>,
    next_file: FileNumber,
}

impl DiskState {
    /// Cuts the power, and returns whether that can have changed anything.
    pub fn cut(&mut self, rng: &mut StdRng) -> bool {
        let was_unsynced = self.names.is_unsynced() || self.files.values().any(FileContent::is_unsynced);
        self.files.values_mut().for_each(|file| file.cut(rng));
        self.names.cut(rng);
        let named: BTreeSet<_> = self.names.files().map(|(_, file)| file).collect();
        self.files.retain(|file, _| named.contains(file));
        self.locked.clear();
        was_unsynced
    }

    /// Returns the contents of all files by their names.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.names.files();
        files.map(|(path, file)| (path.clone(), self.files[&file].bytes().to_vec())).collect()
    }

    /// Damages a sector of one of the files that hold records, and returns the mark of what it did.
    pub fn damage(&mut self, rng: &mut StdRng) -> Option<&'static str> {
        let is_record_file = |path: &Path| !path.to_string_lossy().contains("hearbeat");
        let files: Vec<_> =
            self.names.files().filter(|(path, _)| is_record_file(path)).map(|(_, file)| file).collect();
        if files.is_empty() {
            return None;
        }
        let (damage, mark) = DAMAGES[rng.random_range(0..DAMAGES.len())];
        let file = self.files.get_mut(&files[rng.random_range(0..files.len())])?;
        file.damage(damage, rng).then_some(mark)
    }
}

impl DiskState {
    /// Creates an empty file, whose folder exists.
    pub fn create(&mut self, path: &Path, now: Duration) -> FileNumber {
        self.next_file += 1;
        self.names.create_file(path, self.next_file);
        self.created.insert(self.next_file, now);
        self.files.insert(self.next_file, FileContent::default());
        self.next_file
    }

    /// Returns when a file was created.
    pub fn created(&self, file: FileNumber) -> Option<Duration> {
        self.created.get(&file).copied()
    }

    pub fn content(&mut self, file: FileNumber) -> &mut FileContent {
        self.files.entry(file).or_default()
    }
}
