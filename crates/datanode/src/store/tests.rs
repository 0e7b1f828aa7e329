use journal::Executor;
use protocol::store::node_api::HOLDINGS_PAGE;

use super::*;

const TIME: &str = "2026-11-21T09:30:00.123Z";

fn message(number: u64, text: &str) -> Message {
    let client = "127.0.0.1:40522".parse().unwrap();
    Message { id: Id::from_parts(number, 7), client, text: text.to_owned() }
}

fn start(folder: &Path) -> Store {
    let (file, contents, remembered) = open(folder).unwrap();
    Store::new(Journal::start_on(Executor::Inline, file), contents, remembered)
}

/// Gives the files back, as the end of the process does.
async fn stop(store: Store) {
    store.journal.close().await;
}

fn seqs(replies: &[NodeReply]) -> Vec<Option<u64>> {
    replies
        .iter()
        .map(|reply| if let NodeReply::Stored { seq, .. } = reply { Some(*seq) } else { None })
        .collect()
}

async fn holdings(store: &Store, from: u64) -> (Vec<u64>, bool) {
    let NodeReply::Holdings { records, more } = store.inventory(from).await else { panic!("no holdings") };
    (records.iter().map(|holding| holding.0).collect(), more)
}

#[tokio::test]
async fn a_message_is_stored_once_however_often_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let store = start(folder.path());
    let claim = store.claim(0).await;
    let twice = vec![message(1, "a"), message(2, "b"), message(1, "a"), message(2, "other")];
    assert_eq!(seqs(&store.store(&claim, twice, TIME).await), [Some(1), Some(2), Some(1), None]);
    let again = vec![message(2, "b"), message(3, "c"), message(1, "other")];
    let replies = store.store(&claim, again, TIME).await;
    assert_eq!(seqs(&replies), [Some(2), Some(3), None]);
    assert!(matches!(replies[2], NodeReply::Failed { code: NodeFailure::IdConflict, .. }));
    assert_eq!(store.records(), 3);
    stop(store).await;
    let store = start(folder.path());
    let claim = store.claim(0).await;
    assert_eq!(
        seqs(&store.store(&claim, vec![message(3, "c"), message(4, "d")], TIME).await),
        [Some(3), Some(4)]
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
}

#[tokio::test]
async fn records_are_given_back_and_listed_by_pages() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path());
    let claim = store.claim(0).await;
    let many = (1..=HOLDINGS_PAGE as u64 + 10).map(|number| message(number, &format!("m{number}"))).collect();
    store.store(&claim, many, TIME).await;
    let NodeReply::Record(record) = store.fetch(Id::from_parts(300, 7)).await else { panic!("no record") };
    assert_eq!((record.seq, record.message.as_str()), (300, "m300"));
    assert!(matches!(
        store.fetch(Id::from_parts(0, 0)).await,
        NodeReply::Failed { code: NodeFailure::NotFound, .. }
    ));
    let page = HOLDINGS_PAGE as u64;
    assert_eq!(holdings(&store, 1).await, ((1..=page).collect(), true));
    assert_eq!(holdings(&store, 1000).await, ((1000..=page + 10).collect(), false));
    assert_eq!(holdings(&store, page + 11).await, (vec![], false));
}

#[tokio::test]
async fn only_the_newest_claim_stores() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path());
    let mut old = store.claim(0).await;
    let new = store.claim(0).await;
    old.lost().await;
    let refused = store.store(&old, vec![message(1, "a")], TIME).await;
    assert!(matches!(refused[..], [NodeReply::Failed { code: NodeFailure::TakenOver, .. }]));
    assert_eq!(seqs(&store.store(&new, vec![message(1, "a")], TIME).await), [Some(1)]);
}

#[tokio::test]
async fn a_damaged_record_is_never_served_and_its_number_never_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let store = start(folder.path());
    let claim = store.claim(0).await;
    store.store(&claim, vec![message(1, "one"), message(2, "two")], TIME).await;
    // While it runs: the index knows the record, the disk gives something else.
    let damaged = std::fs::read_to_string(&path).unwrap().replace("two", "owt");
    std::fs::write(&path, damaged).unwrap();
    let fetched = store.fetch(Id::from_parts(2, 7)).await;
    assert!(matches!(fetched, NodeReply::Failed { code: NodeFailure::Damaged, .. }), "{fetched:?}");
    assert_eq!(holdings(&store, 1).await, (vec![1], false));
    stop(store).await;
    let store = start(folder.path());
    let claim = store.claim(0).await;
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
    let (_, contents, remembered) = open(folder.path()).unwrap();
    let failing = JournalFile::with_storage("data.txt", Box::new(Failing));
    let store = Store::new(Journal::start_on(Executor::Inline, failing), contents, remembered);
    let claim = store.claim(0).await;
    for attempt in 1..=2 {
        let replies = store.store(&claim, vec![message(attempt, "a")], TIME).await;
        assert!(
            matches!(replies[..], [NodeReply::Failed { code: NodeFailure::StorageFailed, .. }]),
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
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("not a datanode's"), "{error}");
}

#[tokio::test]
async fn no_number_is_given_twice_whatever_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let store = start(folder.path());
    let claim = store.claim(0).await;
    store.store(&claim, (1..=7).map(|number| message(number, "a")).collect(), TIME).await;
    stop(store).await;
    // The disk loses the last sector of an acknowledged record. The registry that knew of it is lost too.
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length - 10..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    stop(start(folder.path())).await;
    // Nothing in data.txt tells of record 7 any more, yet its number stays taken.
    let store = start(folder.path());
    let claim = store.claim(0).await;
    let NodeReply::Gaps { ranges, more: false } = store.gaps(1).await else { panic!("no gaps") };
    let [(7, last)] = ranges[..] else { panic!("{ranges:?}") };
    let replies = store.store(&claim, vec![message(8, "b")], TIME).await;
    assert_eq!(seqs(&replies), [Some(last + 1)]);
    stop(store).await;
    // A registry that knows of more is believed, also after the next restart.
    let store = start(folder.path());
    store.claim(500).await;
    stop(store).await;
    let store = start(folder.path());
    let claim = store.claim(0).await;
    let replies = store.store(&claim, vec![message(9, "c")], TIME).await;
    assert_eq!(seqs(&replies), [Some(501)]);
    // A number that nothing can come after is no number of ours.
    let claim = store.claim(u64::MAX).await;
    assert_eq!(seqs(&store.store(&claim, vec![message(9, "c")], TIME).await), [Some(501)]);
    assert_eq!(store.records(), 8);
}

#[tokio::test]
async fn names_of_datanodes_are_remembered_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path());
    let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<NodeName>>();
    store.peers(names(&["b", "a"]), None).await;
    stop(store).await;
    let store = start(folder.path());
    let reply = store.peers(names(&["c"]), Some("a".parse().unwrap())).await;
    assert_eq!(reply, NodeReply::Peers { names: names(&["b", "c"]), more: false });
}
