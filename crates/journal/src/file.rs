//! The file itself: one owner, recovery when it is opened, and what each error of the disk means.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::record::Checksum;
use crate::scan::{Recovery, scan};

const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How much of a plain file is read at a time to find its last line end.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// A journal that cannot be opened: the cause and the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the file.
    #[error("{path} is in use by another process: stop that one or choose another --data-dir")]
    InUse {
        /// The file.
        path: String,
    },
    /// The system refused.
    #[error(
        "cannot {action} {path}: {cause}: check that the folder can be written by this user, or choose another --data-dir"
    )]
    System {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// The system's word.
        cause: io::Error,
    },
}

/// A commit that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no room (disk, quota or file size limit). Nothing of the batch is in the file; later batches may fit.
    #[error("no space left for the record: {0}")]
    NoSpace(io::Error),
    /// Nobody can say what is on disk. Nothing more is written: the program has to stop, and the next start recovers.
    #[error("cannot {action} {path}: {cause}: nothing more is acknowledged")]
    Fatal {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// The system's word.
        cause: io::Error,
    },
}

/// What a journal needs from a file. Tests put a failing one in its place.
pub trait Storage: Send {
    /// Appends a part of `bytes`, as [`Write::write`] does.
    ///
    /// # Errors
    /// The system's.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Returns when everything written is on disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&mut self) -> io::Result<()>;
    /// The present length in bytes and whether the file still has its name.
    ///
    /// # Errors
    /// The system's.
    fn status(&self) -> io::Result<(u64, bool)>;
    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl Storage for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        self.metadata().map(|metadata| (metadata.len(), metadata.nlink() > 0))
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// An append-only file with one owner. Most programs use it through [`Journal`](crate::Journal).
pub struct JournalFile {
    storage: Box<dyn Storage>,
    path: String,
    stopped: bool,
}

impl std::fmt::Debug for JournalFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl JournalFile {
    /// Opens or creates a plain file (no checksums). Only its end is read, whatever its size.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<(Self, Recovery), OpenError> {
        Self::open_with(path, |file| {
            let length = file.metadata()?.len();
            let whole_bytes = end_of_last_line(file, length)?;
            Ok(Recovery { whole_bytes, torn_bytes: length - whole_bytes, ..Recovery::default() })
        })
    }

    /// Opens or creates a file with CRC-32C checksums, and shows each correct record with its offset to `visit`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_verified(path: &Path, visit: impl FnMut(u64, &[u8])) -> Result<(Self, Recovery), OpenError> {
        Self::open_with(path, |file| {
            scan(BufReader::with_capacity(READ_BUFFER_BYTES, file), Checksum::Crc32c, visit)
        })
    }

    /// A journal on other storage than a file; `path` is its name in messages.
    #[must_use]
    pub fn with_storage(path: &str, storage: Box<dyn Storage>) -> Self {
        Self { storage, path: path.to_owned(), stopped: false }
    }

    fn open_with(
        path: &Path,
        recover: impl FnOnce(&mut File) -> io::Result<Recovery>,
    ) -> Result<(Self, Recovery), OpenError> {
        let told = |action, cause| OpenError::System { action, path: path.display().to_string(), cause };
        let mut file = open_or_create(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: path.display().to_string() });
            }
            Err(TryLockError::Error(cause)) => return Err(told("lock", cause)),
        }
        let recovery = recover(&mut file).map_err(|cause| told("read", cause))?;
        if recovery.torn_bytes > 0 {
            keep_torn_tail(path, &mut file, recovery.whole_bytes)
                .map_err(|cause| told("keep a copy of the torn tail of", cause))?;
            file.set_len(recovery.whole_bytes).map_err(|cause| told("cut the torn tail of", cause))?;
        }
        // What an earlier process wrote and did not sync must be on disk before anything is built on it.
        file.sync_all().map_err(|cause| told("sync", cause))?;
        Ok((Self::with_storage(&path.display().to_string(), Box::new(file)), recovery))
    }

    /// Writes `bytes` (whole records) and returns when they are on disk: the offset of their first byte.
    ///
    /// # Errors
    /// [`Failure`]. After [`Failure::Fatal`] every further call gives it too.
    pub fn commit(&mut self, bytes: &[u8]) -> Result<u64, Failure> {
        let offset = self.write(bytes)?;
        self.sync()?;
        Ok(offset)
    }

    /// Writes `bytes` (whole records) without waiting for the disk: the offset of their first byte. They survive the
    /// end of the process, but not that of the system. For what can be made up again from elsewhere.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn write(&mut self, bytes: &[u8]) -> Result<u64, Failure> {
        if self.stopped {
            return Err(self.fatal("write to", io::Error::other("an earlier write or sync failed")));
        }
        let (before, linked) = self.storage.status().map_err(|error| self.fatal("examine", error))?;
        if !linked {
            let reason = "the file was removed or replaced while in use";
            return Err(self.fatal("write to", io::Error::new(io::ErrorKind::NotFound, reason)));
        }
        if let Err(error) = self.write_all(bytes) {
            return Err(self.take_back(before, error));
        }
        Ok(before)
    }

    /// Returns when everything that was written is on disk.
    ///
    /// # Errors
    /// [`Failure::Fatal`].
    pub fn sync(&mut self) -> Result<(), Failure> {
        // A failed sync is never tried again: the kernel may have dropped the pages it could not write, and a second
        // sync would report success (LWN 752063, "PostgreSQL's fsync() surprise").
        self.storage.sync().map_err(|error| self.fatal("sync", error))
    }

    /// Cuts the file to `length` bytes, at the end of a record, and returns when that is on disk. For who writes to two
    /// files and has room in only one of them.
    ///
    /// # Errors
    /// [`Failure::Fatal`].
    pub fn truncate(&mut self, length: u64) -> Result<(), Failure> {
        let cut = self.storage.truncate(length).and_then(|()| self.storage.sync());
        cut.map_err(|error| self.fatal("cut", error))
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.storage.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// After a failed write: makes sure that no part of the batch stays in the file.
    fn take_back(&mut self, length: u64, error: io::Error) -> Failure {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if !matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            return self.fatal("write to", error);
        }
        match self.storage.truncate(length).and_then(|()| self.storage.sync()) {
            Ok(()) => Failure::NoSpace(error),
            Err(error) => self.fatal("take back a partial write to", error),
        }
    }

    fn fatal(&mut self, action: &'static str, cause: io::Error) -> Failure {
        self.stopped = true;
        Failure::Fatal { action, path: self.path.clone(), cause }
    }
}

/// Opens `path` for appending; the names of the file and of the folders that are made for it are on disk afterwards.
fn open_or_create(path: &Path) -> Result<File, OpenError> {
    let told =
        |action, path: &Path, cause| OpenError::System { action, path: path.display().to_string(), cause };
    let folder = folder_of(path);
    let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let missing: Vec<_> = missing.collect();
    std::fs::create_dir_all(folder).map_err(|cause| told("create", folder, cause))?;
    // Append mode: should somebody empty the file meanwhile, no hole is left.
    let file = OpenOptions::new().read(true).append(true).create(true).open(path);
    let file = file.map_err(|cause| told("open", path, cause))?;
    // A name is on disk only after a sync of the folder it stands in. Also for a file that is there already: the
    // process that created it may have died before its sync.
    for folder in missing.into_iter().map(folder_of).chain([folder]) {
        sync_folder(folder).map_err(|cause| told("sync", folder, cause))?;
    }
    Ok(file)
}

/// The file beside `path` that keeps every torn tail that was ever cut from it, one a line.
#[must_use]
pub fn torn_tails_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    name.into()
}

/// Appends what stands in `file` from `start` on to [`torn_tails_of`] `path`, and returns when that is on disk.
///
/// A torn tail is usually half a write that nobody was told about. A record that was acknowledged and then lost its last
/// sector looks the same, so its bytes are kept.
fn keep_torn_tail(path: &Path, file: &mut File, start: u64) -> io::Result<()> {
    let tails = torn_tails_of(path);
    let mut kept = OpenOptions::new().append(true).create(true).open(&tails)?;
    file.seek(SeekFrom::Start(start))?;
    io::copy(file, &mut kept)?;
    Write::write_all(&mut kept, b"\n")?;
    kept.sync_all()?;
    sync_folder(folder_of(&tails))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The offset behind the last line end in the first `length` bytes of `file`.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(TAIL_BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
