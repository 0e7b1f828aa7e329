//! `registro_server.txt`: where each message is.
//!
//! The truth is what the datanodes hold; the registry can be made up again from it. So a line is written before the
//! client is told, which outlives the end of this process, but nobody waits until it is on disk: after a crash of the
//! whole machine the missing lines are asked for again, when each datanode's connection is made.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use chrono::Utc;
use journal::{Batch, Checksum, Failure, Index, JournalFile, Records, record_at, timestamp};
use protocol::storage::Holding;
use protocol::store::Entry;
use protocol::types::{Id, NodeName, Place};
use records::{parse_entry, push_entry};
use roaring::RoaringTreemap;
use tokio::sync::{Notify, oneshot, watch};

/// How much is read at a time when the last messages are listed.
const LIST_BLOCK_BYTES: u64 = 64 * 1024;
/// Memory that is kept between batches, in bytes.
const KEPT_BYTES: usize = 256 * 1024;
/// So many of the records that are known already are asked for again, to see that they are the same.
const RECHECKED: u64 = 100;

/// Why a place was not registered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// There is no room for the line; a later one may fit.
    #[error("{0}")]
    NoSpace(Arc<Failure>),
    /// The registry failed, and the headnode has to stop.
    #[error("{0}")]
    Fatal(Arc<Failure>),
    /// The registry is closed.
    #[error("the registry is closed")]
    Closed,
}

/// All messages and their places. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    pending: Notify,
    failure: watch::Sender<Option<Arc<Failure>>>,
}

#[derive(Debug)]
struct State {
    /// `None` once the registry is closed.
    file: Option<JournalFile>,
    reader: File,
    /// Of each message, its newest line.
    index: Index,
    /// Which numbers of each datanode are registered.
    held: HashMap<NodeName, RoaringTreemap>,
    waiting: Vec<(Entry, oneshot::Sender<Result<Entry, RegistryError>>)>,
    batch: Batch,
}

/// What a datanode's holdings told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconciled {
    /// So many places were registered that had been missing.
    Added(usize),
    /// The datanode does not hold what the registry knows of it: it lost its file, or has another one. Everything it
    /// holds has to be asked for.
    Different,
}

impl Registry {
    /// Opens or creates the file and reads it. A task on the present runtime then writes what is registered.
    ///
    /// # Errors
    /// If the file cannot be used, or holds something else.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mut index = Index::default();
        let mut held: HashMap<NodeName, RoaringTreemap> = HashMap::new();
        let mut strangers = 0u64;
        let (file, recovery) = JournalFile::open_verified(path, |offset, line| {
            let Some(entry) = parse_entry(line) else {
                strangers += 1;
                return;
            };
            index.insert(entry.id.into(), offset);
            for place in &entry.places {
                hold(&mut held, place);
            }
        })?;
        let shown = path.display();
        ensure!(
            strangers == 0,
            "{shown} holds {strangers} records that are not a registry's: choose another --data-dir"
        );
        let (cut_bytes, damaged) = (recovery.torn_bytes, recovery.damaged.len());
        if cut_bytes > 0 || damaged > 0 {
            tracing::warn!(
                cut_bytes,
                damaged,
                "the registry was damaged: what is missing is asked for from the datanodes"
            );
        }
        tracing::info!(path = %shown, messages = index.len(), "registro_server.txt opened");
        let reader = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let batch = Batch::new(Checksum::Crc32c);
        let state = State { file: Some(file), reader, index, held, waiting: Vec::new(), batch };
        let shared =
            Shared { state: Mutex::new(state), pending: Notify::new(), failure: watch::Sender::new(None) };
        let registry = Self { shared: Arc::new(shared) };
        tokio::spawn(registry.clone().write_pending());
        Ok(registry)
    }

    /// What is registered of `id`.
    #[must_use]
    pub fn lookup(&self, id: Id) -> Option<Entry> {
        self.lock().lookup(id)
    }

    /// Messages registered.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.lock().index.len() as u64
    }

    /// Records of `datanode` that are registered.
    #[must_use]
    pub fn held_by(&self, datanode: &NodeName) -> u64 {
        self.lock().held.get(datanode).map_or(0, RoaringTreemap::len)
    }

    /// Registers the places of a message, beside those that are registered already, and gives all of them back. An
    /// entry without a time gets the present one.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn record(&self, entry: Entry) -> Result<Entry, RegistryError> {
        let (done, outcome) = oneshot::channel();
        let is_first = {
            let mut state = self.lock();
            if state.file.is_none() {
                return Err(RegistryError::Closed);
            }
            state.waiting.push((entry, done));
            state.waiting.len() == 1
        };
        if is_first {
            self.shared.pending.notify_one();
        }
        outcome.await.unwrap_or(Err(RegistryError::Closed))
    }

    /// The first number of `datanode` to ask for, so that nothing is missing afterwards.
    #[must_use]
    pub fn first_wanted(&self, datanode: &NodeName) -> u64 {
        let state = self.lock();
        let known = state.held.get(datanode).map_or(0, contiguous);
        known.saturating_sub(RECHECKED).max(1)
    }

    /// Takes in a page of what `datanode` holds, asked for from number `from` on.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn reconcile(
        &self,
        datanode: &NodeName,
        from: u64,
        page: &[Holding],
    ) -> Result<Reconciled, RegistryError> {
        let mut state = self.lock();
        if state.file.is_none() {
            return Err(RegistryError::Closed);
        }
        if !state.agrees(datanode, from, page) {
            state.held.remove(datanode);
            return Ok(Reconciled::Different);
        }
        let missing: Vec<_> = page
            .iter()
            .filter(|holding| state.held.get(datanode).is_none_or(|held| !held.contains(holding.0)))
            .map(|Holding(seq, id, time, client, message_crc32c)| Entry {
                time: time.clone(),
                id: *id,
                client: *client,
                places: vec![Place { datanode: datanode.clone(), seq: *seq }],
                message_crc32c: *message_crc32c,
            })
            .collect();
        let added = missing.len();
        let outcome = state.write(missing).map(|_| Reconciled::Added(added));
        drop(state);
        outcome.map_err(|failure| self.told(failure))
    }

    /// The last `count` messages in front of the mark `before`, newest first, and the mark for older ones.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self, count: usize, before: Option<u64>) -> io::Result<(Vec<Entry>, Option<u64>)> {
        self.lock().list(count, before)
    }

    /// Waits for the failure after which nothing is registered any more; for ever while there is none.
    pub async fn failed(&self) -> Arc<Failure> {
        let mut failure = self.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            _ => std::future::pending().await,
        }
    }

    /// Puts what was registered on disk, and gives the file back to the system; nothing is registered any more.
    ///
    /// # Errors
    /// The failure after which nothing was registered any more, if there was one.
    pub fn close(&self) -> Result<(), Arc<Failure>> {
        let file = self.lock().file.take();
        self.shared.pending.notify_one();
        match (self.shared.failure.borrow().clone(), file) {
            (Some(failure), _) => Err(failure),
            (None, Some(mut file)) => file.sync().map_err(Arc::new),
            (None, None) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way through a change.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what several connections register at the same time with one call.
    async fn write_pending(self) {
        loop {
            self.shared.pending.notified().await;
            // Everyone who is ready to register gets into this round.
            tokio::task::yield_now().await;
            let mut state = self.lock();
            // Whoever waits learns that it is closed.
            let (entries, writers): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting).into_iter().unzip();
            if state.file.is_none() {
                return;
            }
            let outcome = state.write(entries);
            drop(state);
            match outcome {
                Ok(entries) => {
                    for (entry, writer) in entries.into_iter().zip(writers) {
                        // Whoever went away meanwhile needs no answer.
                        let _ = writer.send(Ok(entry));
                    }
                }
                Err(failure) => {
                    let error = self.told(failure);
                    for writer in writers {
                        let _ = writer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn told(&self, failure: Failure) -> RegistryError {
        let failure = Arc::new(failure);
        if matches!(*failure, Failure::NoSpace(_)) {
            return RegistryError::NoSpace(failure);
        }
        self.shared.failure.send_replace(Some(failure.clone()));
        RegistryError::Fatal(failure)
    }
}

impl State {
    fn lookup(&self, id: Id) -> Option<Entry> {
        let offset = self.index.get(id.into())?;
        match record_at(&self.reader, offset, Checksum::Crc32c) {
            Ok(line) => line.and_then(|line| parse_entry(&line)).filter(|entry| entry.id == id),
            Err(error) => {
                tracing::error!(%error, "cannot read registro_server.txt");
                None
            }
        }
    }

    /// Writes a line for each of `entries` that tells something new; gives them back with all their places.
    fn write(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, Failure> {
        let mut merged: Vec<Entry> = Vec::with_capacity(entries.len());
        // Of each identifier in this batch, its newest line: where in the batch, and which entry.
        let mut fresh: HashMap<Id, (u64, usize)> = HashMap::with_capacity(entries.len());
        self.batch.clear(KEPT_BYTES);
        let now = timestamp(Utc::now());
        for mut entry in entries {
            if entry.time.is_empty() {
                entry.time.clone_from(&now);
            }
            let known = match fresh.get(&entry.id) {
                Some((_, at)) => merged.get(*at).cloned(),
                None => self.lookup(entry.id),
            };
            let (entry, is_news) = merge(known, entry);
            if is_news {
                fresh.insert(entry.id, (self.batch.as_bytes().len() as u64, merged.len()));
                push_entry(&mut self.batch, &entry);
            }
            merged.push(entry);
        }
        if !self.batch.is_empty() {
            // It is there: callers look first.
            let Some(file) = self.file.as_mut() else { return Ok(merged) };
            let start = file.write(self.batch.as_bytes())?;
            for (id, (at, _)) in fresh {
                self.index.insert(id.into(), start + at);
            }
        }
        for place in merged.iter().flat_map(|entry| &entry.places) {
            hold(&mut self.held, place);
        }
        Ok(merged)
    }

    /// Whether `datanode` still holds what is registered of it: if it should have anything from `from` on, at least
    /// one of those records has to be there and be the same.
    fn agrees(&self, datanode: &NodeName, from: u64, page: &[Holding]) -> bool {
        let Some(held) = self.held.get(datanode) else { return true };
        if from > contiguous(held) {
            return true;
        }
        let mut known = page.iter().filter(|holding| held.contains(holding.0)).peekable();
        known.peek().is_some()
            && known.take(usize::try_from(RECHECKED).unwrap_or(usize::MAX)).all(|Holding(seq, id, ..)| {
                let place = Place { datanode: datanode.clone(), seq: *seq };
                self.lookup(*id).is_some_and(|entry| entry.places.contains(&place))
            })
    }

    fn list(&self, count: usize, before: Option<u64>) -> io::Result<(Vec<Entry>, Option<u64>)> {
        let mut end = self.reader.metadata()?.len().min(before.unwrap_or(u64::MAX));
        let mut entries = Vec::new();
        while end > 0 {
            let start = end.saturating_sub(LIST_BLOCK_BYTES);
            // Offsets of lines in this block; the first one may have begun before it.
            let mut lines = Vec::new();
            for line in Records::from(&self.reader, start, Checksum::Crc32c) {
                let (offset, record) = line?;
                if offset >= end {
                    break;
                }
                lines.push((offset, record));
            }
            for (offset, record) in lines.iter().rev() {
                let entry = record.as_ref().and_then(|line| parse_entry(line));
                // An older line of a message whose newest line is elsewhere says less.
                let Some(entry) = entry.filter(|entry| self.index.get(entry.id.into()) == Some(*offset))
                else {
                    continue;
                };
                if entries.len() == count {
                    return Ok((entries, Some(*offset + 1)));
                }
                entries.push(entry);
            }
            // The line that the block begins inside of is read again, whole, with the next block.
            end = if start == 0 { 0 } else { lines.get(1).map_or(start, |(offset, _)| *offset) };
        }
        Ok((entries, None))
    }
}

fn hold(held: &mut HashMap<NodeName, RoaringTreemap>, place: &Place) {
    match held.get_mut(&place.datanode) {
        Some(seqs) => drop(seqs.insert(place.seq)),
        None => drop(held.insert(place.datanode.clone(), RoaringTreemap::from_iter([place.seq]))),
    }
}

/// The entry with the places of both, and whether `entry` has told something new.
fn merge(known: Option<Entry>, entry: Entry) -> (Entry, bool) {
    let Some(mut known) = known else { return (entry, true) };
    if known.message_crc32c != entry.message_crc32c {
        tracing::error!(
            id = %entry.id, known = ?known.places, other = ?entry.places,
            "two different messages have one id: only the first is registered"
        );
        return (known, false);
    }
    let news: Vec<_> = entry.places.into_iter().filter(|place| !known.places.contains(place)).collect();
    let is_news = !news.is_empty();
    if is_news {
        known.time = entry.time;
        known.places.extend(news);
    }
    (known, is_news)
}

/// The number up to which all are there, from 1.
fn contiguous(held: &RoaringTreemap) -> u64 {
    let (mut known, mut unknown) = (0, held.len() + 1);
    while known + 1 < unknown {
        let middle = known + (unknown - known) / 2;
        if held.rank(middle) == middle {
            known = middle;
        } else {
            unknown = middle;
        }
    }
    known
}

#[cfg(test)]
mod tests;
