//! The files of a program: those of the operating system, or those of a simulated disk.
//!
//! Everything that the store keeps goes through [`Disk`], so that a simulation can cut the power, fill the disk or damage
//! sectors at any moment. For the operating system's files a call costs one indirect jump more than without this seam.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// This file holds another identifier after each start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

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

/// An open file of a [`Disk`].
pub trait DiskFile: Storage + Sync + fmt::Debug {
    /// Reads bytes from `offset` on, and returns how many bytes that was: 0 at the end of the file.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Takes the lock of the file until the file is closed.
    ///
    /// # Errors
    /// Fails with [`TryLockError::WouldBlock`] if another process, or this one, holds it already.
    fn try_lock(&self) -> Result<(), TryLockError>;
    /// Lets the next reads of `bytes` bytes from `from` on (0: of all that follow) come from the disk, as far as the operating
    /// system can do that. It keeps bytes that it could not write in its memory as if they were on the disk.
    fn forget_cached(&self, from: u64, bytes: u64);
}

/// What [`FileSystem::open`] opens a file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read a file that exists.
    Read,
    /// To read, and to write at the end. A missing file is created.
    Append,
    /// To write. A missing file is created, and one that exists is emptied.
    Replace,
}

/// Folders and files by their names.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Returns whether there is a file or folder of this name.
    fn exists(&self, path: &Path) -> bool;
    /// Creates a folder, and the folders around it, unless it exists.
    ///
    /// # Errors
    /// Fails if the folder cannot be created.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Waits until the names in `folder` are on disk.
    ///
    /// # Errors
    /// Fails if the folder cannot be synced.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Gives a file another name, which takes the place of a file that had it.
    ///
    /// # Errors
    /// Fails if the file cannot be renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when a file was created, if the file system records that.
    ///
    /// # Errors
    /// Fails if the file cannot be examined.
    fn created(&self, path: &Path) -> io::Result<Option<SystemTime>>;
    /// Returns the identifier of the machine's present start. What was written in it is there without a sync. It is empty
    /// if the machine tells none.
    fn machine_start(&self) -> String;
}

/// The disk that a program uses. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct Disk(Arc<dyn FileSystem>);

impl Default for Disk {
    /// Returns the files of the operating system.
    fn default() -> Self {
        Self::new(SystemFiles)
    }
}

impl Deref for Disk {
    type Target = dyn FileSystem;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Disk {
    /// Returns a disk with these files.
    #[must_use]
    pub fn new(files: impl FileSystem + 'static) -> Self {
        Self(Arc::new(files))
    }

    /// Returns the whole content of a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        let mut bytes = Vec::new();
        DiskFileReader::new(&*file, 0).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The files of the operating system.
#[derive(Debug)]
struct SystemFiles;

impl FileSystem for SystemFiles {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            // Append mode leaves no hole in the file if another program empties it.
            Access::Append => options.read(true).append(true).create(true),
            Access::Replace => options.write(true).create(true).truncate(true),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn created(&self, path: &Path) -> io::Result<Option<SystemTime>> {
        Ok(fs::metadata(path)?.created().ok())
    }

    fn machine_start(&self) -> String {
        fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
    }
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

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        Self::try_lock(self)
    }

    fn forget_cached(&self, from: u64, bytes: u64) {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        let as_offset = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        // File systems in memory cannot do this, and need not.
        let _ =
            posix_fadvise(self, as_offset(from), as_offset(bytes), PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

/// Reads a file from an offset on. Other readers of the file are not moved.
#[derive(Debug)]
pub struct DiskFileReader<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
}

impl<'a> DiskFileReader<'a> {
    /// Returns a reader of `file` that begins at `offset`.
    #[must_use]
    pub fn new(file: &'a dyn DiskFile, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl Read for DiskFileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Writes all of `bytes` at the end of `storage`.
///
/// # Errors
/// Fails if the bytes cannot be written. A part of them may be in the file then.
pub fn write_all(storage: &mut (impl Storage + ?Sized), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match storage.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns the folder of a file.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces the file at `path`, so that it holds either its old or its new content, whatever happens. If `is_synced`, the
/// new content is on disk when this returns.
///
/// # Errors
/// Fails if one of the steps does. Either content may then be there.
pub fn replace(disk: &Disk, path: &Path, bytes: &[u8], is_synced: bool) -> io::Result<()> {
    let unfinished = unfinished_of(path);
    let mut file = disk.open(&unfinished, Access::Replace)?;
    write_all(&mut *file, bytes)?;
    if is_synced {
        file.sync()?;
    }
    disk.rename(&unfinished, path)?;
    if is_synced { disk.sync_folder(folder_of(path)) } else { Ok(()) }
}

/// Returns the name under which the next content of `path` is written.
fn unfinished_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
