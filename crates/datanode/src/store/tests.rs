use std::io;

use super::*;

const PAGE: usize = 700;
const TIME: &str = "2026-11-21T09:30:00.123Z";

fn message(number: u64, text: &str) -> NewMessage {
    let client = "127.0.0.1:40522".parse().unwrap();
    NewMessage { id: Id::from_parts(number, 7), client, text: text.to_owned() }
}

fn start(folder: &Path) -> MessageStore {
    MessageStore::open(&Disk::default(), folder, DatanodeMetrics::default()).unwrap()
}

fn seqs(outcomes: &[Result<Confirmation, StoreError>]) -> Vec<Option<u64>> {
    outcomes.iter().map(|outcome| outcome.ok().map(|confirmation| confirmation.seq)).collect()
}

fn inventory(store: &MessageStore, from: u64) -> (Vec<u64>, bool) {
    let InventoryPage { records, more } = store.inventory(from, PAGE).unwrap();
    (records.iter().map(|record| record.seq).collect(), more)
}

#[test]
fn a_message_is_stored_once_however_often_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    let twice = vec![message(1, "a"), message(2, "b"), message(1, "a"), message(2, "other")];
    assert_eq!(seqs(&store.store(&claim, twice, TIME)), [Some(1), Some(2), Some(1), None]);
    let again = vec![message(2, "b"), message(3, "c"), message(1, "other")];
    let replies = store.store(&claim, again, TIME);
    assert_eq!(seqs(&replies), [Some(2), Some(3), None]);
    assert_eq!(replies[2], Err(StoreError::IdConflict));
    assert_eq!(*store.records().borrow(), 3);
    drop(store);
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    assert_eq!(seqs(&store.store(&claim, vec![message(3, "c"), message(4, "d")], TIME)), [Some(3), Some(4)]);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
}

#[test]
fn records_are_given_back_and_listed_by_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    let many = (1..=PAGE as u64 + 10).map(|number| message(number, &format!("m{number}"))).collect();
    store.store(&claim, many, TIME);
    let record = store.fetch(Id::from_parts(300, 7)).unwrap();
    assert_eq!((record.seq, record.message.as_str()), (300, "m300"));
    assert_eq!(store.fetch(Id::from_parts(0, 0)), Err(StoreError::NotFound));
    let page = PAGE as u64;
    assert_eq!(inventory(&store, 1), ((1..=page).collect(), true));
    assert_eq!(inventory(&store, 1000), ((1000..=page + 10).collect(), false));
    assert_eq!(inventory(&store, page + 11), (vec![], false));
}

#[tokio::test]
async fn only_the_newest_claim_stores() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = start(folder.path());
    let mut old = store.claim(None, 0).unwrap();
    let new = store.claim(None, 0).unwrap();
    old.lost().await;
    let refused = store.store(&old, vec![message(1, "a")], TIME);
    assert_eq!(refused, [Err(StoreError::TakenOver)]);
    assert_eq!(seqs(&store.store(&new, vec![message(1, "a")], TIME)), [Some(1)]);
}

#[test]
fn a_damaged_record_is_never_served_and_its_number_never_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    store.store(&claim, vec![message(1, "one"), message(2, "two")], TIME);
    // The record is damaged while the datanode runs: the index knows it, but the disk returns other bytes.
    let damaged = std::fs::read_to_string(&path).unwrap().replace("two", "owt");
    std::fs::write(&path, damaged).unwrap();
    let fetched = store.fetch(Id::from_parts(2, 7));
    assert_eq!(fetched, Err(StoreError::Read(ReadError::Damaged)));
    assert_eq!(inventory(&store, 1), (vec![1], false));
    drop(store);
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    assert_eq!(*store.records().borrow(), 1);
    assert_eq!(seqs(&store.store(&claim, vec![message(3, "three")], TIME)), [Some(3)]);
}

/// A disk on which every sync fails.
struct Failing;

impl journal::Storage for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        // This is EIO, an error of the disk.
        Err(io::Error::from_raw_os_error(5))
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        Ok((0, true))
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn after_a_failed_sync_nothing_is_confirmed_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (_, contents) = contents::open(&Disk::default(), &folder.path().join(DATA_FILE)).unwrap();
    let remembered = Remembered::open(&Disk::default(), &folder.path().join(DATANODE_JOURNAL)).unwrap();
    let failing = JournalFile::with_storage("data.txt", Box::new(Failing));
    let epoch = EpochFile::open(&Disk::default(), folder.path().join(EPOCH_FILE)).unwrap();
    let mut store =
        MessageStore::with_file(failing, contents, remembered, epoch, DatanodeMetrics::default()).unwrap();
    let claim = store.claim(None, 0).unwrap();
    for attempt in 1..=2 {
        let replies = store.store(&claim, vec![message(attempt, "a")], TIME);
        assert_eq!(replies, [Err(StoreError::WriteFailed)]);
    }
    assert_eq!(*store.records().borrow(), 0);
    assert!(store.failure().get().unwrap().to_string().contains("cannot sync data.txt"));
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
    let opened = MessageStore::open(&Disk::default(), folder.path(), DatanodeMetrics::default());
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("not a datanode's"), "{error}");
}

#[test]
fn no_number_is_given_twice_whatever_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    store.store(&claim, (1..=7).map(|number| message(number, "a")).collect(), TIME);
    drop(store);
    // The disk loses the last sector of an acknowledged record. The registry that knew of the record is lost too.
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length - 10..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    drop(start(folder.path()));
    // Nothing in data.txt shows that record 7 existed, but its number stays taken.
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    let (ranges, _) = store.gaps(1, 100);
    let [(7, last)] = ranges[..] else { panic!("{ranges:?}") };
    let replies = store.store(&claim, vec![message(8, "b")], TIME);
    assert_eq!(seqs(&replies), [Some(last + 1)]);
    drop(store);
    // A higher number from a registry is accepted, and remembered after the next restart.
    let mut store = start(folder.path());
    store.claim(None, 500).unwrap();
    drop(store);
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    let replies = store.store(&claim, vec![message(9, "c")], TIME);
    assert_eq!(seqs(&replies), [Some(501)]);
    // The highest possible number has no successor, so it is ignored.
    let claim = store.claim(None, u64::MAX).unwrap();
    assert_eq!(seqs(&store.store(&claim, vec![message(9, "c")], TIME)), [Some(501)]);
    assert_eq!(*store.records().borrow(), 8);
}

#[test]
fn names_of_datanodes_are_remembered_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = start(folder.path());
    let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<NodeName>>();
    store.remember_peers(names(&["b", "a"])).unwrap();
    drop(store);
    let mut store = start(folder.path());
    store.remember_peers(names(&["c"])).unwrap();
    assert_eq!(store.peers_after(Some(&"a".parse().unwrap()), 9), (names(&["b", "c"]), false));
}

#[test]
fn a_lower_epoch_claims_nothing_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let run = |number| Id::from_parts(number, 7);
    let low = Epoch::after(None, run(1));
    let high = Epoch::after(Some(low), run(2));
    let mut store = start(folder.path());
    let old = store.claim(Some(low), 0).unwrap();
    let new = store.claim(Some(high), 0).unwrap();
    assert_eq!(store.store(&old, vec![message(1, "a")], TIME), [Err(StoreError::TakenOver)]);
    for refused in [None, Some(low), Some(Epoch { taken_by: run(1), ..high })] {
        assert_eq!(store.claim(refused, 0).unwrap_err(), StoreError::Superseded(high));
    }
    assert_eq!(seqs(&store.store(&new, vec![message(1, "a")], TIME)), [Some(1)], "the claim has stayed");
    drop((old, new, store));
    let mut store = start(folder.path());
    assert_eq!(store.claim(Some(low), 0).unwrap_err(), StoreError::Superseded(high));
    store.claim(Some(high), 0).unwrap();
}

#[test]
fn a_damaged_record_is_held_no_more_and_can_be_stored_again_under_another_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let mut store = start(folder.path());
    let claim = store.claim(None, 0).unwrap();
    store.store(&claim, (1..=9).map(|number| message(number, &format!("m{number}"))).collect(), TIME);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("m3", "mE", 1).replacen("m9", "mE", 1)).unwrap();
    let damaged = Err(StoreError::Read(ReadError::Damaged));
    assert_eq!(store.fetch(Id::from_parts(3, 7)), damaged);
    assert_eq!(store.fetch(Id::from_parts(3, 7)), Err(StoreError::NotFound));
    assert_eq!(store.gaps(1, 9).0, [(3, 3), (9, 9)], "its neighbours were checked too");
    assert_eq!((*store.unreadable().borrow(), *store.records().borrow()), (2, 7));
    let again = vec![message(3, "m3"), message(9, "m9"), message(4, "m4")];
    assert_eq!(seqs(&store.store(&claim, again, TIME)), [Some(10), Some(11), Some(4)]);
    assert_eq!(store.fetch(Id::from_parts(3, 7)).unwrap().message, "m3");
    drop(store);
    let mut store = start(folder.path());
    assert_eq!(store.fetch(Id::from_parts(9, 7)).unwrap().seq, 11);
    assert_eq!(*store.unreadable().borrow(), 2);
}
