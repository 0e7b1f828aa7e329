//! `registro_server.txt`: where each message is.
//!
//! The truth is what the datanodes hold; the registry can be made up again from it. So a line is written before the
//! client is told, which outlives the end of this process, but nobody waits until it is on disk: after a crash of the
//! whole machine the missing lines are asked for again, when each datanode's connection is made. Until then nobody can
//! say that an id was never used; `registro_server.state` tells whether that is so.
//!
//! | module | what it does |
//! | --- | --- |
//! | `state` | the file and its index |
//! | `holdings` | what is registered of each datanode, what it has lost, and who has still to be asked |
//! | `completeness` | whether the file lacks nothing that was acknowledged |

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use batching::{Batcher, Executor, FailureSignal, Stopped, Work};
use journal::{Batch, Checksum, JournalFile, OffsetIndex, Records, WriteFailure};
use protocol::store::types::{Id, NodeName, Place, RegistryEntry};
use records::parse_entry_key;
use roaring::RoaringTreemap;

mod completeness;
mod holdings;
mod state;

use completeness::Completeness;
pub use holdings::Holdings;
use state::RegistryState;
pub use state::{Holding, Registration, UnreadableLine};

/// Lines that are read without a pause for others.
const LINES_AT_A_TIME: u64 = 1000;

/// Why a place was not registered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// There is no room for the line; a later one may fit.
    #[error("{0}")]
    NoSpace(Arc<WriteFailure>),
    /// The registry failed, and the headnode has to stop.
    #[error("{0}")]
    Fatal(Arc<WriteFailure>),
    /// The registry is closed.
    #[error("the registry is closed")]
    Closed,
}

/// All messages and their places. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    state: Arc<Mutex<RegistryState>>,
    /// Writes what several connections register at the same moment with one call.
    writer: Batcher<RegistryWriter>,
}

impl From<Stopped<WriteFailure>> for RegistryError {
    fn from(stopped: Stopped<WriteFailure>) -> Self {
        match stopped {
            Stopped::Failed(failure) => Self::Fatal(failure),
            Stopped::Closed => Self::Closed,
        }
    }
}

struct RegistryWriter(Arc<Mutex<RegistryState>>);

impl Work for RegistryWriter {
    type Job = Registration;
    type Outcome = Result<RegistryEntry, RegistryError>;
    type Failure = WriteFailure;

    const NAME: &'static str = "registry";

    /// The placer bounds how many messages are on their way.
    fn weight(_: &Registration) -> usize {
        0
    }

    fn run_batch(
        &mut self,
        registrations: Vec<Registration>,
        outcomes: &mut Vec<Self::Outcome>,
    ) -> Result<(), WriteFailure> {
        let count = registrations.len();
        match lock(&self.0).write(registrations) {
            Ok(entries) => outcomes.extend(entries.into_iter().map(Ok)),
            Err(failure @ WriteFailure::NoSpace(_)) => {
                let no_space = RegistryError::NoSpace(Arc::new(failure));
                outcomes.extend((0..count).map(|_| Err(no_space.clone())));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

/// Locks `state`. Nothing that holds the lock can panic half-way through a change.
fn lock(state: &Mutex<RegistryState>) -> MutexGuard<'_, RegistryState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a datanode's holdings told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconciled {
    /// So many places were registered that had been missing.
    Added(usize),
    /// The datanode does not hold what the registry knows of it: it lost its file, or has another one. All its records
    /// have to be compared.
    Different,
}

/// How the records of a datanode are compared with what is registered of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// By their numbers, and a few of them by their identifiers.
    ByNumber,
    /// Each of them by its identifier.
    ById,
}

impl Registry {
    /// Opens or creates the file and reads it. A task on the present runtime then writes what is registered.
    ///
    /// # Errors
    /// If the file cannot be used, or holds something else.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mut index = OffsetIndex::default();
        let mut places = Holdings::new(false);
        let mut unknown_lines = 0u64;
        let (file, recovery) = JournalFile::open_verified(path, |offset, line| {
            let Some((id, registered)) = parse_entry_key(line) else {
                unknown_lines += 1;
                return;
            };
            index.insert(id.into(), offset);
            registered.iter().for_each(|place| places.hold(place));
        })?;
        let shown = path.display();
        ensure!(
            unknown_lines == 0,
            "{shown} holds {unknown_lines} records that are not a registry's: choose another --data-dir"
        );
        let (cut_bytes, damaged) = (recovery.torn_bytes, recovery.damaged.len());
        let is_whole = cut_bytes == 0 && damaged == 0;
        if !is_whole {
            tracing::warn!(
                cut_bytes,
                damaged,
                "the registry was damaged: what is missing is asked for from the datanodes"
            );
        }
        let completeness = Completeness::open(path, is_whole)
            .with_context(|| format!("cannot read and write the state file beside {shown}"))?;
        let (messages, complete) = (index.len(), completeness.is_complete());
        tracing::info!(path = %shown, messages, complete, "registro_server.txt opened");
        let reader = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let state = RegistryState {
            file: Some(file),
            reader,
            index,
            holdings: places.with_lines_lacking(!complete),
            completeness,
            batch: Batch::new(Checksum::Crc32c),
        };
        let state = Arc::new(Mutex::new(state));
        let writer = Batcher::start(Executor::Inline, 0, RegistryWriter(state.clone()));
        Ok(Self { state, writer })
    }

    /// What is registered of `id`.
    ///
    /// # Errors
    /// [`UnreadableLine`]: it is registered, and nobody can tell how.
    pub fn lookup(&self, id: Id) -> Result<Option<RegistryEntry>, UnreadableLine> {
        self.lock().lookup(id)
    }

    /// Messages registered.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.lock().index.len() as u64
    }

    /// Looks at what is registered of each datanode.
    pub fn holdings<T>(&self, look: impl FnOnce(&Holdings) -> T) -> T {
        look(&self.lock().holdings)
    }

    /// Notes that these datanodes are gone for ever: what they may hold is given up.
    pub fn forget(&self, datanodes: &[NodeName]) {
        self.lock().holdings.forget(datanodes);
    }

    /// Notes that there is, or was, such a datanode: it may hold what the registry lacks.
    pub fn expect(&self, datanode: &NodeName) {
        self.lock().holdings.expect(datanode);
    }

    /// Registers the places of a message beside those that are registered already, and returns all that is registered
    /// of it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn record(&self, registration: Registration) -> Result<RegistryEntry, RegistryError> {
        self.writer.submit(registration).await?
    }

    /// Takes in a page of what `datanode` holds, asked for from number `from` on. `held` gets the numbers of those records
    /// that were registered before, if they are compared one by one.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn reconcile(
        &self,
        datanode: &NodeName,
        from: u64,
        page: &[Holding],
        comparison: Comparison,
        held: &mut RoaringTreemap,
    ) -> Result<Reconciled, RegistryError> {
        let mut state = self.lock();
        if state.file.is_none() {
            return Err(RegistryError::Closed);
        }
        if comparison == Comparison::ByNumber && !state.agrees(datanode, from, page) {
            return Ok(Reconciled::Different);
        }
        let is_registered = |holding: &&Holding| match comparison {
            Comparison::ByNumber => state.holdings.contains(datanode, holding.seq),
            Comparison::ById => state.is_registered(datanode, holding),
        };
        let (known, missing): (Vec<&Holding>, Vec<&Holding>) = page.iter().partition(is_registered);
        held.extend(known.iter().map(|holding| holding.seq));
        let missing: Vec<_> = missing
            .into_iter()
            .map(|holding| Registration {
                time: Some(holding.time.clone()),
                id: holding.id,
                client: holding.client,
                places: vec![Place { datanode: datanode.clone(), seq: holding.seq }],
                message_crc32c: holding.message_crc32c,
                beginning: holding.beginning.clone(),
            })
            .collect();
        let added = missing.len();
        let outcome = state.write(missing).map(|_| Reconciled::Added(added));
        drop(state);
        outcome.map_err(|failure| self.failed(failure))
    }

    /// Notes that `datanode` was asked for everything up to its number `last`, and that it does not hold the registered
    /// numbers `lost`; `replaced`, if all were compared by id, are those that belong to another record there. Returns
    /// all that it has lost, if that is news.
    #[must_use]
    pub fn reconciled(
        &self,
        datanode: &NodeName,
        last: u64,
        lost: RoaringTreemap,
        replaced: Option<RoaringTreemap>,
    ) -> Option<RoaringTreemap> {
        self.lock().holdings.reconciled(datanode, last, lost, replaced)
    }

    /// The length of the file in bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.lock().reader.metadata()?.len())
    }

    /// Up to `most` identifiers of messages that are registered at those `numbers` of `datanode` within the first `bytes`
    /// of the file: reads all of it.
    ///
    /// # Errors
    /// The system's.
    pub async fn ids_at(
        &self,
        datanode: &NodeName,
        numbers: &RoaringTreemap,
        bytes: u64,
        most: usize,
    ) -> io::Result<Vec<Id>> {
        let reader = self.lock().reader.try_clone()?;
        let mut ids = Vec::new();
        for (number, line) in (1u64..).zip(Records::from(&reader, 0, Checksum::Crc32c)) {
            let (offset, line) = line?;
            if offset >= bytes || ids.len() == most {
                break;
            }
            let Some((id, places)) = line.and_then(|line| parse_entry_key(&line)) else { continue };
            let is_at = |place: &Place| &place.datanode == datanode && numbers.contains(place.seq);
            if places.iter().any(is_at) && !ids.contains(&id) {
                ids.push(id);
            }
            if number % LINES_AT_A_TIME == 0 {
                // A long file must not keep everyone else waiting.
                tokio::task::yield_now().await;
            }
        }
        Ok(ids)
    }

    /// Keeps the note on whether the registry is complete up to date; to be called now and then.
    pub fn note_completeness(&self) {
        let mut state = self.lock();
        let complete = state.holdings.unasked().is_none();
        let noted = state.reader.metadata().and_then(|file| state.completeness.update(file.len(), complete));
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot write registro_server.state: the next start asks every datanode");
        }
    }

    /// The last `count` messages in front of the mark `before`, newest first, and the mark for older ones. Gives fewer
    /// than `count` if more would not fit a frame.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self, count: usize, before: Option<u64>) -> io::Result<(Vec<RegistryEntry>, Option<u64>)> {
        self.lock().list(count, before)
    }

    /// Returns the failure after which nothing is registered any more.
    #[must_use]
    pub fn failure(&self) -> &FailureSignal<WriteFailure> {
        self.writer.failure()
    }

    /// Puts what was registered on disk, and gives the file back to the system; nothing is registered any more.
    ///
    /// # Errors
    /// The failure after which nothing was registered any more, if there was one.
    pub async fn close(&self) -> Result<(), Arc<WriteFailure>> {
        self.writer.close().await;
        let mut state = self.lock();
        let file = state.file.take();
        if let Some(failure) = self.failure().get() {
            return Err(failure);
        }
        let Some(mut file) = file else { return Ok(()) };
        file.sync()?;
        let complete = state.holdings.unasked().is_none();
        let noted = state.reader.metadata().and_then(|file| state.completeness.close(file.len(), complete));
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot write registro_server.state: the next start asks every datanode");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        lock(&self.state)
    }

    /// Notes a failure of the file.
    fn failed(&self, failure: WriteFailure) -> RegistryError {
        if matches!(failure, WriteFailure::NoSpace(_)) {
            return RegistryError::NoSpace(Arc::new(failure));
        }
        RegistryError::Fatal(self.failure().set(failure))
    }
}

#[cfg(test)]
mod tests;
