//! The modules that a process keeps.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::{WasmError, short};
use crate::module::{WasmModule, hash_of};

/// How many modules a process keeps.
pub const MAX_MODULES: usize = 64;

/// How many bytes the kept modules have together.
pub const MAX_TOTAL_BYTES: usize = 64 << 20;

/// The modules that a process keeps, by their hash. Clones are the same store. Those that nobody uses make room for new ones, the
/// one that was used least lately first.
#[derive(Debug, Clone, Default)]
pub struct ModuleStore {
    kept: Arc<Mutex<VecDeque<Arc<WasmModule>>>>,
}

impl ModuleStore {
    /// The module of this hash, if it is kept.
    #[must_use]
    pub fn get(&self, hash: &str) -> Option<Arc<WasmModule>> {
        let mut kept = self.lock();
        let place = kept.iter().position(|module| module.hash() == hash)?;
        let module = kept.remove(place)?;
        kept.push_back(Arc::clone(&module));
        Some(module)
    }

    /// Keeps a module. One that is kept already is not compiled again.
    ///
    /// # Errors
    /// Fails if the module is refused, or if all that are kept are in use.
    pub fn insert(&self, bytes: Bytes) -> Result<Arc<WasmModule>, WasmError> {
        if let Some(known) = self.get(&hash_of(&bytes)) {
            return Ok(known);
        }
        // Compiling takes its time, and others go on meanwhile.
        let module = Arc::new(WasmModule::new(bytes)?);
        let mut kept = self.lock();
        if let Some(known) = kept.iter().find(|known| known.hash() == module.hash()) {
            return Ok(Arc::clone(known));
        }
        while kept.len() >= MAX_MODULES || total(&kept) + module.bytes().len() > MAX_TOTAL_BYTES {
            let unused = kept.iter().position(|module| Arc::strong_count(module) == 1);
            if unused.and_then(|place| kept.remove(place)).is_none() {
                return Err(WasmError::Refused(format!(
                    "the module {}: there is no room, because jobs use the {} modules that are kept: try again when one of them has ended",
                    short(module.hash()),
                    kept.len()
                )));
            }
        }
        kept.push_back(Arc::clone(&module));
        Ok(module)
    }

    /// Keeps a module that must have this hash.
    ///
    /// # Errors
    /// Fails as [`ModuleStore::insert`] does, and if the bytes have another hash.
    pub fn insert_as(&self, hash: &str, bytes: Bytes) -> Result<Arc<WasmModule>, WasmError> {
        let found = hash_of(&bytes);
        if found != hash {
            return Err(WasmError::Refused(format!(
                "the bytes that came for the module {} are those of {}",
                short(hash),
                short(&found)
            )));
        }
        self.insert(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<WasmModule>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn total(kept: &VecDeque<Arc<WasmModule>>) -> usize {
    kept.iter().map(|module| module.bytes().len()).sum()
}
