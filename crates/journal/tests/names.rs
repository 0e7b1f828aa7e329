//! What lasts of names: which folders are synced and when, which refusals count, and in which order a file is replaced.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use journal::disk::replace;
use journal::{Access, Disk, DiskFile, FileSystem, JournalFile, OpenError, Storage};

const EACCES: i32 = 13;
const EIO: i32 = 5;

/// Files in real folders that note what they are asked, and that refuse to sync one of the folders.
#[derive(Debug, Clone)]
struct NotingFiles {
    real: Disk,
    notes: Arc<Mutex<Vec<String>>>,
    refused: Option<(PathBuf, i32)>,
}

#[derive(Debug)]
struct NotingFile {
    real: Box<dyn DiskFile>,
    name: String,
    notes: Arc<Mutex<Vec<String>>>,
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

impl NotingFiles {
    fn new(refused: Option<(PathBuf, i32)>) -> Self {
        Self { real: Disk::default(), notes: Arc::default(), refused }
    }

    fn note(&self, what: String) {
        self.notes.lock().unwrap().push(what);
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }
}

impl FileSystem for NotingFiles {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let (real, name) = (self.real.open(path, access)?, name_of(path));
        Ok(Box::new(NotingFile { real, name, notes: self.notes.clone() }))
    }

    fn exists(&self, path: &Path) -> bool {
        self.real.exists(path)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.real.create_folder(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if let Some((_, code)) = self.refused.as_ref().filter(|(refused, _)| refused == folder) {
            self.note("refused".to_owned());
            return Err(io::Error::from_raw_os_error(*code));
        }
        self.note("sync folder".to_owned());
        self.real.sync_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(format!("rename {} to {}", name_of(from), name_of(to)));
        self.real.rename(from, to)
    }

    fn created(&self, path: &Path) -> io::Result<Option<SystemTime>> {
        self.real.created(path)
    }

    fn machine_start(&self) -> String {
        self.real.machine_start()
    }
}

impl Storage for NotingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.notes.lock().unwrap().push(format!("write {}", self.name));
        self.real.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.notes.lock().unwrap().push(format!("sync {}", self.name));
        self.real.sync()
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        self.real.status()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.real.truncate(length)
    }
}

impl DiskFile for NotingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.real.read_at(buffer, offset)
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        self.real.try_lock()
    }

    fn forget_cached(&self, from: u64, bytes: u64) {
        self.real.forget_cached(from, bytes);
    }
}

#[test]
fn a_file_is_replaced_by_one_that_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let synced = ["write state.new", "sync state.new", "rename state.new to state", "sync folder"];
    let unsynced = ["write state.new", "rename state.new to state"];
    for (content, is_synced, expected) in [("one", true, &synced[..]), ("two", false, &unsynced[..])] {
        let files = NotingFiles::new(None);
        replace(&Disk::new(files.clone()), &path, content.as_bytes(), is_synced).unwrap();
        assert_eq!(files.notes(), expected);
        assert_eq!(Disk::default().read(&path).unwrap(), content.as_bytes());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the unfinished file is gone");
    }
}

#[test]
fn only_a_folder_that_this_user_cannot_have_changed_may_refuse_its_sync() {
    let denied_around_old = refusal_of_the_folder_around(EACCES, true);
    assert!(denied_around_old.is_ok(), "{denied_around_old:?}");
    for (code, is_old) in [(EACCES, false), (EIO, true), (EIO, false)] {
        let refused = refusal_of_the_folder_around(code, is_old);
        assert!(
            matches!(refused, Err(OpenError::System { action: "sync", .. })),
            "{code}, {is_old}: {refused:?}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let files = NotingFiles::new(Some((folder.path().to_owned(), EACCES)));
    let own = JournalFile::open_on(&Disk::new(files), &folder.path().join("log.txt"));
    assert!(own.is_err(), "the file's own folder has to be synced");
}

/// Opens a file in a folder that was there before or is new, while the folder around that one refuses its sync.
fn refusal_of_the_folder_around(code: i32, is_old: bool) -> Result<(), OpenError> {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("data");
    if is_old {
        std::fs::create_dir(&folder).unwrap();
    }
    let files = NotingFiles::new(Some((around.path().to_owned(), code)));
    let opened = JournalFile::open_on(&Disk::new(files.clone()), &folder.join("log.txt"));
    assert_eq!(files.notes().iter().filter(|note| *note == "refused").count(), 1, "the fault happened");
    opened.map(|_| ())
}

#[test]
fn the_systems_files_tell_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, path) = (Disk::default(), folder.path().join("a"));
    assert!(!disk.exists(&path) && disk.read(&path).is_err());
    std::fs::write(&path, "Hola").unwrap();
    assert!(disk.exists(&path));
    assert_eq!(disk.read(&path).unwrap(), b"Hola");
    // Some file systems record no such time.
    let created = std::fs::metadata(&path).unwrap().created().ok();
    assert_eq!(disk.created(&path).unwrap(), created);
    let start = disk.machine_start();
    assert_eq!(start, std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    assert!(disk.sync_folder(&path.join("missing")).is_err());
    disk.rename(&path, &folder.path().join("b")).unwrap();
    assert!(!disk.exists(&path) && disk.exists(&folder.path().join("b")));
}
