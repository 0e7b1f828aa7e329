//! The files of a simulated machine, as its programs see them.

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use journal::{Access, DiskFile, FileSystem, Storage};
use rand::RngExt as _;
use records::DATA_FILE;

use crate::disk::FileNumber;
use crate::machine::{Machine, MachineState};

const ENOSPC: i32 = 28;
/// The mark of a machine that dies at an operation of its disk.
const DIED: &str = "machine: it died at an operation of its disk";

/// A machine's files, as its programs see them.
#[derive(Debug, Clone)]
pub struct SimulatedFiles(Machine);

impl SimulatedFiles {
    pub fn of(machine: &Machine) -> Self {
        Self(machine.clone())
    }

    /// Begins an operation.
    ///
    /// # Errors
    /// Fails if the machine is off, or goes off now.
    fn begin(&self) -> io::Result<MutexGuard<'_, MachineState>> {
        let mut state = self.0.lock();
        state.operate(DIED)?;
        Ok(state)
    }
}

impl FileSystem for SimulatedFiles {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.begin()?;
        let rate = state.faults.names;
        state.fail_at(rate, "disk: a file could not be opened")?;
        let now = state.uptime();
        let disk = &mut state.disk;
        let number = match (disk.names.file(path), access) {
            (Some(file), _) => file,
            (None, Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) if !disk.names.has_folder(path.parent().unwrap_or(Path::new("/"))) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (None, _) => disk.create(path, now),
        };
        if access == Access::Replace {
            disk.content(number).truncate(0);
        }
        let file = SimulatedFile {
            machine: self.0.clone(),
            number,
            holds_records: path.file_name().is_some_and(|name| name == DATA_FILE),
            has_lock: false.into(),
            failed_sync: false,
        };
        Ok(Box::new(file))
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.0.lock();
        state.disk.names.has_folder(path) || state.disk.names.file(path).is_some()
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.begin()?.disk.names.create_folder(folder);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        let rate = state.faults.names;
        state.fail_at(rate, "disk: a folder could not be synced")?;
        if !state.lies() {
            state.disk.names.sync_folder(folder);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        let rate = state.faults.names;
        state.fail_at(rate, "disk: a file could not be renamed")?;
        if state.disk.names.rename(from, to) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn created(&self, path: &Path) -> io::Result<Option<SystemTime>> {
        let state = self.begin()?;
        let file = state.disk.names.file(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.disk.created(file).map(|created| UNIX_EPOCH + created))
    }

    fn machine_start(&self) -> String {
        format!("start {}", self.0.lock().starts)
    }
}

/// An open file of a machine.
#[derive(Debug)]
struct SimulatedFile {
    machine: Machine,
    number: FileNumber,
    holds_records: bool,
    has_lock: AtomicBool,
    failed_sync: bool,
}

impl SimulatedFile {
    fn begin(&self) -> io::Result<MutexGuard<'_, MachineState>> {
        let mut state = self.machine.lock();
        state.operate(DIED)?;
        Ok(state)
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if *self.has_lock.get_mut() {
            self.machine.lock().disk.locked.remove(&self.number);
        }
    }
}

impl Storage for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.machine.lock();
        let number = self.number;
        if self.holds_records {
            state.records_written.extend_from_slice(bytes);
            state.records_written.push(b'\n');
        }
        if let Err(death) = state.operate(DIED) {
            // The write may have begun.
            if state.has_just_died() {
                let part = state.rng.random_range(0..=bytes.len());
                state.disk.content(number).append(&bytes[..part]);
            }
            return Err(death);
        }
        if self.failed_sync {
            state.violation("a file was written to after its sync had failed");
        }
        let rate = state.faults.write;
        if let Err(error) = state.fail_at(rate, "disk: a write failed") {
            let part = state.rng.random_range(0..=bytes.len());
            state.disk.content(number).append(&bytes[..part]);
            return Err(error);
        }
        let space = state.faults.space.unwrap_or(u64::MAX);
        let part = bytes.len().min(usize::try_from(space).unwrap_or(usize::MAX));
        if part == 0 && !bytes.is_empty() {
            state.mark("disk: no space was left");
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        if part < bytes.len() {
            state.mark("disk: space was left for a part of a write");
        }
        if let Some(space) = &mut state.faults.space {
            *space -= part as u64;
        }
        state.disk.content(number).append(&bytes[..part]);
        let rate = state.faults.write_back;
        if state.happens(rate) {
            let MachineState { disk, rng, .. } = &mut *state;
            disk.content(number).write_back(rng);
            state.mark("disk: sectors were written back before a sync");
        }
        Ok(part)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.machine.lock();
        state.operate(DIED)?;
        if self.failed_sync {
            state.violation("a sync was tried again after it had failed");
        }
        let rate = state.faults.sync;
        if let Err(error) = state.fail_at(rate, "disk: a sync failed") {
            let MachineState { disk, rng, .. } = &mut *state;
            disk.content(self.number).fail_sync(rng);
            self.failed_sync = true;
            return Err(error);
        }
        if !state.lies() {
            state.disk.content(self.number).sync();
        }
        Ok(())
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        let mut state = self.begin()?;
        let has_name = state.disk.names.has_name(self.number);
        Ok((state.disk.content(self.number).bytes().len() as u64, has_name))
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.begin()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let content = state.disk.content(self.number);
        let freed = content.bytes().len().saturating_sub(length);
        content.truncate(length);
        if let Some(space) = &mut state.faults.space {
            *space += freed as u64;
        }
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.begin()?;
        let rate = state.faults.read;
        state.fail_at(rate, "disk: a read failed")?;
        let bytes = state.disk.content(self.number).bytes();
        let rest = bytes.get(usize::try_from(offset).map_err(io::Error::other)?..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        let mut state = self.begin().map_err(TryLockError::Error)?;
        if !state.disk.locked.insert(self.number) {
            return Err(TryLockError::WouldBlock);
        }
        self.has_lock.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn forget_cached(&self, from: u64, _: u64) {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        self.machine.lock().disk.content(self.number).forget_cached(from);
    }
}

#[cfg(test)]
mod tests;
