//! `data.txt`: each message once, on disk before it is confirmed.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use journal::{AppendError, Batch, Checksum, Failure as JournalFailure, Journal, JournalFile};
use protocol::store::node_api::{GAPS_PAGE, NodeFailure, NodeReply, PEERS_PAGE};
use protocol::store::types::{Id, MessageCrc, NodeName, StoredRecord};
use records::{DATA_FILE, push_data};
use tokio::sync::{Mutex, watch};

use crate::contents::{self, Contents};
use crate::remembered::Remembered;

/// Memory that is kept between batches, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// A message to be stored.
#[derive(Debug)]
pub struct Message {
    /// Its identifier.
    pub id: Id,
    /// Who sent it.
    pub client: SocketAddr,
    /// What was sent.
    pub text: String,
}

/// Opens or creates the files of a datanode in `folder`.
///
/// # Errors
/// If a file cannot be used, or holds something else.
pub fn open(folder: &Path) -> anyhow::Result<(JournalFile, Contents, Remembered)> {
    let (file, mut contents) = contents::open(&folder.join(DATA_FILE))?;
    let mut remembered = Remembered::open(folder)?;
    contents.skip_to(remembered.next_seq() - 1);
    match reserve(&mut remembered, &contents) {
        Err(failure @ JournalFailure::NoSpace(_)) => tracing::error!(%failure, "not remembered"),
        reserved => reserved?,
    }
    Ok((file, contents, remembered))
}

/// Makes sure that a number whose record is lost is not given again after a restart.
fn reserve(remembered: &mut Remembered, contents: &Contents) -> Result<(), JournalFailure> {
    if contents.ends_in_gap() { remembered.reserve(contents.next_seq()) } else { Ok(()) }
}

/// The messages of this datanode. One batch is stored at a time, so numbers go up in the order of the file.
#[derive(Debug)]
pub struct Store {
    journal: Journal,
    state: Mutex<State>,
    records: watch::Sender<u64>,
    owner: watch::Sender<u64>,
    /// Why nothing is remembered any more; the datanode has to stop.
    failure: watch::Sender<Option<Arc<JournalFailure>>>,
}

#[derive(Debug)]
struct State {
    contents: Contents,
    remembered: Remembered,
    batch: Batch,
}

/// A connection's right to store, until a newer one takes it.
#[derive(Debug)]
pub struct Claim {
    number: u64,
    owner: watch::Receiver<u64>,
}

impl Claim {
    /// Waits until a newer connection takes over.
    pub async fn lost(&mut self) {
        let number = self.number;
        // It cannot fail: the store lives as long as its connections.
        let _ = self.owner.wait_for(|owner| *owner != number).await;
    }
}

impl Store {
    /// A store on `journal`, the file that `contents` were read from.
    #[must_use]
    pub fn new(journal: Journal, contents: Contents, remembered: Remembered) -> Self {
        let records = watch::Sender::new(contents.records());
        let state = State { contents, remembered, batch: Batch::new(Checksum::Crc32c) };
        let owner = watch::Sender::new(0);
        Self { journal, state: Mutex::new(state), records, owner, failure: watch::Sender::new(None) }
    }

    /// Records held.
    #[must_use]
    pub fn records(&self) -> u64 {
        *self.records.borrow()
    }

    /// Takes the right to store from every other connection. When this returns, none of them stores anything more.
    ///
    /// `highest` is the highest number that the headnode knows to be given here: it is not given again.
    pub async fn claim(&self, highest: u64) -> Claim {
        let mut state = self.state.lock().await;
        if let Some(lost) = state.contents.skip_to(highest) {
            let (first, last) = (lost.start(), lost.end());
            tracing::error!(
                first,
                last,
                "the headnode has records registered that data.txt does not hold: their numbers are not given again"
            );
        }
        let State { contents, remembered, .. } = &mut *state;
        let reserved = reserve(remembered, contents);
        // A disk that is full must not keep the headnode from reading.
        let _ = self.checked(reserved);
        self.owner.send_modify(|owner| *owner += 1);
        Claim { number: *self.owner.borrow(), owner: self.owner.subscribe() }
    }

    /// Remembers the names of datanodes, and lists those behind `after`.
    pub async fn peers(&self, names: Vec<NodeName>, after: Option<NodeName>) -> NodeReply {
        let mut state = self.state.lock().await;
        let remembered = state.remembered.remember(names);
        match self.checked(remembered) {
            Ok(()) => {
                let (names, more) = state.remembered.peers_after(after.as_ref(), PEERS_PAGE);
                NodeReply::Peers { names, more }
            }
            Err(reply) => reply,
        }
    }

    /// The numbers that were given and belong to no readable record, from `from` on: a page of them.
    pub async fn gaps(&self, from: u64) -> NodeReply {
        let (ranges, more) = self.state.lock().await.contents.gaps(from, GAPS_PAGE);
        NodeReply::Gaps { ranges, more }
    }

    /// Waits for the failure after which nothing is confirmed any more; for ever while there is none.
    pub async fn failed(&self) -> Arc<JournalFailure> {
        let mut failure = self.failure.subscribe();
        tokio::select! {
            biased;
            failure = self.journal.failed() => failure,
            Ok(failure) = failure.wait_for(Option::is_some) => failure.clone().expect("it was just seen"),
        }
    }

    /// The failure after which nothing is confirmed any more, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<JournalFailure>> {
        self.journal.failure().or_else(|| self.failure.borrow().clone())
    }

    /// Notes the failure of `datanode.journal`, and says what to reply.
    fn checked(&self, outcome: Result<(), JournalFailure>) -> Result<(), NodeReply> {
        outcome.map_err(|failure| {
            tracing::error!(%failure, "not remembered");
            if matches!(failure, JournalFailure::NoSpace(_)) {
                return failed(NodeFailure::DiskFull, "the datanode has no space to remember it");
            }
            self.failure.send_replace(Some(Arc::new(failure)));
            failed(NodeFailure::StorageFailed, "the datanode cannot write to its disk and stops")
        })
    }

    /// Stores those of `messages` that are not held, all or none of them, and confirms each; `time` is theirs.
    pub async fn store(&self, claim: &Claim, messages: Vec<Message>, time: &str) -> Vec<NodeReply> {
        let mut state = self.state.lock().await;
        if *self.owner.borrow() != claim.number {
            let reason = "a newer connection of a headnode has taken over";
            return messages.iter().map(|_| failed(NodeFailure::TakenOver, reason)).collect();
        }
        let replies = state.store(&self.journal, messages, time).await;
        self.records.send_replace(state.contents.records());
        replies
    }

    /// The record of `id`.
    pub async fn fetch(&self, id: Id) -> NodeReply {
        let state = self.state.lock().await;
        match state.contents.read(id) {
            None => failed(NodeFailure::NotFound, "no record has this id"),
            Some(Ok(record)) => NodeReply::Record(record),
            Some(Err(reply)) => reply,
        }
    }

    /// What is held from number `from` on: a page of it.
    pub async fn inventory(&self, from: u64) -> NodeReply {
        let state = self.state.lock().await;
        state.contents.inventory(from).unwrap_or_else(|error| unreadable(&error))
    }
}

impl State {
    async fn store(&mut self, journal: &Journal, messages: Vec<Message>, time: &str) -> Vec<NodeReply> {
        let mut seq = self.contents.next_seq();
        // Identifiers of this batch, and which message of it they stand for.
        let mut fresh: HashMap<Id, (u64, usize)> = HashMap::new();
        let mut offsets = Vec::new();
        let mut replies = Vec::with_capacity(messages.len());
        let mut records = Vec::with_capacity(messages.len());
        for (i, Message { id, client, text }) in messages.into_iter().enumerate() {
            let record = StoredRecord { seq, time: time.to_owned(), id, client, message: text };
            replies.push(match (self.contents.read(id), fresh.get(&id)) {
                (Some(Ok(held)), _) => confirm(held.seq, &held.message, &record),
                (Some(Err(reply)), _) => reply,
                (None, Some((seq, at))) => {
                    let held: &StoredRecord = &records[*at];
                    confirm(*seq, &held.message, &record)
                }
                (None, None) => {
                    fresh.insert(id, (seq, i));
                    offsets.push((id, seq, self.batch.as_bytes().len() as u64));
                    push_data(&mut self.batch, &record);
                    seq += 1;
                    confirm(record.seq, &record.message, &record)
                }
            });
            records.push(record);
        }
        if !offsets.is_empty() {
            let stored = journal.append(&self.batch).await;
            self.batch.clear(KEPT_BYTES);
            match stored {
                Ok(start) => self.contents.add(&offsets, start, seq),
                Err(error) => {
                    tracing::error!(messages = offsets.len(), %error, "messages not stored");
                    for (reply, record) in replies.iter_mut().zip(&records) {
                        if fresh.contains_key(&record.id) {
                            *reply = not_stored(&error);
                        }
                    }
                }
            }
        }
        replies
    }
}

/// The reply to a message whose identifier is held with the message `held`.
fn confirm(seq: u64, held: &str, wanted: &StoredRecord) -> NodeReply {
    if held == wanted.message {
        NodeReply::Stored { id: wanted.id, seq, message_crc32c: MessageCrc::of(held) }
    } else {
        failed(NodeFailure::IdConflict, "the id was used for another message")
    }
}

fn not_stored(error: &AppendError) -> NodeReply {
    match error {
        AppendError::NoSpace(_) => failed(NodeFailure::DiskFull, "the datanode has no space for the message"),
        AppendError::Fatal(_) | AppendError::Closed => {
            failed(NodeFailure::StorageFailed, "the datanode cannot write to its disk and stops")
        }
    }
}

/// The reply where the disk cannot be read.
pub fn unreadable(error: &io::Error) -> NodeReply {
    tracing::error!(%error, "cannot read data.txt");
    failed(NodeFailure::Damaged, "the datanode cannot read its disk")
}

/// The reply to what was not done.
pub fn failed(code: NodeFailure, reason: &str) -> NodeReply {
    NodeReply::Failed { code, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
