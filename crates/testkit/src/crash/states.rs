//! The states that a disk may be in after a crash.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::crash::trace::Step;

/// The bytes that a disk writes as one.
const SECTOR: usize = 512;
/// With so many changes that are not synced or fewer, every combination of them is a state.
const ALL_COMBINATIONS: usize = 6;

/// What may be on the disk after a crash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrashState {
    /// How many steps had been made, at the latest moment at which the disk may have been in this state.
    pub after: usize,
    /// The files, with what they hold.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl CrashState {
    /// What the program had told its peers, of what was told at the latest moment of this state.
    #[must_use]
    pub fn told(&self, steps: &[Step]) -> String {
        let mut told = Vec::new();
        for step in &steps[..self.after] {
            if let Step::Tell { bytes, .. } = step {
                told.extend_from_slice(bytes);
            }
        }
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Writes the files into a folder that takes the place of `of`, the one of the run.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn write(&self, of: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for (path, bytes) in &self.files {
            let path = to.join(path.strip_prefix(of).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// A change that is lost, or half made, unless a sync has come after it.
#[derive(Debug, Clone)]
enum Change {
    /// The name leads to this file, whatever it led to.
    Link {
        path: PathBuf,
        file: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: usize,
    },
    Unlink {
        path: PathBuf,
    },
    /// Bytes at a place in a file.
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        file: usize,
        length: usize,
    },
}

/// How much of a change is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    All,
    Nothing,
    /// The first half, or up to a sector's end.
    Beginning,
    /// The length, and zeros.
    Zeros,
}

/// Returns the states that the disk may be in if the machine stops between any two steps, or after the last one. Of the same
/// state at several moments, the latest counts: more must be true then.
#[must_use]
pub fn crash_states(steps: &[Step]) -> Vec<CrashState> {
    let mut seen: HashMap<BTreeMap<PathBuf, Vec<u8>>, usize> = HashMap::new();
    let mut disk = CrashingDisk::default();
    for after in 0..=steps.len() {
        if after > 0 {
            disk.make(&steps[after - 1]);
        }
        // Between two changes of the disk, the later moment has the same states.
        if after < steps.len() && matches!(steps[after], Step::Tell { .. }) {
            continue;
        }
        for parts in combinations(&disk.pending) {
            seen.insert(disk.after_crash(&parts), after);
        }
    }
    let states: BTreeSet<_> = seen.into_iter().map(|(files, after)| CrashState { after, files }).collect();
    states.into_iter().collect()
}

/// What a program believes that the disk holds, and which of it a crash may undo.
#[derive(Debug, Default)]
struct CrashingDisk {
    /// Which file each name leads to, for the program.
    names: BTreeMap<PathBuf, usize>,
    /// How long each file is, for the program.
    lengths: Vec<usize>,
    /// What is on the disk for good.
    names_on_disk: BTreeMap<PathBuf, usize>,
    files_on_disk: Vec<Vec<u8>>,
    pending: Vec<Change>,
}

impl CrashingDisk {
    fn make(&mut self, step: &Step) {
        match step {
            Step::Create { path, empties } => {
                if let Some(file) = self.names.get(path).copied() {
                    if *empties {
                        self.lengths[file] = 0;
                        self.pending.push(Change::Cut { file, length: 0 });
                    }
                } else {
                    let file = self.lengths.len();
                    self.lengths.push(0);
                    self.files_on_disk.push(Vec::new());
                    self.names.insert(path.clone(), file);
                    self.pending.push(Change::Link { path: path.clone(), file });
                }
            }
            Step::Append { path, bytes } => {
                let file = self.names[path];
                self.pending.push(Change::Write { file, at: self.lengths[file], bytes: bytes.clone() });
                self.lengths[file] += bytes.len();
            }
            Step::Truncate { path, length } => {
                let (file, length) = (self.names[path], usize::try_from(*length).unwrap());
                self.lengths[file] = length;
                self.pending.push(Change::Cut { file, length });
            }
            Step::Rename { from, to } => {
                let file = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), file);
                self.pending.push(Change::Rename { from: from.clone(), to: to.clone(), file });
            }
            Step::Remove { path } => {
                self.names.remove(path);
                self.pending.push(Change::Unlink { path: path.clone() });
            }
            Step::Sync { path } => self.sync(path),
            Step::Tell { .. } => {}
        }
    }

    /// A file's sync makes what it holds last, and a folder's sync its names.
    fn sync(&mut self, path: &Path) {
        let synced = self.names.get(path).copied();
        let is_synced = |change: &Change| match change {
            Change::Write { file, .. } | Change::Cut { file, .. } => synced == Some(*file),
            Change::Link { path: name, .. }
            | Change::Rename { to: name, .. }
            | Change::Unlink { path: name } => synced.is_none() && name.parent() == Some(path),
        };
        let (now, later): (Vec<_>, _) = self.pending.drain(..).partition(is_synced);
        self.pending = later;
        for change in now {
            apply(&change, Part::All, &mut self.names_on_disk, &mut self.files_on_disk);
        }
    }

    fn after_crash(&self, parts: &[Part]) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut names, mut files) = (self.names_on_disk.clone(), self.files_on_disk.clone());
        for (change, part) in self.pending.iter().zip(parts) {
            apply(change, *part, &mut names, &mut files);
        }
        names.into_iter().map(|(name, file)| (name, files[file].clone())).collect()
    }
}

fn apply(change: &Change, part: Part, names: &mut BTreeMap<PathBuf, usize>, files: &mut [Vec<u8>]) {
    if part == Part::Nothing {
        return;
    }
    match change {
        Change::Link { path, file } => {
            names.insert(path.clone(), *file);
        }
        Change::Rename { from, to, file } => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
        Change::Unlink { path } => {
            names.remove(path);
        }
        Change::Write { file, at, bytes } => {
            let (held, length) = (&mut files[*file], written(*at, bytes.len(), part));
            if held.len() < at + length {
                held.resize(at + length, 0);
            }
            if part != Part::Zeros {
                held[*at..at + length].copy_from_slice(&bytes[..length]);
            }
        }
        Change::Cut { file, length } => files[*file].resize(*length, 0),
    }
}

/// How many bytes of a write are there.
fn written(at: usize, bytes: usize, part: Part) -> usize {
    if part != Part::Beginning {
        return bytes;
    }
    // A write that crosses a sector is cut there, and a shorter one in its middle.
    let to_sector = SECTOR - at % SECTOR;
    if to_sector < bytes { to_sector } else { bytes / 2 }
}

/// Which parts of the changes may be there: of few changes every combination, of many all, none, each beginning of the row, and
/// all but one; and each write in part, before and after which nothing is missing.
fn combinations(pending: &[Change]) -> BTreeSet<Vec<Part>> {
    let mut found: BTreeSet<Vec<Part>> = BTreeSet::new();
    let count = pending.len();
    let by = |is_there: &dyn Fn(usize) -> bool| -> Vec<Part> {
        (0..count).map(|number| if is_there(number) { Part::All } else { Part::Nothing }).collect()
    };
    if count <= ALL_COMBINATIONS {
        found.extend((0..1_usize << count).map(|bits| by(&|number| bits >> number & 1 == 1)));
    }
    for kept in 0..=count {
        found.insert(by(&|number| number < kept));
        found.insert(by(&|number| number != kept));
        found.insert(by(&|number| number == kept));
    }
    for (number, change) in pending.iter().enumerate() {
        if matches!(change, Change::Write { .. }) {
            for part in [Part::Beginning, Part::Zeros] {
                for is_last in [true, false] {
                    let mut parts = by(&|other| other < number || !is_last);
                    parts[number] = part;
                    found.insert(parts);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new("/d").join(name)
    }

    /// The states as lists of names with texts.
    fn shown(steps: &[Step]) -> Vec<(usize, Vec<(String, String)>)> {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "0");
        let files =
            |state: CrashState| state.files.iter().map(|(path, bytes)| (name(path), text(bytes))).collect();
        crash_states(steps).into_iter().map(|state| (state.after, files(state))).collect()
    }

    fn file(name: &str, text: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), text.to_owned())]
    }

    #[test]
    fn what_is_synced_is_there_and_of_the_rest_anything() {
        let mut steps = vec![
            Step::Create { path: path("a"), empties: false },
            Step::Append { path: path("a"), bytes: b"Hola\n".to_vec() },
            Step::Sync { path: path("a") },
        ];
        let any = [
            (3, vec![]),
            (2, file("a", "")),
            (2, file("a", "00000")),
            (2, file("a", "Ho")),
            (3, file("a", "Hola\n")),
        ];
        let mut states = shown(&steps);
        states.sort_by_key(|(_, files)| files.clone());
        assert_eq!(states, any);
        // The name lasts from its folder's sync on.
        steps.push(Step::Sync { path: "/d".into() });
        assert!(shown(&steps).contains(&(4, file("a", "Hola\n"))) && shown(&steps).contains(&(3, vec![])));
        steps.push(Step::Append { path: path("a"), bytes: b"otra\n".to_vec() });
        steps.push(Step::Tell { port: 1, bytes: b"OK".to_vec() });
        let lost: Vec<_> =
            shown(&steps).into_iter().filter(|(after, _)| *after == 6).map(|(_, files)| files).collect();
        assert!(
            lost.contains(&file("a", "Hola\n")),
            "what is acknowledged before a sync may be lost: {lost:?}"
        );
    }

    #[test]
    fn a_rename_without_a_sync_of_the_new_file_may_leave_it_empty() {
        let mut steps = vec![
            Step::Create { path: path("a"), empties: false },
            Step::Append { path: path("a"), bytes: b"1".to_vec() },
            Step::Sync { path: path("a") },
            Step::Sync { path: "/d".into() },
            Step::Create { path: path("a.new"), empties: true },
            Step::Append { path: path("a.new"), bytes: b"2".to_vec() },
            Step::Rename { from: path("a.new"), to: path("a") },
        ];
        assert!(shown(&steps).contains(&(7, file("a", ""))));
        let emptied = [&steps[..4], &[Step::Create { path: path("a"), empties: true }]].concat();
        assert!(
            shown(&emptied).contains(&(5, file("a", ""))) && shown(&emptied).contains(&(5, file("a", "1")))
        );
        steps.insert(6, Step::Sync { path: path("a.new") });
        let after_rename: Vec<_> = shown(&steps).into_iter().filter(|(after, _)| *after == 8).collect();
        assert!(
            after_rename.contains(&(8, file("a", "2"))) && !after_rename.contains(&(8, file("a", ""))),
            "{after_rename:?}"
        );
    }
}
