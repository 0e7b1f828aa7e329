//! The journal's file: its lock, its recovery at the start, and what each disk error means.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::record::Checksum;
use crate::scan::{Recovery, scan};

const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How many bytes of a plain file are read at a time to find its last line end.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// Says why a journal cannot be opened, and what the user can do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock of the file.
    #[error("{path} is in use by another process: stop that one or choose another --data-dir")]
    InUse {
        /// The file.
        path: String,
    },
    /// The operating system refused one of the steps.
    #[error(
        "cannot {action} {path}: {cause}: check that the folder can be written by this user, or choose another --data-dir"
    )]
    System {
        /// The step that failed, as a verb for the message.
        action: &'static str,
        /// The file or folder that the step was about.
        path: String,
        /// The error of the operating system.
        cause: io::Error,
    },
}

/// Says why a write or a sync failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// The disk is full, or a quota or file size limit is reached. Nothing of the batch is in the file, and later
    /// batches may succeed.
    #[error("no space left for the record: {0}")]
    NoSpace(io::Error),
    /// It is unknown what is on disk. Nothing more is written: the program has to stop, and the next start recovers the
    /// file.
    #[error("cannot {action} {path}: {cause}: nothing more is acknowledged")]
    Fatal {
        /// The step that failed, as a verb for the message.
        action: &'static str,
        /// The file.
        path: String,
        /// The error of the operating system.
        cause: io::Error,
    },
}

/// The operations that a journal needs from a file. Tests replace the file with storage that fails.
pub trait Storage: Send {
    /// Appends a part of `bytes` and returns how many bytes that was, as [`Write::write`] does.
    ///
    /// # Errors
    /// Fails if the bytes cannot be written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until everything written is on disk.
    ///
    /// # Errors
    /// Fails if the file cannot be synced.
    fn sync(&mut self) -> io::Result<()>;
    /// Returns the present length in bytes, and whether the file still has its name.
    ///
    /// # Errors
    /// Fails if the file cannot be examined.
    fn status(&self) -> io::Result<(u64, bool)>;
    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// Fails if the file cannot be cut.
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

/// An append-only file that this process alone writes to. Most programs use it through [`Journal`](crate::Journal).
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
    /// Opens or creates a plain file, without checksums. Only the end of the file is read, whatever its size.
    ///
    /// # Errors
    /// Fails with an [`OpenError`] if the file cannot be created, locked, read or recovered.
    pub fn open(path: &Path) -> Result<(Self, Recovery), OpenError> {
        Self::open_with(path, |file| {
            let length = file.metadata()?.len();
            let whole_bytes = end_of_last_line(file, length)?;
            Ok(Recovery { whole_bytes, torn_bytes: length - whole_bytes, ..Recovery::default() })
        })
    }

    /// Opens or creates a file with CRC-32C checksums, and passes each correct record with its offset to `visit`.
    ///
    /// # Errors
    /// Fails with an [`OpenError`] if the file cannot be created, locked, read or recovered.
    pub fn open_verified(path: &Path, visit: impl FnMut(u64, &[u8])) -> Result<(Self, Recovery), OpenError> {
        Self::open_with(path, |file| {
            scan(BufReader::with_capacity(READ_BUFFER_BYTES, file), Checksum::Crc32c, visit)
        })
    }

    /// Returns a journal on storage that is not a file. `path` is its name in messages.
    #[must_use]
    pub fn with_storage(path: &str, storage: Box<dyn Storage>) -> Self {
        Self { storage, path: path.to_owned(), stopped: false }
    }

    fn open_with(
        path: &Path,
        recover: impl FnOnce(&mut File) -> io::Result<Recovery>,
    ) -> Result<(Self, Recovery), OpenError> {
        let system_error =
            |action, cause| OpenError::System { action, path: path.display().to_string(), cause };
        let mut file = open_or_create(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: path.display().to_string() });
            }
            Err(TryLockError::Error(cause)) => return Err(system_error("lock", cause)),
        }
        let recovery = recover(&mut file).map_err(|cause| system_error("read", cause))?;
        if recovery.torn_bytes > 0 {
            keep_torn_tail(path, &mut file, recovery.whole_bytes)
                .map_err(|cause| system_error("keep a copy of the torn tail of", cause))?;
            file.set_len(recovery.whole_bytes)
                .map_err(|cause| system_error("cut the torn tail of", cause))?;
        }
        // What an earlier process wrote without a sync must be on disk before anything is appended to it.
        file.sync_all().map_err(|cause| system_error("sync", cause))?;
        Ok((Self::with_storage(&path.display().to_string(), Box::new(file)), recovery))
    }

    /// Writes `bytes` (whole records), waits until they are on disk, and returns the offset of their first byte.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`]. After a [`WriteFailure::Fatal`], every further call fails too.
    pub fn commit(&mut self, bytes: &[u8]) -> Result<u64, WriteFailure> {
        let offset = self.write(bytes)?;
        self.sync()?;
        Ok(offset)
    }

    /// Writes `bytes` (whole records) without waiting for the disk, and returns the offset of their first byte. The
    /// records survive the end of the process, but not that of the operating system. Use this only for records that can
    /// be made again from another source.
    ///
    /// # Errors
    /// Fails as [`commit`](Self::commit) does.
    pub fn write(&mut self, bytes: &[u8]) -> Result<u64, WriteFailure> {
        if self.stopped {
            return Err(self.fatal("write to", io::Error::other("an earlier write or sync failed")));
        }
        let (before, linked) = self.storage.status().map_err(|error| self.fatal("examine", error))?;
        if !linked {
            let reason = "the file was removed or replaced while in use";
            return Err(self.fatal("write to", io::Error::new(io::ErrorKind::NotFound, reason)));
        }
        if let Err(error) = self.write_all(bytes) {
            return Err(self.undo_write(before, error));
        }
        Ok(before)
    }

    /// Waits until everything that was written is on disk.
    ///
    /// # Errors
    /// Fails with [`WriteFailure::Fatal`]; the file is then not used any more.
    pub fn sync(&mut self) -> Result<(), WriteFailure> {
        // A failed sync is never repeated. The kernel may have dropped the pages that it could not write, and a second
        // sync would report success (LWN 752063, "PostgreSQL's fsync() surprise").
        self.storage.sync().map_err(|error| self.fatal("sync", error))
    }

    /// Cuts the file to `length` bytes, which is the end of a record, and waits until that is on disk. Callers that
    /// write to two files use this when only one of them has room.
    ///
    /// # Errors
    /// Fails with [`WriteFailure::Fatal`]; the file is then not used any more.
    pub fn truncate(&mut self, length: u64) -> Result<(), WriteFailure> {
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

    /// Removes what a failed write left of its batch in the file, and returns the failure to report.
    fn undo_write(&mut self, length: u64, error: io::Error) -> WriteFailure {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if !matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            return self.fatal("write to", error);
        }
        match self.storage.truncate(length).and_then(|()| self.storage.sync()) {
            Ok(()) => WriteFailure::NoSpace(error),
            Err(error) => self.fatal("take back a partial write to", error),
        }
    }

    fn fatal(&mut self, action: &'static str, cause: io::Error) -> WriteFailure {
        self.stopped = true;
        WriteFailure::Fatal { action, path: self.path.clone(), cause }
    }
}

/// Opens `path` for appending, and creates its folders where they are missing. When this returns, the names of the file
/// and of these folders are on disk.
fn open_or_create(path: &Path) -> Result<File, OpenError> {
    let system_error =
        |action, path: &Path, cause| OpenError::System { action, path: path.display().to_string(), cause };
    let folder = folder_of(path);
    let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let missing: Vec<_> = missing.collect();
    std::fs::create_dir_all(folder).map_err(|cause| system_error("create", folder, cause))?;
    // Append mode leaves no hole in the file if another program empties it.
    let file = OpenOptions::new().read(true).append(true).create(true).open(path);
    let file = file.map_err(|cause| system_error("open", path, cause))?;
    // A file name is on disk only after a sync of the folder that holds the file. A file that exists already needs this
    // too: the process that created it may have died before its sync.
    for folder in missing.into_iter().map(folder_of).chain([folder]) {
        sync_folder(folder).map_err(|cause| system_error("sync", folder, cause))?;
    }
    Ok(file)
}

/// Returns the path of the file, beside `path`, that keeps every torn tail that was cut from `path`, one per line.
#[must_use]
pub fn torn_tails_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    name.into()
}

/// Appends the bytes of `file` from `start` on to the file [`torn_tails_of`] `path`, and waits until they are on disk.
///
/// A torn tail is usually half of a write that was never acknowledged. An acknowledged record whose last sector was
/// lost looks the same, so the bytes are kept.
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

/// Returns the offset behind the last line end in the first `length` bytes of `file`.
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
