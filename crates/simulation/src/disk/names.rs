//! The names of a simulated disk: what the program sees, and what a power cut would leave of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;

/// A file, whatever its name.
pub type FileNumber = u64;

/// The names of files and folders.
#[derive(Debug, Clone)]
pub struct Names {
    present: NameTable,
    stored: NameTable,
    /// The changes since the folders were synced, in their order.
    pending: Vec<NameChange>,
}

#[derive(Debug, Clone)]
struct NameTable {
    files: BTreeMap<PathBuf, FileNumber>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Folder(PathBuf),
    File(PathBuf, FileNumber),
    Renamed(PathBuf, PathBuf, FileNumber),
}

impl NameChange {
    fn folder(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::File(path, _) | Self::Renamed(_, path, _) => folder_of(path),
        }
    }
}

impl NameTable {
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Folder(path) => {
                self.folders.insert(path.clone());
            }
            NameChange::File(path, file) => {
                self.files.insert(path.clone(), *file);
            }
            NameChange::Renamed(from, to, file) => {
                if self.files.get(from) == Some(file) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *file);
            }
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        let root = NameTable { files: BTreeMap::new(), folders: BTreeSet::from([PathBuf::from("/")]) };
        Self { present: root.clone(), stored: root, pending: Vec::new() }
    }
}

impl Names {
    pub fn file(&self, path: &Path) -> Option<FileNumber> {
        self.present.files.get(path).copied()
    }

    /// Returns all files with their names.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, FileNumber)> {
        self.present.files.iter().map(|(path, file)| (path, *file))
    }

    pub fn has_folder(&self, path: &Path) -> bool {
        self.present.folders.contains(path)
    }

    pub fn has_name(&self, file: FileNumber) -> bool {
        self.present.files.values().any(|other| *other == file)
    }

    pub fn is_unsynced(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn create_folder(&mut self, path: &Path) {
        let missing: Vec<_> = path.ancestors().filter(|folder| !self.has_folder(folder)).collect();
        for folder in missing.into_iter().rev() {
            self.change(NameChange::Folder(folder.to_owned()));
        }
    }

    pub fn create_file(&mut self, path: &Path, file: FileNumber) {
        self.change(NameChange::File(path.to_owned(), file));
    }

    /// Renames a file, and returns whether there is one.
    pub fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let Some(file) = self.file(from) else { return false };
        self.change(NameChange::Renamed(from.to_owned(), to.to_owned(), file));
        true
    }

    fn change(&mut self, change: NameChange) {
        self.present.apply(&change);
        self.pending.push(change);
    }

    /// Puts the names in `folder` on the disk.
    pub fn sync_folder(&mut self, folder: &Path) {
        let (synced, pending) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.folder() == folder);
        self.pending = pending;
        Vec::into_iter(synced).for_each(|change| self.stored.apply(&change));
    }

    /// Cuts the power: any of the unsynced changes may be on the disk or not.
    pub fn cut(&mut self, rng: &mut StdRng) {
        let share = [0.0, 0.5, 1.0][rng.random_range(0..3)];
        for change in std::mem::take(&mut self.pending) {
            if rng.random_bool(share) {
                self.stored.apply(&change);
            }
        }
        // What is in a folder without a name is lost with it.
        let folders = self.stored.folders.clone();
        let is_found = |path: &Path| path.ancestors().skip(1).all(|folder| folders.contains(folder));
        self.stored.folders.retain(|path| is_found(path));
        self.stored.files.retain(|path, _| is_found(path));
        self.present = self.stored.clone();
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
