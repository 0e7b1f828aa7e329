//! The messages in `data.txt`: each is stored once, and is on disk before it is confirmed.
//!
//! A datanode has one writer: the connection that holds the [`Claim`]. So the file needs no queue in front of it: a
//! batch of messages is written and synced as soon as it arrives, on the runtime's own thread. The heartbeat has its
//! own thread and is not delayed.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use batching::FailureSignal;
use journal::plants::{Plant, is_planted};
use journal::{Batch, Checksum, Disk, JournalFile, WriteFailure};
use protocol::store::types::{Epoch, Id, MessageCrc, NodeName, StoredRecord};
use records::epoch_file::{EpochFile, KeptEpoch};
use records::remembered::Remembered;
use records::{DATA_FILE, DATANODE_JOURNAL, push_data};
use tokio::sync::watch;

pub use crate::claim::Claim;
use crate::claim::{ClaimChannel, CurrentClaim};
use crate::contents::check::CheckedSegment;
use crate::contents::{self, DataContents, InventoryPage, ReadError};
use crate::metrics::DatanodeMetrics;

/// The file of the highest epoch that this datanode has met, in the same folder as `data.txt`.
pub const EPOCH_FILE: &str = "datanode.epoch";
/// Memory that is kept between batches, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// A message to be stored.
#[derive(Debug)]
pub struct NewMessage {
    pub id: Id,
    /// The address of the client that sent the message.
    pub client: SocketAddr,
    pub text: String,
}

/// A message that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    pub id: Id,
    /// The number of the message's record in `data.txt`.
    pub seq: u64,
    /// The checksum of the message as it was stored.
    pub message_crc32c: MessageCrc,
}

/// Why the store did not do what it was asked. The text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    #[error("the id was used for another message")]
    IdConflict,
    #[error("a newer connection of a headnode has taken over")]
    TakenOver,
    #[error("a headnode with the higher epoch {0} leads")]
    Superseded(Epoch),
    #[error("the datanode has no space to note the headnode's epoch: free some")]
    NoSpaceForEpoch,
    #[error("the datanode has no space for the message")]
    NoSpace,
    #[error("the datanode has no space to remember the names")]
    NoSpaceToRemember,
    #[error("the datanode cannot write to its disk and stops")]
    WriteFailed,
    #[error("no record has this id")]
    NotFound,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The messages of this datanode. Their numbers increase in the order of the file.
#[derive(Debug)]
pub struct MessageStore {
    file: JournalFile,
    contents: DataContents,
    remembered: Remembered,
    batch: Batch,
    records: watch::Sender<u64>,
    /// How many numbers no readable record has.
    unreadable: watch::Sender<u64>,
    epoch: EpochFile,
    claims: ClaimChannel,
    failure: Arc<FailureSignal<WriteFailure>>,
    metrics: DatanodeMetrics,
}

impl MessageStore {
    /// Opens or creates the files of a datanode in `folder`.
    ///
    /// # Errors
    /// Fails if a file cannot be used, or if it holds anything other than a datanode's data.
    pub fn open(disk: &Disk, folder: &Path, metrics: DatanodeMetrics) -> anyhow::Result<Self> {
        let (file, contents) = contents::open(disk, &folder.join(DATA_FILE))?;
        let epoch = EpochFile::open(disk, folder.join(EPOCH_FILE)).context("cannot read datanode.epoch")?;
        Self::with_file(
            file,
            contents,
            Remembered::open(disk, &folder.join(DATANODE_JOURNAL))?,
            epoch,
            metrics,
        )
    }

    fn with_file(
        file: JournalFile,
        mut contents: DataContents,
        remembered: Remembered,
        epoch: EpochFile,
        metrics: DatanodeMetrics,
    ) -> anyhow::Result<Self> {
        contents.skip_to(remembered.next_seq() - 1);
        let mut store = Self {
            file,
            records: watch::Sender::new(contents.records()),
            unreadable: watch::Sender::new(contents.unreadable()),
            contents,
            remembered,
            batch: Batch::new(Checksum::Crc32c),
            claims: ClaimChannel::new(epoch.epoch()),
            epoch,
            failure: Arc::default(),
            metrics,
        };
        match store.reserve() {
            Err(failure @ WriteFailure::NoSpace(_)) => {
                tracing::error!(%failure, "cannot write datanode.journal");
            }
            reserved => reserved?,
        }
        Ok(store)
    }

    /// Makes sure that the number of a lost record is not assigned again after a restart.
    fn reserve(&mut self) -> Result<(), WriteFailure> {
        if self.contents.ends_in_gap() { self.remembered.reserve(self.contents.next_seq()) } else { Ok(()) }
    }

    /// Returns a channel that always holds the number of records.
    #[must_use]
    pub fn records(&self) -> watch::Receiver<u64> {
        self.records.subscribe()
    }

    /// Returns a channel that always holds the number of numbers that no readable record has.
    #[must_use]
    pub fn unreadable(&self) -> watch::Receiver<u64> {
        self.unreadable.subscribe()
    }

    /// Returns the signal that is set when a file fails. Nothing is confirmed after that, and the datanode has to stop.
    #[must_use]
    pub fn failure(&self) -> Arc<FailureSignal<WriteFailure>> {
        self.failure.clone()
    }

    /// Returns a channel that always tells who may store.
    #[must_use]
    pub fn current_claim(&self) -> watch::Receiver<CurrentClaim> {
        self.claims.watch()
    }

    /// Takes the right to store from every other connection. From now on, the others store nothing, and no headnode whose
    /// epoch is lower than `epoch` ever does: the epoch is on disk when this returns.
    ///
    /// `highest` is the highest number that, as far as the headnode knows, was assigned here. It is not assigned again.
    ///
    /// # Errors
    /// Fails with [`StoreError::Superseded`], [`StoreError::NoSpaceForEpoch`] or [`StoreError::WriteFailed`]. The present
    /// claim stays then.
    pub fn claim(&mut self, epoch: Option<Epoch>, highest: u64) -> Result<Claim, StoreError> {
        self.keep_epoch(epoch)?;
        if let Some(lost) = self.contents.skip_to(highest) {
            let (first, last) = (lost.start(), lost.end());
            tracing::error!(
                first,
                last,
                "the headnode has records registered that data.txt does not hold: their numbers are not assigned again"
            );
        }
        self.note_gaps();
        Ok(self.claims.take(epoch))
    }

    /// Refuses an epoch that is lower than the highest one that the datanode has met, and puts a higher one on disk.
    fn keep_epoch(&mut self, epoch: Option<Epoch>) -> Result<(), StoreError> {
        match (self.epoch.epoch(), epoch) {
            (Some(met), epoch) if epoch < Some(met) => {
                if is_planted(Plant::StaleStoreAccepted) {
                    Ok(())
                } else {
                    Err(StoreError::Superseded(met))
                }
            }
            (_, None) => Ok(()),
            (_, Some(epoch)) => self.epoch.keep(KeptEpoch { epoch, is_own: false }).map_err(|failure| {
                tracing::error!(%failure, "cannot write datanode.epoch");
                if matches!(failure, WriteFailure::NoSpace(_)) {
                    return StoreError::NoSpaceForEpoch;
                }
                self.failure.set(failure);
                StoreError::WriteFailed
            }),
        }
    }

    /// Adds the names of datanodes to those that are remembered, and waits until they are on disk.
    ///
    /// # Errors
    /// Fails with [`StoreError::NoSpaceToRemember`] or [`StoreError::WriteFailed`].
    pub fn remember_peers(&mut self, names: Vec<NodeName>) -> Result<(), StoreError> {
        let remembered = self.remembered.remember(names);
        self.handle_journal_failure(remembered)
    }

    /// Returns whether an operator drains this datanode.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.remembered.is_draining()
    }

    /// Remembers whether an operator drains this datanode, and waits until that is on disk.
    ///
    /// # Errors
    /// Fails with [`StoreError::NoSpaceToRemember`] or [`StoreError::WriteFailed`].
    pub fn set_draining(&mut self, on: bool) -> Result<(), StoreError> {
        let remembered = self.remembered.set_draining(on);
        self.handle_journal_failure(remembered)
    }

    /// Returns up to `most` of the remembered names behind `after`, in order, and whether there are more.
    #[must_use]
    pub fn peers_after(&self, after: Option<&NodeName>, most: usize) -> (Vec<NodeName>, bool) {
        self.remembered.peers_after(after, most)
    }

    /// Returns up to `most` ranges of numbers, from `from` on, that were assigned and that no readable record has. Also
    /// returns whether there are more.
    #[must_use]
    pub fn gaps(&self, from: u64, most: usize) -> (Vec<(u64, u64)>, bool) {
        self.contents.gaps(from, most)
    }

    /// Handles a failure of `datanode.journal`: logs it and, if it is fatal, reports it to the program.
    fn handle_journal_failure(&self, outcome: Result<(), WriteFailure>) -> Result<(), StoreError> {
        outcome.map_err(|failure| {
            tracing::error!(%failure, "cannot write datanode.journal");
            if matches!(failure, WriteFailure::NoSpace(_)) {
                return StoreError::NoSpaceToRemember;
            }
            self.failure.set(failure);
            StoreError::WriteFailed
        })
    }

    /// Stores those of `messages` that are not held yet, all or none of them, with the time `time`. Returns the result
    /// for each message.
    pub fn store(
        &mut self,
        claim: &Claim,
        messages: Vec<NewMessage>,
        time: &str,
    ) -> Vec<Result<Confirmation, StoreError>> {
        if !claim.is_current() {
            return messages.iter().map(|_| Err(StoreError::TakenOver)).collect();
        }
        let mut seq = self.contents.next_seq();
        // The new identifiers of this batch, each with its number and the position of its message.
        let mut fresh: HashMap<Id, (u64, usize)> = HashMap::new();
        let mut offsets = Vec::new();
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut wanted: Vec<StoredRecord> = Vec::with_capacity(messages.len());
        for (i, NewMessage { id, client, text }) in messages.into_iter().enumerate() {
            let record = StoredRecord { seq, time: time.to_owned(), id, client, message: text };
            outcomes.push(match (self.read_intact(id), fresh.get(&id)) {
                (Ok(Some(held)), _) => confirm(held.seq, &held.message, &record),
                (Err(error), _) => Err(error.into()),
                (Ok(None), Some((seq, at))) => confirm(*seq, &wanted[*at].message, &record),
                (Ok(None), None) => {
                    fresh.insert(id, (seq, i));
                    offsets.push((id, seq, self.batch.as_bytes().len() as u64));
                    push_data(&mut self.batch, &record);
                    seq += 1;
                    confirm(record.seq, &record.message, &record)
                }
            });
            wanted.push(record);
        }
        if !offsets.is_empty() {
            match self.commit(offsets.len()) {
                Ok(start) => {
                    self.metrics.stored.inc_by(offsets.len() as u64);
                    self.contents.add(&offsets, start, seq);
                }
                Err(error) => {
                    for (outcome, record) in outcomes.iter_mut().zip(&wanted) {
                        if fresh.contains_key(&record.id) {
                            *outcome = Err(error);
                        }
                    }
                }
            }
            self.records.send_replace(self.contents.records());
        }
        outcomes
    }

    /// Puts the batch of `messages` on disk, empties it, and returns its offset in the file.
    fn commit(&mut self, messages: usize) -> Result<u64, StoreError> {
        let committed = self.file.commit(self.batch.as_bytes());
        self.batch.clear(KEPT_BYTES);
        if committed.is_ok() {
            self.metrics.sync_duration.record(self.file.last_sync());
        }
        committed.map_err(|failure| {
            tracing::error!(messages, %failure, "messages not stored");
            if matches!(failure, WriteFailure::NoSpace(_)) {
                self.metrics.no_space.inc_by(messages as u64);
                return StoreError::NoSpace;
            }
            self.failure.set(failure);
            StoreError::WriteFailed
        })
    }

    /// Returns the record of `id`. If it is damaged, it is held no more.
    ///
    /// # Errors
    /// Fails with [`StoreError::NotFound`] or [`StoreError::Read`].
    pub fn fetch(&mut self, id: Id) -> Result<StoredRecord, StoreError> {
        let read = self.contents.read(id);
        if read == Err(ReadError::Damaged) {
            self.check_around(id);
        }
        read?.ok_or(StoreError::NotFound)
    }

    /// Returns the record of `id`, if an intact one is held. A damaged one is held no more, so that the message can be
    /// stored again.
    fn read_intact(&mut self, id: Id) -> Result<Option<StoredRecord>, ReadError> {
        let read = self.contents.read(id);
        if read != Err(ReadError::Damaged) {
            return read;
        }
        self.check_around(id);
        self.contents.read(id)
    }

    fn check_around(&mut self, id: Id) {
        match self.contents.check_around(id) {
            Ok(checked) => self.note_damage(&checked),
            Err(error) => tracing::error!(%error, "cannot read data.txt"),
        }
    }

    /// Checks a segment of `data.txt`, from 0. Returns how many bytes were read, or `None` behind the last segment.
    ///
    /// # Errors
    /// Fails if the disk cannot be read.
    pub fn scrub(&mut self, segment: usize) -> io::Result<Option<u64>> {
        let checked = self.contents.check(segment)?;
        checked.iter().for_each(|checked| self.note_damage(checked));
        Ok(checked.map(|checked| checked.bytes))
    }

    fn note_damage(&mut self, checked: &CheckedSegment) {
        let (Some(first), lost) = (checked.lost.first(), checked.lost.len()) else { return };
        tracing::error!(first, lost, "records of data.txt were damaged: they are not held any more");
        self.metrics.damaged.inc_by(lost as u64);
        self.note_gaps();
        self.records.send_replace(self.contents.records());
    }

    /// Takes care of what follows from new gaps: their numbers are not assigned again, and the headnode is told of them.
    fn note_gaps(&mut self) {
        let reserved = self.reserve();
        // A full disk must not prevent the headnode from reading.
        let _ = self.handle_journal_failure(reserved);
        self.unreadable.send_replace(self.contents.unreadable());
    }

    /// Returns up to `most` of the records from number `from` on.
    ///
    /// # Errors
    /// Fails with [`StoreError::Read`] if the disk cannot be read.
    pub fn inventory(&self, from: u64, most: usize) -> Result<InventoryPage, StoreError> {
        Ok(self.contents.inventory(from, most)?)
    }
}

/// Confirms a message if its text equals `held`, which is the text stored under its identifier.
fn confirm(seq: u64, held: &str, wanted: &StoredRecord) -> Result<Confirmation, StoreError> {
    if held == wanted.message {
        Ok(Confirmation { id: wanted.id, seq, message_crc32c: MessageCrc::of(held) })
    } else {
        Err(StoreError::IdConflict)
    }
}

#[cfg(test)]
mod tests;
