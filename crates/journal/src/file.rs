//! The journal's file: its lock, its recovery at the start, and what each disk error means.

use std::fs::TryLockError;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::{Access, Disk, DiskFile, DiskFileReader, Storage, folder_of, write_all};
use crate::plants::{Plant, is_planted};
use crate::record::Checksum;
use crate::scan::{Recovery, scan};

const READ_BUFFER_BYTES: usize = 256 * 1024;
/// The bytes at the end of a file that a failed sync can be about. Nothing is appended after one, so these are those of
/// the last batch.
const DOUBTFUL_BYTES: u64 = 64 * 1024 * 1024;
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

impl WriteFailure {
    /// Returns what the error `cause` of a step means: whether there was no space, or anything else.
    #[must_use]
    pub fn of(action: &'static str, path: &Path, cause: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            return Self::NoSpace(cause);
        }
        Self::Fatal { action, path: path.display().to_string(), cause }
    }
}

/// An append-only file that this process alone writes to. Most programs use it through [`Journal`](crate::Journal).
pub struct JournalFile {
    storage: Box<dyn Storage>,
    path: String,
    stopped: bool,
    /// How long the last sync took.
    last_sync: Duration,
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
        Self::open_on(&Disk::default(), path)
    }

    /// Does what [`open`](Self::open) does, on `disk`.
    ///
    /// # Errors
    /// Fails as [`open`](Self::open) does.
    pub fn open_on(disk: &Disk, path: &Path) -> Result<(Self, Recovery), OpenError> {
        Self::open_with(disk, path, |file| {
            let (length, _) = file.status()?;
            let whole_bytes = end_of_last_line(file, length)?;
            Ok(Recovery { whole_bytes, torn_bytes: length - whole_bytes, ..Recovery::default() })
        })
    }

    /// Opens or creates a file with CRC-32C checksums, and passes each correct record with its offset to `visit`.
    ///
    /// # Errors
    /// Fails with an [`OpenError`] if the file cannot be created, locked, read or recovered.
    pub fn open_verified(path: &Path, visit: impl FnMut(u64, &[u8])) -> Result<(Self, Recovery), OpenError> {
        Self::open_verified_on(&Disk::default(), path, visit)
    }

    /// Does what [`open_verified`](Self::open_verified) does, on `disk`.
    ///
    /// # Errors
    /// Fails as [`open_verified`](Self::open_verified) does.
    pub fn open_verified_on(
        disk: &Disk,
        path: &Path,
        visit: impl FnMut(u64, &[u8]),
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_with(disk, path, |file| {
            let reader = DiskFileReader::new(file, 0);
            scan(BufReader::with_capacity(READ_BUFFER_BYTES, reader), Checksum::Crc32c, visit)
        })
    }

    /// Returns a journal on storage that is not a file. `path` is its name in messages.
    #[must_use]
    pub fn with_storage(path: &str, storage: Box<dyn Storage>) -> Self {
        Self { storage, path: path.to_owned(), stopped: false, last_sync: Duration::ZERO }
    }

    fn open_with(
        disk: &Disk,
        path: &Path,
        recover: impl FnOnce(&dyn DiskFile) -> io::Result<Recovery>,
    ) -> Result<(Self, Recovery), OpenError> {
        let system_error =
            |action, cause| OpenError::System { action, path: path.display().to_string(), cause };
        let mut file = open_or_create(disk, path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: path.display().to_string() });
            }
            Err(TryLockError::Error(cause)) => return Err(system_error("lock", cause)),
        }
        // What an earlier process wrote without a sync must be on disk before anything is appended to it. If the sync of
        // an earlier process failed, the operating system may still show bytes that it could not write, so the end of
        // the file is read from the disk.
        file.sync().map_err(|cause| system_error("sync", cause))?;
        let (length, _) = file.status().map_err(|cause| system_error("examine", cause))?;
        file.forget_cached(length.saturating_sub(DOUBTFUL_BYTES), 0);
        let recovery = recover(&*file).map_err(|cause| system_error("read", cause))?;
        if recovery.torn_bytes > 0 && !is_planted(Plant::TornTailKept) {
            keep_torn_tail(disk, path, &*file, recovery.whole_bytes)
                .map_err(|cause| system_error("keep a copy of the torn tail of", cause))?;
            file.truncate(recovery.whole_bytes)
                .map_err(|cause| system_error("cut the torn tail of", cause))?;
            file.sync().map_err(|cause| system_error("sync", cause))?;
        }
        Ok((Self::with_storage(&path.display().to_string(), file), recovery))
    }

    /// Writes `bytes` (whole records), waits until they are on disk, and returns the offset of their first byte.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`]. After a [`WriteFailure::Fatal`], every further call fails too.
    pub fn commit(&mut self, bytes: &[u8]) -> Result<u64, WriteFailure> {
        let offset = self.write(bytes)?;
        if !is_planted(Plant::EarlyAcknowledgement) {
            self.sync()?;
        }
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
        if let Err(error) = write_all(&mut *self.storage, bytes) {
            return Err(self.undo_write(before, error));
        }
        Ok(before)
    }

    /// Waits until everything that was written is on disk.
    ///
    /// # Errors
    /// Fails with [`WriteFailure::Fatal`]; the file is then not used any more.
    pub fn sync(&mut self) -> Result<(), WriteFailure> {
        let begun = Instant::now();
        // A failed sync is never repeated. The kernel may have dropped the pages that it could not write, and a second
        // sync would report success (LWN 752063, "PostgreSQL's fsync() surprise").
        let mut synced = self.storage.sync();
        if synced.is_err() && is_planted(Plant::SyncRetried) {
            synced = self.storage.sync();
        }
        self.last_sync = begun.elapsed();
        synced.map_err(|error| self.fatal("sync", error))
    }

    /// Returns how long the last sync of a [`commit`](Self::commit) took, without the write before it.
    #[must_use]
    pub fn last_sync(&self) -> Duration {
        self.last_sync
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

    /// Removes what a failed write left of its batch in the file, and returns the failure to report.
    fn undo_write(&mut self, length: u64, error: io::Error) -> WriteFailure {
        let failure = WriteFailure::of("write to", Path::new(&self.path), error);
        if matches!(failure, WriteFailure::Fatal { .. }) {
            self.stopped = true;
            return failure;
        }
        if is_planted(Plant::FullDiskLeftovers) {
            return failure;
        }
        match self.storage.truncate(length).and_then(|()| self.storage.sync()) {
            Ok(()) => failure,
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
fn open_or_create(disk: &Disk, path: &Path) -> Result<Box<dyn DiskFile>, OpenError> {
    let system_error =
        |action, path: &Path, cause| OpenError::System { action, path: path.display().to_string(), cause };
    let folder = folder_of(path);
    let folders: Vec<_> = folder.ancestors().filter(|folder| !folder.as_os_str().is_empty()).collect();
    let is_new: Vec<_> = folders.iter().map(|folder| !disk.exists(folder)).collect();
    disk.create_folder(folder).map_err(|cause| system_error("create", folder, cause))?;
    let file = disk.open(path, Access::Append).map_err(|cause| system_error("open", path, cause))?;
    if is_planted(Plant::NoFolderSync) {
        return Ok(file);
    }
    // A name is on disk only after a sync of the folder that holds it. Names that exist already need this too: the
    // process that created them may have ended before its sync.
    disk.sync_folder(folder).map_err(|cause| system_error("sync", folder, cause))?;
    for (inner, is_new) in folders.into_iter().zip(is_new) {
        let outer = folder_of(inner);
        match disk.sync_folder(outer) {
            Err(cause) if is_new || !cannot_be_ours(&cause) => {
                return Err(system_error("sync", outer, cause));
            }
            _ => {}
        }
    }
    Ok(file)
}

/// Returns whether the error shows that no process of this user can have created a name in the folder, or that its file
/// system keeps nothing that has to be synced.
fn cannot_be_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported)
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
fn keep_torn_tail(disk: &Disk, path: &Path, file: &dyn DiskFile, start: u64) -> io::Result<()> {
    let tails = torn_tails_of(path);
    let mut kept = disk.open(&tails, Access::Append)?;
    let mut block = Vec::new();
    let mut tail = DiskFileReader::new(file, start);
    while (&mut tail).take(TAIL_BLOCK_BYTES).read_to_end(&mut block)? > 0 {
        write_all(&mut *kept, &block)?;
        block.clear();
    }
    write_all(&mut *kept, b"\n")?;
    kept.sync()?;
    disk.sync_folder(folder_of(&tails))
}

/// Returns the offset behind the last line end in the first `length` bytes of `file`.
fn end_of_last_line(file: &dyn DiskFile, length: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(TAIL_BLOCK_BYTES);
        block.clear();
        DiskFileReader::new(file, start).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
