//! `data.txt` and its index: each message once, on disk before it is confirmed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use journal::{AppendError, Batch, Checksum, Index, Journal, JournalFile, Records, record_at};
use protocol::storage::{Failure, HOLDINGS_PAGE, Holding, Reply};
use protocol::types::{Id, MessageCrc, Record};
use records::{parse_data, parse_data_key, push_data};
use tokio::sync::{Mutex, watch};

/// One record in so many is remembered by its number, to begin an inventory there.
const MARK_EVERY: u64 = 256;
/// Damaged lines that are named one by one at the start.
const NAMED_DAMAGES: usize = 20;
/// Memory that is kept between batches, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// What `data.txt` held when it was opened.
#[derive(Debug)]
pub struct Contents {
    reader: File,
    index: Index,
    marks: Vec<Mark>,
    next_seq: u64,
}

/// Where a record begins.
#[derive(Debug, Clone, Copy)]
struct Mark {
    seq: u64,
    offset: u64,
}

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

/// Opens or creates `data.txt`, cuts a torn tail, and builds the index.
///
/// # Errors
/// If the file cannot be used, or holds something else.
pub fn open(path: &Path) -> anyhow::Result<(JournalFile, Contents)> {
    let mut index = Index::default();
    let mut marks = Vec::new();
    let (mut last_seq, mut last_end, mut strangers, mut twice) = (0, 0, 0u64, 0u64);
    let (file, recovery) = JournalFile::open_verified(path, |offset, line| {
        let Some((seq, id)) = parse_data_key(line) else {
            strangers += 1;
            return;
        };
        remember(&mut marks, seq, offset);
        match index.get(id.into()) {
            None => drop(index.insert(id.into(), offset)),
            Some(_) => twice += 1,
        }
        (last_seq, last_end) = (seq, offset);
    })?;
    let path = path.display();
    ensure!(
        strangers == 0,
        "{path} holds {strangers} records that are not a datanode's: choose another --data-dir"
    );
    if recovery.torn_bytes > 0 {
        let cut_bytes = recovery.torn_bytes;
        tracing::warn!(cut_bytes, "data.txt ended in half a record that was never confirmed: cut it off");
    }
    for damage in recovery.damaged.iter().take(NAMED_DAMAGES) {
        tracing::error!(
            offset = damage.offset,
            bytes = damage.bytes,
            "data.txt has a damaged record: it is kept and never served"
        );
    }
    if twice > 0 {
        tracing::error!(
            twice,
            "data.txt holds identifiers more than once: the first record of each is served"
        );
    }
    // A damaged record at the end had a number, and somebody may have been told it.
    let damaged_after = recovery.damaged.iter().filter(|damage| damage.offset >= last_end).count() as u64;
    let reader = File::open(path.to_string()).with_context(|| format!("cannot read {path}"))?;
    tracing::info!(%path, records = recovery.records, damaged = recovery.damaged.len(), "data.txt opened");
    Ok((file, Contents { reader, index, marks, next_seq: last_seq + damaged_after + 1 }))
}

fn remember(marks: &mut Vec<Mark>, seq: u64, offset: u64) {
    if marks.last().is_none_or(|last| seq >= last.seq + MARK_EVERY) {
        marks.push(Mark { seq, offset });
    }
}

/// The messages of this datanode. One batch is stored at a time, so numbers go up in the order of the file.
#[derive(Debug)]
pub struct Store {
    journal: Journal,
    state: Mutex<State>,
    records: watch::Sender<u64>,
    owner: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    contents: Contents,
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
    pub fn new(journal: Journal, contents: Contents) -> Self {
        let records = watch::Sender::new(contents.index.len() as u64);
        let state = Mutex::new(State { contents, batch: Batch::new(Checksum::Crc32c) });
        Self { journal, state, records, owner: watch::Sender::new(0) }
    }

    /// Records held.
    #[must_use]
    pub fn records(&self) -> u64 {
        *self.records.borrow()
    }

    /// Takes the right to store from every other connection. When this returns, none of them stores anything more.
    pub async fn claim(&self) -> Claim {
        let _nobody_stores = self.state.lock().await;
        self.owner.send_modify(|owner| *owner += 1);
        Claim { number: *self.owner.borrow(), owner: self.owner.subscribe() }
    }

    /// Stores those of `messages` that are not held, all or none of them, and confirms each; `time` is theirs.
    pub async fn store(&self, claim: &Claim, messages: Vec<Message>, time: &str) -> Vec<Reply> {
        let mut state = self.state.lock().await;
        if *self.owner.borrow() != claim.number {
            let reason = "a newer connection of a headnode has taken over";
            return messages.iter().map(|_| failed(Failure::TakenOver, reason)).collect();
        }
        let replies = state.store(&self.journal, messages, time).await;
        self.records.send_replace(state.contents.index.len() as u64);
        replies
    }

    /// The record of `id`.
    pub async fn fetch(&self, id: Id) -> Reply {
        let state = self.state.lock().await;
        match state.contents.read(id) {
            None => failed(Failure::NotFound, "no record has this id"),
            Some(Ok(record)) => Reply::Record(record),
            Some(Err(reply)) => reply,
        }
    }

    /// What is held from number `from` on: a page of it.
    pub async fn inventory(&self, from: u64) -> Reply {
        let state = self.state.lock().await;
        state.contents.inventory(from).unwrap_or_else(|error| unreadable(&error))
    }
}

impl State {
    async fn store(&mut self, journal: &Journal, messages: Vec<Message>, time: &str) -> Vec<Reply> {
        let first_seq = self.contents.next_seq;
        let mut seq = first_seq;
        // Identifiers of this batch, and which message of it they stand for.
        let mut fresh: HashMap<Id, (u64, usize)> = HashMap::new();
        let mut offsets = Vec::new();
        let mut replies = Vec::with_capacity(messages.len());
        let mut records = Vec::with_capacity(messages.len());
        for (i, Message { id, client, text }) in messages.into_iter().enumerate() {
            let record = Record { seq, time: time.to_owned(), id, client, message: text };
            replies.push(match (self.contents.read(id), fresh.get(&id)) {
                (Some(Ok(held)), _) => confirm(held.seq, &held.message, &record),
                (Some(Err(reply)), _) => reply,
                (None, Some((seq, at))) => {
                    let held: &Record = &records[*at];
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

impl Contents {
    fn add(&mut self, added: &[(Id, u64, u64)], start: u64, next_seq: u64) {
        for (id, seq, at) in added {
            self.index.insert((*id).into(), start + at);
            remember(&mut self.marks, *seq, start + at);
        }
        self.next_seq = next_seq;
    }

    fn read(&self, id: Id) -> Option<Result<Record, Reply>> {
        let offset = self.index.get(id.into())?;
        let record = match record_at(&self.reader, offset, Checksum::Crc32c) {
            Ok(line) => line.and_then(|line| parse_data(std::str::from_utf8(&line).ok()?)),
            Err(error) => return Some(Err(unreadable(&error))),
        };
        let damaged = || {
            tracing::error!(%id, offset, "a record of data.txt is damaged: it is not served");
            failed(Failure::Damaged, "the record is damaged on disk")
        };
        Some(record.filter(|record| record.id == id).ok_or_else(damaged))
    }

    fn inventory(&self, from: u64) -> io::Result<Reply> {
        let after = self.marks.partition_point(|mark| mark.seq <= from);
        let start = after.checked_sub(1).map_or(0, |at| self.marks[at].offset);
        let mut records = Vec::new();
        for line in Records::from(&self.reader, start, Checksum::Crc32c) {
            let record = line?.1.and_then(|line| parse_data(std::str::from_utf8(&line).ok()?));
            let Some(Record { seq, time, id, client, message }) = record else { continue };
            if seq < from {
                continue;
            }
            if records.len() == HOLDINGS_PAGE {
                return Ok(Reply::Holdings { records, more: true });
            }
            records.push(Holding(seq, id, time, client, MessageCrc::of(&message)));
        }
        Ok(Reply::Holdings { records, more: false })
    }
}

/// The reply to a message whose identifier is held with the message `held`.
fn confirm(seq: u64, held: &str, wanted: &Record) -> Reply {
    if held == wanted.message {
        Reply::Stored { id: wanted.id, seq, message_crc32c: MessageCrc::of(held) }
    } else {
        failed(Failure::IdConflict, "the id was used for another message")
    }
}

fn not_stored(error: &AppendError) -> Reply {
    match error {
        AppendError::NoSpace(_) => failed(Failure::DiskFull, "the datanode has no space for the message"),
        AppendError::Fatal(_) | AppendError::Closed => {
            failed(Failure::StorageFailed, "the datanode cannot write to its disk and stops")
        }
    }
}

fn unreadable(error: &io::Error) -> Reply {
    tracing::error!(%error, "cannot read data.txt");
    failed(Failure::Damaged, "the datanode cannot read its disk")
}

fn failed(code: Failure, reason: &str) -> Reply {
    Reply::Failed { code, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T09:30:00.123Z";

    fn message(number: u64, text: &str) -> Message {
        let client = "127.0.0.1:40522".parse().unwrap();
        Message { id: Id::from_parts(number, 7), client, text: text.to_owned() }
    }

    fn start(path: &Path) -> Store {
        let (file, contents) = open(path).unwrap();
        Store::new(Journal::start_inline(file), contents)
    }

    fn seqs(replies: &[Reply]) -> Vec<Option<u64>> {
        replies
            .iter()
            .map(|reply| if let Reply::Stored { seq, .. } = reply { Some(*seq) } else { None })
            .collect()
    }

    async fn holdings(store: &Store, from: u64) -> (Vec<u64>, bool) {
        let Reply::Holdings { records, more } = store.inventory(from).await else { panic!("no holdings") };
        (records.iter().map(|holding| holding.0).collect(), more)
    }

    #[tokio::test]
    async fn a_message_is_stored_once_however_often_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let store = start(&path);
        let claim = store.claim().await;
        let twice = vec![message(1, "a"), message(2, "b"), message(1, "a"), message(2, "other")];
        assert_eq!(seqs(&store.store(&claim, twice, TIME).await), [Some(1), Some(2), Some(1), None]);
        let again = vec![message(2, "b"), message(3, "c"), message(1, "other")];
        let replies = store.store(&claim, again, TIME).await;
        assert_eq!(seqs(&replies), [Some(2), Some(3), None]);
        assert!(matches!(replies[2], Reply::Failed { code: Failure::IdConflict, .. }));
        assert_eq!(store.records(), 3);
        store.journal.close().await;
        drop(store);
        let store = start(&path);
        let claim = store.claim().await;
        assert_eq!(
            seqs(&store.store(&claim, vec![message(3, "c"), message(4, "d")], TIME).await),
            [Some(3), Some(4)]
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
    }

    #[tokio::test]
    async fn records_are_given_back_and_listed_by_pages() {
        let folder = tempfile::tempdir().unwrap();
        let store = start(&folder.path().join("data.txt"));
        let claim = store.claim().await;
        let many =
            (1..=HOLDINGS_PAGE as u64 + 10).map(|number| message(number, &format!("m{number}"))).collect();
        store.store(&claim, many, TIME).await;
        let Reply::Record(record) = store.fetch(Id::from_parts(300, 7)).await else { panic!("no record") };
        assert_eq!((record.seq, record.message.as_str()), (300, "m300"));
        assert!(matches!(
            store.fetch(Id::from_parts(0, 0)).await,
            Reply::Failed { code: Failure::NotFound, .. }
        ));
        let page = HOLDINGS_PAGE as u64;
        assert_eq!(holdings(&store, 1).await, ((1..=page).collect(), true));
        assert_eq!(holdings(&store, 1000).await, ((1000..=page + 10).collect(), false));
        assert_eq!(holdings(&store, page + 11).await, (vec![], false));
    }

    #[tokio::test]
    async fn only_the_newest_claim_stores() {
        let folder = tempfile::tempdir().unwrap();
        let store = start(&folder.path().join("data.txt"));
        let mut old = store.claim().await;
        let new = store.claim().await;
        old.lost().await;
        let refused = store.store(&old, vec![message(1, "a")], TIME).await;
        assert!(matches!(refused[..], [Reply::Failed { code: Failure::TakenOver, .. }]));
        assert_eq!(seqs(&store.store(&new, vec![message(1, "a")], TIME).await), [Some(1)]);
    }

    #[tokio::test]
    async fn a_damaged_record_is_never_served_and_its_number_never_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let store = start(&path);
        let claim = store.claim().await;
        store.store(&claim, vec![message(1, "one"), message(2, "two")], TIME).await;
        // While it runs: the index knows the record, the disk gives something else.
        let damaged = std::fs::read_to_string(&path).unwrap().replace("two", "owt");
        std::fs::write(&path, damaged).unwrap();
        let fetched = store.fetch(Id::from_parts(2, 7)).await;
        assert!(matches!(fetched, Reply::Failed { code: Failure::Damaged, .. }), "{fetched:?}");
        assert_eq!(holdings(&store, 1).await, (vec![1], false));
        store.journal.close().await;
        drop(store);
        let store = start(&path);
        let claim = store.claim().await;
        assert_eq!(store.records(), 1);
        assert_eq!(seqs(&store.store(&claim, vec![message(3, "three")], TIME).await), [Some(3)]);
    }

    /// A disk whose every sync fails.
    struct Failing;

    impl journal::Storage for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn sync(&mut self) -> io::Result<()> {
            // EIO
            Err(io::Error::from_raw_os_error(5))
        }

        fn status(&self) -> io::Result<(u64, bool)> {
            Ok((0, true))
        }

        fn truncate(&mut self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_confirmed_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let (_, contents) = open(&folder.path().join("data.txt")).unwrap();
        let failing = JournalFile::with_storage("data.txt", Box::new(Failing));
        let store = Store::new(Journal::start_inline(failing), contents);
        let claim = store.claim().await;
        for attempt in 1..=2 {
            let replies = store.store(&claim, vec![message(attempt, "a")], TIME).await;
            assert!(
                matches!(replies[..], [Reply::Failed { code: Failure::StorageFailed, .. }]),
                "{replies:?}"
            );
        }
        assert_eq!(store.records(), 0);
        assert!(store.journal.failure().unwrap().to_string().contains("cannot sync data.txt"));
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let mut batch = Batch::new(Checksum::Crc32c);
        batch.push(|record| {
            record.text("of something else");
        });
        std::fs::write(&path, batch.as_bytes()).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("not a datanode's"), "{error}");
    }
}
