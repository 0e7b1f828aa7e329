//! The registry `registro_server.txt`, which records the places of each message.
//!
//! The datanodes hold the data, and the registry can be made again from it. So a line is written before the client gets
//! its reply, but the headnode does not wait until the line is on disk. The line survives the end of this process.
//! After a crash of the whole machine, each datanode is asked for the missing lines when its connection is made. Until
//! then the headnode cannot know that an id was never used. `registro_server.state` records whether lines may be
//! missing.
//!
//! | module | what it does |
//! | --- | --- |
//! | `state` | the file and its index |
//! | `cursor` | all messages, a page after the other |
//! | `names` | the datanodes that there are, and those that are declared lost |
//! | `holdings` | the registered and the lost records of each datanode, and which datanodes have still to be asked |
//! | `completeness` | whether the file contains everything that was acknowledged |

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use batching::{Batcher, Executor, FailureSignal, Stopped, Work};
use journal::{Access, Batch, Checksum, Disk, JournalFile, OffsetIndex, Records, WriteFailure};
use protocol::store::types::{Epoch, Id, NodeName, Place, RegistryEntry};
use records::remembered::Remembered;
use records::{EntryKey, HEADNODE_JOURNAL, parse_entry_key};
use roaring::RoaringTreemap;
use service::WallClock;
use tokio::sync::watch;

mod completeness;
mod cursor;
mod holdings;
mod names;
mod state;

use completeness::Completeness;
pub use cursor::{PAGE_LINES, RegistryPage};
pub use holdings::Holdings;
use state::RegistryState;
pub use state::{Holding, Registration, UnreadableLine};

/// How many lines are read before other tasks get a turn.
const LINES_AT_A_TIME: u64 = 1000;

/// Why a place was not registered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// There is no room for the line. A later one may succeed.
    #[error("{0}")]
    NoSpace(Arc<WriteFailure>),
    /// The registry failed, and the headnode has to stop.
    #[error("{0}")]
    Fatal(Arc<WriteFailure>),
    /// The registry is closed.
    #[error("the registry is closed")]
    Closed,
}

/// All messages and their places. Clones share the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    state: Arc<Mutex<RegistryState>>,
    /// Counts the reasons to look for messages with too few copies.
    doubts: watch::Sender<u64>,
    /// Writes with one call what several connections register at the same time.
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

    /// Returns 0, because the placer already bounds how many messages are on their way.
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

/// Locks `state`. No code that holds the lock can panic in the middle of a change.
fn lock(state: &Mutex<RegistryState>) -> MutexGuard<'_, RegistryState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of comparing a page of a datanode's records with the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconciled {
    /// This many missing places were registered.
    Added(usize),
    /// The datanode does not hold what is registered of it: it lost its file, or has another one. All its records have
    /// to be compared.
    Different,
}

/// How the records of a datanode are compared with what is registered of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordComparison {
    /// Records are compared by their numbers, and a few of them by their identifiers.
    ByNumber,
    /// Each record is compared by its identifier.
    ById,
}

impl Registry {
    /// Opens or creates the file and reads it, for a headnode that leads in `epoch`. A task on the present runtime then
    /// writes new lines.
    ///
    /// # Errors
    /// Fails if the file cannot be used, or if it holds anything other than a registry.
    pub fn open(disk: &Disk, clock: WallClock, path: &Path, epoch: Epoch) -> anyhow::Result<Self> {
        let mut index = OffsetIndex::default();
        let mut holdings = Holdings::new(false);
        let mut unknown_lines = 0u64;
        let (file, recovery) = JournalFile::open_verified_on(disk, path, |offset, line| {
            let Some(EntryKey { id, places, gone }) = parse_entry_key(line) else {
                unknown_lines += 1;
                return;
            };
            index.insert(id.into(), offset);
            places.iter().for_each(|place| holdings.hold(place));
            gone.iter().for_each(|place| holdings.release(place));
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
        let reader = disk.open(path, Access::Read).with_context(|| format!("cannot read {shown}"))?;
        let completeness = Completeness::open(disk, path, recovery.whole_bytes, is_whole, epoch)
            .with_context(|| format!("cannot read and write the state file beside {shown}"))?;
        let remembered = Remembered::open(disk, &path.with_file_name(HEADNODE_JOURNAL))?;
        let (messages, complete) = (index.len(), completeness.is_complete());
        tracing::info!(path = %shown, messages, complete, "registro_server.txt opened");
        let state = RegistryState {
            file: Some(file),
            reader: reader.into(),
            clock,
            index,
            holdings: holdings.with_lines_lacking(!complete),
            completeness,
            remembered: Some(remembered),
            behind: BTreeSet::new(),
            has_room: true,
            batch: Batch::new(Checksum::Crc32c),
        };
        let state = Arc::new(Mutex::new(state));
        // Registrations weigh nothing: the placer bounds how many messages are in flight.
        let writer = Batcher::start(Executor::Inline, 0, RegistryWriter(state.clone()));
        Ok(Self { state, doubts: watch::Sender::new(0), writer })
    }

    /// Returns the entry that is registered for `id`.
    ///
    /// # Errors
    /// Fails with [`UnreadableLine`] if `id` is registered, but its line cannot be read.
    pub fn lookup(&self, id: Id) -> Result<Option<RegistryEntry>, UnreadableLine> {
        self.lock().lookup(id)
    }

    /// Returns the number of registered messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.lock().index.len() as u64
    }

    /// Calls `look` with the registered records of all datanodes.
    pub fn holdings<T>(&self, look: impl FnOnce(&Holdings) -> T) -> T {
        look(&self.lock().holdings)
    }

    /// Marks these datanodes as gone for ever: the registry does not wait for what they may hold.
    pub fn forget(&self, datanodes: &[NodeName]) {
        self.lock().holdings.forget(datanodes);
    }

    /// Waits for the word of at least so many datanodes before it tells that an id is unknown, if lines may be lacking.
    pub fn ask_at_least(&self, datanodes: usize) {
        self.lock().holdings.ask_at_least(datanodes);
    }

    /// Adds a datanode that exists or existed: it may hold records that the registry lacks.
    pub fn expect(&self, datanode: &NodeName) {
        self.lock().holdings.expect(datanode);
    }

    /// Adds places of a message to those that are registered already, and returns the whole entry.
    ///
    /// # Errors
    /// Fails with a [`RegistryError`] if the registry has no room, has failed, or is closed.
    pub async fn record(&self, registration: Registration) -> Result<RegistryEntry, RegistryError> {
        self.writer.submit(registration).await?
    }

    /// Adds a page of the records of `datanode` to the registry. The page was asked for from number `from` on. If
    /// records are compared one by one, `held` gets the numbers of those that were registered before.
    ///
    /// # Errors
    /// Fails with a [`RegistryError`] if the registry has no room, has failed, or is closed.
    pub fn reconcile(
        &self,
        datanode: &NodeName,
        from: u64,
        page: &[Holding],
        comparison: RecordComparison,
        held: &mut RoaringTreemap,
    ) -> Result<Reconciled, RegistryError> {
        let mut state = self.lock();
        if state.file.is_none() {
            return Err(RegistryError::Closed);
        }
        if comparison == RecordComparison::ByNumber
            && !state.agrees(datanode, from, page).map_err(|failure| self.failed(failure))?
        {
            return Ok(Reconciled::Different);
        }
        let mut missing = Vec::new();
        for holding in page {
            let is_registered = match comparison {
                RecordComparison::ByNumber => Ok(state.holdings.contains(datanode, holding.seq)),
                RecordComparison::ById => state.is_registered(datanode, holding),
            };
            if is_registered.map_err(|failure| self.failed(failure))? {
                held.insert(holding.seq);
            } else {
                missing.push(Registration {
                    time: Some(holding.time.clone()),
                    id: holding.id,
                    client: holding.client,
                    places: vec![Place { datanode: datanode.clone(), seq: holding.seq }],
                    gone: Vec::new(),
                    message_crc32c: holding.message_crc32c,
                    beginning: holding.beginning.clone(),
                });
            }
        }
        let added = missing.len();
        let outcome = state.write(missing).map(|_| Reconciled::Added(added));
        drop(state);
        if added > 0 {
            // The other copies of these messages may be lost, and no line of the registry would tell of them.
            self.doubt();
        }
        outcome.map_err(|failure| self.failed(failure))
    }

    /// Notes that `datanode` was asked for everything up to its number `last`, and that it does not hold the registered
    /// numbers `lost`. If all records were compared by id, `replaced` are the registered numbers that belong to another
    /// record there. Returns all numbers that the datanode has lost, if they have changed.
    #[must_use]
    pub fn reconciled(
        &self,
        datanode: &NodeName,
        last: u64,
        lost: RoaringTreemap,
        replaced: Option<RoaringTreemap>,
    ) -> Option<RoaringTreemap> {
        let lost = self.lock().holdings.reconciled(datanode, last, lost, replaced);
        if lost.is_some() {
            self.doubt();
        }
        lost
    }

    /// Notes that a datanode does not hold what is registered there.
    pub fn mark_lost(&self, place: &Place) {
        if self.lock().holdings.mark_lost(place) {
            tracing::error!(%place, "registered, and damaged or gone: it is repaired from another copy");
            self.doubt();
        }
    }

    /// Notes that no readable record of `datanode` has a number within `ranges`, each a first and a last number.
    pub fn mark_gaps(&self, datanode: &NodeName, ranges: &[(u64, u64)]) {
        let lost = self.lock().holdings.mark_gaps(datanode, ranges);
        if lost > 0 {
            tracing::error!(%datanode, lost, "the datanode has found records damaged: they are repaired from other copies");
            self.doubt();
        }
    }

    /// Notes that a message may have too few copies.
    pub fn doubt(&self) {
        self.doubts.send_modify(|doubts| *doubts += 1);
    }

    /// Returns a channel that changes whenever a message may have too few copies.
    #[must_use]
    pub fn doubts(&self) -> watch::Receiver<u64> {
        self.doubts.subscribe()
    }

    /// Reads the next `most` lines from the mark `from` on (0 at first), so that each message is met once, at its newest
    /// line. `is_wanted` is told where each message is, and tells which entries are wanted.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn page(
        &self,
        from: u64,
        most: usize,
        is_wanted: impl FnMut(&Holdings, &EntryKey) -> bool,
    ) -> io::Result<RegistryPage> {
        self.lock().page(from, most, is_wanted)
    }

    /// Returns the datanodes with records that had no room in the registry, once it has room again. They have to be
    /// compared again.
    #[must_use]
    pub fn take_behind(&self) -> BTreeSet<NodeName> {
        let mut state = self.lock();
        if state.has_room { std::mem::take(&mut state.behind) } else { BTreeSet::new() }
    }

    /// Returns the length of the file in bytes.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn bytes(&self) -> io::Result<u64> {
        self.lock().bytes()
    }

    /// Returns up to `most` identifiers of messages that are registered at those `numbers` of `datanode`. This reads
    /// the first `bytes` of the file.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub async fn ids_at(
        &self,
        datanode: &NodeName,
        numbers: &RoaringTreemap,
        bytes: u64,
        most: usize,
    ) -> io::Result<Vec<Id>> {
        let reader = self.lock().reader.clone();
        let mut ids = Vec::new();
        for (number, line) in (1u64..).zip(Records::from(&*reader, 0, Checksum::Crc32c)) {
            let (offset, line) = line?;
            if offset >= bytes || ids.len() == most {
                break;
            }
            let Some(EntryKey { id, places, .. }) = line.and_then(|line| parse_entry_key(&line)) else {
                continue;
            };
            let is_at = |place: &Place| &place.datanode == datanode && numbers.contains(place.seq);
            if places.iter().any(is_at) && !ids.contains(&id) {
                ids.push(id);
            }
            if number % LINES_AT_A_TIME == 0 {
                // A long file must not block other tasks.
                tokio::task::yield_now().await;
            }
        }
        Ok(ids)
    }

    /// Calls `visit` for each message, and lets other tasks have their turns meanwhile.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub async fn for_each(&self, mut visit: impl FnMut(&Holdings, &EntryKey)) -> io::Result<()> {
        let mut next = Some(0);
        while let Some(from) = next {
            let page = self.page(from, PAGE_LINES, |holdings, key| {
                visit(holdings, key);
                false
            })?;
            next = page.next;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Updates the note on whether the registry is complete. This has to be called from time to time.
    pub fn note_completeness(&self) {
        let mut state = self.lock();
        let complete = state.holdings.unasked().is_none();
        let noted = state.bytes().and_then(|bytes| state.completeness.update(bytes, complete));
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot write registro_server.state: the next start asks every datanode");
        }
    }

    /// Returns the last `count` messages in front of the mark `before`, newest first, and the mark for older ones.
    /// Returns fewer than `count` if more would not fit into a frame.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn list(&self, count: usize, before: Option<u64>) -> io::Result<(Vec<RegistryEntry>, Option<u64>)> {
        self.lock().list(count, before)
    }

    /// Returns the signal that is set when the registry fails. After a failure nothing more is registered.
    #[must_use]
    pub fn failure(&self) -> &FailureSignal<WriteFailure> {
        self.writer.failure()
    }

    /// Syncs and closes the file. Nothing more is registered after that.
    ///
    /// # Errors
    /// Fails if the registry has failed before, or if the file cannot be synced.
    pub async fn close(&self) -> Result<(), Arc<WriteFailure>> {
        self.writer.close().await;
        let mut state = self.lock();
        let file = state.file.take();
        state.remembered = None;
        if let Some(failure) = self.failure().get() {
            return Err(failure);
        }
        let Some(mut file) = file else { return Ok(()) };
        file.sync()?;
        let complete = state.holdings.unasked().is_none();
        let noted = state.bytes().and_then(|bytes| state.completeness.close(bytes, complete));
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot write registro_server.state: the next start asks every datanode");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        lock(&self.state)
    }

    /// Handles a failure of the file. If it is fatal, it is reported to the program.
    fn failed(&self, failure: WriteFailure) -> RegistryError {
        if matches!(failure, WriteFailure::NoSpace(_)) {
            return RegistryError::NoSpace(Arc::new(failure));
        }
        RegistryError::Fatal(self.failure().set(failure))
    }
}

#[cfg(test)]
mod tests;
