use super::*;

use protocol::types::MessageCrc;

const TIME: &str = "2026-11-21T09:30:00.123Z";

fn entry(number: u64, place: &str) -> Entry {
    Entry {
        time: TIME.to_owned(),
        id: Id::from_parts(number, 7),
        client: "127.0.0.1:40522".parse().unwrap(),
        places: vec![place.parse().unwrap()],
        message_crc32c: MessageCrc::of(&number.to_string()),
    }
}

fn holding(number: u64, seq: u64) -> Holding {
    let Entry { time, id, client, message_crc32c, .. } = entry(number, "x:1");
    Holding(seq, id, time, client, message_crc32c)
}

fn places(registry: &Registry, number: u64) -> String {
    let entry = registry.lookup(Id::from_parts(number, 7)).unwrap();
    entry.places.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

#[tokio::test]
async fn what_is_registered_is_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registro_server.txt");
    let registry = Registry::open(&path).unwrap();
    for number in 1..=3 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    // A retry landed elsewhere: the newest line tells both places.
    let both = registry.record(entry(2, "b:1")).await.unwrap();
    assert_eq!(both.places.len(), 2);
    registry.record(entry(2, "b:1")).await.unwrap();
    assert!(Registry::open(&path).unwrap_err().to_string().contains("in use"));
    registry.close().unwrap();
    assert!(matches!(registry.record(entry(4, "a:4")).await, Err(RegistryError::Closed)));
    let registry = Registry::open(&path).unwrap();
    assert_eq!(registry.messages(), 3);
    assert_eq!(places(&registry, 2), "a:2,b:1");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4, "nothing is written twice");
    assert!(registry.lookup(Id::from_parts(9, 7)).is_none());
}

#[tokio::test]
async fn one_id_for_two_messages_is_not_mixed_up() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("registro_server.txt")).unwrap();
    registry.record(entry(1, "a:1")).await.unwrap();
    let other = Entry { message_crc32c: MessageCrc::of("other"), ..entry(1, "b:1") };
    registry.record(other).await.unwrap();
    assert_eq!(places(&registry, 1), "a:1");
}

#[tokio::test]
async fn what_a_datanode_holds_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("registro_server.txt")).unwrap();
    let a = node("a");
    assert_eq!(registry.first_wanted(&a), 1);
    registry.record(entry(1, "a:1")).await.unwrap();
    registry.record(entry(3, "a:3")).await.unwrap();
    // Number 2 was confirmed and never registered; message 4 was also stored at b.
    registry.record(entry(4, "b:1")).await.unwrap();
    let page = [1, 2, 3, 4].map(|number| holding(number, number));
    assert_eq!(registry.reconcile(&a, 1, &page).unwrap(), Reconciled::Added(2));
    assert_eq!(places(&registry, 2), "a:2");
    assert_eq!(places(&registry, 4), "b:1,a:4");
    assert_eq!(registry.reconcile(&a, 1, &page).unwrap(), Reconciled::Added(0));
}

#[tokio::test]
async fn only_what_may_be_missing_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("registro_server.txt")).unwrap();
    for number in 1..=500 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    registry.record(entry(600, "a:600")).await.unwrap();
    assert_eq!(registry.first_wanted(&node("a")), 500 - RECHECKED);
    assert_eq!(registry.first_wanted(&node("b")), 1);
}

#[tokio::test]
async fn a_datanode_with_another_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("registro_server.txt")).unwrap();
    let a = node("a");
    for number in 1..=5 {
        registry.record(entry(number, &format!("a:{number}"))).await.unwrap();
    }
    assert_eq!(registry.reconcile(&a, 1, &[]).unwrap(), Reconciled::Different, "it lost everything");
    assert_eq!(registry.first_wanted(&a), 1);
    let anew = [holding(11, 1), holding(12, 2)];
    assert_eq!(registry.reconcile(&a, 1, &anew).unwrap(), Reconciled::Added(2), "and is taken as it is");
}

#[tokio::test]
async fn the_last_messages_are_listed_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("registro_server.txt")).unwrap();
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

#[test]
fn the_contiguous_part_is_found() {
    for (held, expected) in
        [(vec![], 0), (vec![2], 0), (vec![1], 1), (vec![1, 2, 3, 7], 3), ((1..=1000).collect(), 1000)]
    {
        assert_eq!(contiguous(&held.iter().copied().collect()), expected, "{held:?}");
    }
}
