use super::holdings::RECHECKED;
use super::*;

use journal::{DiskFile, Storage};
use protocol::store::client_api::{HeadnodeReply, LIST_PAGE};
use protocol::store::json::MAX_FRAME_BYTES;
use protocol::store::types::MessageCrc;

const TIME: &str = "2026-11-21T09:30:00.123Z";

fn entry(number: u64, place: &str) -> Registration {
    Registration {
        time: Some(TIME.to_owned()),
        id: Id::from_parts(number, 7),
        client: "127.0.0.1:40522".parse().unwrap(),
        places: vec![place.parse().unwrap()],
        gone: Vec::new(),
        message_crc32c: MessageCrc::of(&number.to_string()),
        beginning: Some(number.to_string()),
    }
}

fn holding(number: u64, seq: u64) -> Holding {
    let Registration { id, client, message_crc32c, beginning, .. } = entry(number, "x:1");
    Holding { seq, id, time: TIME.to_owned(), client, message_crc32c, beginning }
}

fn opened(path: &Path) -> anyhow::Result<Registry> {
    Registry::open(&Disk::default(), WallClock::default(), path, Epoch::after(None, Id::from_parts(1, 2)))
}

fn places(registry: &Registry, number: u64) -> String {
    let entry = registry.lookup(Id::from_parts(number, 7)).unwrap().unwrap();
    entry.places.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn first_wanted(registry: &Registry, datanode: &NodeName) -> u64 {
    registry.holdings(|holdings| holdings.first_wanted(datanode))
}

fn reconcile(registry: &Registry, datanode: &NodeName, page: &[Holding]) -> Reconciled {
    registry.reconcile(datanode, 1, page, RecordComparison::ByNumber, &mut RoaringTreemap::new()).unwrap()
}

#[tokio::test]
async fn what_is_registered_is_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = opened(&path).unwrap();
    for number in 1..=3 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    // A retry reached another datanode. The newest line has both places.
    let both = registry.record(entry(2, "b:1")).await.unwrap();
    assert_eq!(both.places.len(), 2);
    registry.record(entry(2, "b:1")).await.unwrap();
    assert!(opened(&path).unwrap_err().to_string().contains("in use"));
    registry.close().await.unwrap();
    assert!(matches!(registry.record(entry(4, "a:4")).await, Err(RegistryError::Closed)));
    let registry = opened(&path).unwrap();
    assert_eq!(registry.messages(), 3);
    assert_eq!(places(&registry, 2), "a:2,b:1");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4, "nothing is written twice");
    assert_eq!(registry.lookup(Id::from_parts(9, 7)), Ok(None));
}

#[tokio::test]
async fn the_names_of_datanodes_outlive_all_lines_of_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = opened(&path).unwrap();
    registry.remember(&[node("b")]).unwrap();
    registry.record(entry(1, "a:1")).await.unwrap();
    registry.close().await.unwrap();
    assert!(matches!(registry.remember(&[node("c")]), Err(RegistryError::Closed)));
    let registry = opened(&path).unwrap();
    assert_eq!(registry.names(), BTreeSet::from([node("a"), node("b")]));
    registry.close().await.unwrap();
    // The machine has ended, and no line was on disk.
    std::fs::remove_file(&path).unwrap();
    let registry = opened(&path).unwrap();
    assert_eq!(registry.names(), BTreeSet::from([node("b")]));
    registry.names().iter().for_each(|name| registry.expect(name));
    assert_eq!(registry.holdings(Holdings::unasked), Some(vec![node("b")]));
}

#[tokio::test]
async fn a_lost_copy_is_left_out_of_the_next_line_and_stays_out_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = opened(&path).unwrap();
    registry.record(entry(1, "a:1")).await.unwrap();
    registry.record(entry(2, "a:2")).await.unwrap();
    let lost: Place = "a:1".parse().unwrap();
    registry.mark_lost(&lost);
    let moved = Registration { gone: vec![lost.clone()], ..entry(1, "b:1") };
    registry.record(moved.clone()).await.unwrap();
    registry.record(moved).await.unwrap();
    let alone = Registration { gone: vec!["a:2".parse().unwrap()], places: Vec::new(), ..entry(2, "b:1") };
    registry.record(alone).await.unwrap();
    assert_eq!(places(&registry, 2), "a:2", "a message keeps its last place");
    registry.close().await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    let registry = opened(&path).unwrap();
    assert_eq!(places(&registry, 1), "b:1");
    registry.holdings(|holdings| {
        assert_eq!((holdings.records(&node("a")), holdings.lost(&node("a"))), (1, 0));
        assert!(!holdings.contains(&node("a"), 1) && holdings.highest(&node("a")) == 2);
    });
}

#[tokio::test]
async fn a_cursor_meets_each_message_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    for number in 1..=1_200 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    for number in [3, 700] {
        registry.record(entry(number, &format!("b:{number}"))).await.unwrap();
    }
    let (mut from, mut met, mut wanted) = (Some(0), Vec::new(), Vec::new());
    while let Some(start) = from {
        let page = registry.page(start, PAGE_LINES, |_, key| {
            met.push(key.id);
            key.places.len() == 2
        });
        let RegistryPage { entries, next } = page.unwrap();
        wanted.extend(entries.into_iter().map(|entry| entry.id));
        from = next;
    }
    met.sort_unstable();
    assert_eq!(met, (1..=1_200).map(|number| Id::from_parts(number, 7)).collect::<Vec<_>>());
    assert_eq!(wanted, [3, 700].map(|number| Id::from_parts(number, 7)));
}

/// A file without room, which cannot be read either.
#[derive(Debug)]
struct BadFile;

impl DiskFile for BadFile {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::Error::other("the disk cannot be read"))
    }

    fn try_lock(&self) -> Result<(), std::fs::TryLockError> {
        Ok(())
    }

    fn forget_cached(&self, _: u64, _: u64) {}
}

impl Storage for BadFile {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        Ok((0, true))
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn datanodes_whose_records_had_no_room_are_named_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    let full = JournalFile::with_storage("full", Box::new(BadFile));
    let file = registry.lock().file.replace(full);
    assert!(matches!(registry.record(entry(1, "a:1")).await, Err(RegistryError::NoSpace(_))));
    assert!(registry.take_behind().is_empty(), "there is no room yet");
    registry.lock().file = file;
    registry.record(entry(1, "b:1")).await.unwrap();
    assert_eq!(registry.take_behind(), BTreeSet::from([node("a")]));
    assert!(registry.take_behind().is_empty());
}

#[tokio::test]
async fn a_line_that_the_disk_does_not_give_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = opened(&path).unwrap();
    registry.record(entry(1, "a:1")).await.unwrap();
    registry.lock().reader = Arc::new(BadFile);
    let compared = registry.reconcile(
        &node("a"),
        1,
        &[holding(1, 1)],
        RecordComparison::ByNumber,
        &mut RoaringTreemap::new(),
    );
    assert!(matches!(compared, Err(RegistryError::Fatal(_))), "{compared:?}");
    assert!(matches!(registry.record(entry(1, "b:1")).await, Err(RegistryError::Fatal(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn one_id_for_two_messages_is_not_mixed_up() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    registry.record(entry(1, "a:1")).await.unwrap();
    let other = Registration { message_crc32c: MessageCrc::of("other"), ..entry(1, "b:1") };
    registry.record(other).await.unwrap();
    assert_eq!(places(&registry, 1), "a:1");
}

#[tokio::test]
async fn what_a_datanode_holds_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    let a = node("a");
    assert_eq!(first_wanted(&registry, &a), 1);
    registry.record(entry(1, "a:1")).await.unwrap();
    registry.record(entry(3, "a:3")).await.unwrap();
    // Number 2 was confirmed and never registered. Message 4 was also stored at b.
    registry.record(entry(4, "b:1")).await.unwrap();
    let page = [1, 2, 3, 4].map(|number| holding(number, number));
    let doubts = registry.doubts();
    assert_eq!(reconcile(&registry, &a, &page), Reconciled::Added(2));
    assert!(doubts.has_changed().unwrap(), "message 2 may have too few copies");
    assert_eq!(places(&registry, 2), "a:2");
    assert_eq!(places(&registry, 4), "b:1,a:4");
    assert_eq!(reconcile(&registry, &a, &page), Reconciled::Added(0));
}

#[tokio::test]
async fn the_beginning_of_a_message_is_made_up_for_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = opened(&path).unwrap();
    let a = node("a");
    // An older headnode registered message 3 without its beginning, and an older datanode does not send that of message
    // 2.
    registry.record(Registration { beginning: None, ..entry(3, "b:1") }).await.unwrap();
    let page = [holding(1, 1), Holding { beginning: None, ..holding(2, 2) }, holding(3, 3)];
    assert_eq!(reconcile(&registry, &a, &page), Reconciled::Added(3));
    registry.close().await.unwrap();
    let registry = opened(&path).unwrap();
    let beginnings =
        [1, 2, 3].map(|number| registry.lookup(Id::from_parts(number, 7)).unwrap().unwrap().beginning);
    assert_eq!(beginnings, [Some("1".to_owned()), None, Some("3".to_owned())]);
    assert!(std::fs::read_to_string(&path).unwrap().contains(" \"1\" crc32c="));
}

#[tokio::test]
async fn only_what_may_be_missing_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    for number in 1..=500 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    registry.record(entry(600, "a:600")).await.unwrap();
    assert_eq!(first_wanted(&registry, &node("a")), 500 - RECHECKED);
    assert_eq!(first_wanted(&registry, &node("b")), 1);
}

#[tokio::test]
async fn a_datanode_with_another_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    let a = node("a");
    for number in 1..=5 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    assert_eq!(reconcile(&registry, &a, &[]), Reconciled::Different, "it lost everything");
    let mut held = RoaringTreemap::new();
    let page = [holding(1, 1), holding(11, 2), holding(12, 6)];
    let compared = registry.reconcile(&a, 1, &page, RecordComparison::ById, &mut held).unwrap();
    assert_eq!(compared, Reconciled::Added(2), "what it has instead is registered");
    assert_eq!(held.iter().collect::<Vec<_>>(), [1], "record 2 was another one");
}

#[tokio::test]
async fn the_last_messages_are_listed_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    let total = 2000;
    for number in 1..=total {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    registry.record(entry(5, "b:1")).await.unwrap();
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let (entries, older) = registry.list(300, before).unwrap();
        listed.extend(entries.iter().map(|entry| entry.id.timestamp_ms()));
        before = older;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<_> =
        std::iter::once(5).chain((1..=total).rev().filter(|number| *number != 5)).collect();
    assert_eq!(listed, expected);
    assert_eq!(registry.list(1, None).unwrap().0[0].places.len(), 2);
}

#[tokio::test]
async fn a_cursor_ends_at_a_last_line_whose_end_a_bad_disk_has_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = opened(&path).unwrap();
    for number in 1..=2 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"?", file.metadata().unwrap().len() - 1).unwrap();
    let (mut met, mut from, mut pages) = (0, Some(0), 0);
    while let Some(start) = from.filter(|_| pages < 3) {
        from = registry
            .page(start, PAGE_LINES, |_, _| {
                met += 1;
                false
            })
            .unwrap()
            .next;
        pages += 1;
    }
    assert_eq!((met, from), (1, None));
}

#[tokio::test]
async fn a_page_of_the_list_fits_a_frame() {
    for (message, places) in [("\u{1}".repeat(61), 16), ("\"".repeat(61), 1), ("x".to_owned(), 300)] {
        let folder = tempfile::tempdir().unwrap();
        let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
        let places: Vec<_> = (0..places).map(|place| format!("{}:{place}", "n".repeat(63))).collect();
        for number in 1..=LIST_PAGE as u64 {
            let places = places.iter().map(|place| place.parse().unwrap()).collect();
            let beginning = Some(protocol::store::types::beginning(&message));
            let client = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
            registry
                .record(Registration { places, beginning, client, ..entry(number, "a:1") })
                .await
                .unwrap();
        }
        let (mut before, mut listed) = (None, 0);
        loop {
            let (entries, older) = registry.list(LIST_PAGE, before).unwrap();
            let count = entries.len();
            let mut line = Vec::new();
            protocol::store::json::encode(&HeadnodeReply::Messages { entries, before: older }, &mut line);
            assert!(count > 0 && line.len() <= MAX_FRAME_BYTES + 1, "{count} entries, {} bytes", line.len());
            listed += count;
            before = older;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(listed, LIST_PAGE);
    }
}

#[tokio::test]
async fn lost_records_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let registry = opened(&folder.path().join("registro_server.txt")).unwrap();
    let a = node("a");
    for number in 1..=5 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    let bytes = registry.bytes().unwrap();
    registry.record(entry(9, "a:2")).await.unwrap();
    let lost = registry.holdings(|holdings| holdings.registered_in(&a, &[(2, 3), (7, 99)]));
    let ids = registry.ids_at(&a, &lost, bytes, 9).await.unwrap();
    assert_eq!(ids, [2, 3].map(|number| Id::from_parts(number, 7)), "in this part of the file");
}

#[tokio::test]
async fn a_damaged_line_is_no_miss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = opened(&path).unwrap();
    registry.record(entry(1, "a:1")).await.unwrap();
    let damaged = std::fs::read_to_string(&path).unwrap().replace("a:1", "b:1");
    std::fs::write(&path, damaged).unwrap();
    assert_eq!(registry.lookup(Id::from_parts(1, 7)), Err(UnreadableLine));
    registry.record(entry(1, "a:1")).await.unwrap();
    assert_eq!(places(&registry, 1), "a:1", "a new line makes up for it");
}
