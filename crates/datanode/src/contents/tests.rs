use journal::Batch;
use records::push_data;

use super::*;

const SECTOR: usize = 512;
const PAGE: usize = 700;

fn record(seq: u64) -> StoredRecord {
    StoredRecord {
        seq,
        time: "2026-11-21T09:30:00.123Z".to_owned(),
        id: Id::from_parts(seq, 7),
        client: "127.0.0.1:40522".parse().unwrap(),
        message: format!("mensaje {seq}"),
    }
}

fn lines(seqs: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut batch = Batch::new(Checksum::Crc32c);
    for seq in seqs {
        push_data(&mut batch, &record(seq));
    }
    batch.as_bytes().to_vec()
}

fn opened(folder: &Path, bytes: &[u8]) -> DataContents {
    let path = folder.join("data.txt");
    std::fs::write(&path, bytes).unwrap();
    open(&Disk::default(), &path).unwrap().1
}

/// Returns all listed numbers, page by page.
fn listed(contents: &DataContents, first: u64) -> Vec<u64> {
    let (mut numbers, mut from) = (Vec::new(), first);
    loop {
        let InventoryPage { records, more } = contents.inventory(from, PAGE).unwrap();
        numbers.extend(records.iter().map(|record| record.seq));
        if !more {
            return numbers;
        }
        from = numbers.last().unwrap() + 1;
    }
}

/// Checks what must be true of `contents` whatever happened to a file with the records 1 to `count`.
fn check(contents: &DataContents, count: u64) {
    let numbers = listed(contents, 1);
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
    let (gaps, more) = contents.gaps(1, usize::MAX);
    assert!(!more);
    for seq in 1..=count {
        let is_listed = numbers.binary_search(&seq).is_ok();
        let in_gap = gaps.iter().any(|(first, last)| (*first..=*last).contains(&seq));
        let read = matches!(contents.read(Id::from_parts(seq, 7)), Ok(Some(read)) if read == record(seq));
        assert_eq!((is_listed, in_gap), (read, !read), "record {seq}");
    }
    assert!(contents.next_seq() > count, "number {} would be given again", contents.next_seq());
    for first in [2, count / 2, count, count + 1] {
        let expected: Vec<_> = numbers.iter().copied().filter(|seq| *seq >= first).collect();
        assert_eq!(listed(contents, first), expected, "from {first}");
    }
}

#[test]
fn a_short_line_is_not_shorter_than_stated() {
    let shortest = StoredRecord { client: "1.1.1.1:1".parse().unwrap(), message: String::new(), ..record(1) };
    let mut batch = Batch::new(Checksum::Crc32c);
    push_data(&mut batch, &shortest);
    assert!(batch.as_bytes().len() as u64 >= MIN_RECORD_BYTES);
}

#[test]
fn zeroed_sectors_leave_gaps_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let count = 100;
    let bytes = lines(1..=count);
    for start in (0..bytes.len()).step_by(SECTOR) {
        for sectors in [1, 3] {
            let mut zeroed = bytes.clone();
            let end = (start + sectors * SECTOR).min(bytes.len());
            zeroed[start..end].fill(0);
            check(&opened(folder.path(), &zeroed), count);
        }
    }
    for lost in [1, 10, 100, 1000] {
        let mut zeroed = bytes.clone();
        zeroed[bytes.len() - lost..].fill(0);
        check(&opened(folder.path(), &zeroed), count);
    }
}

#[test]
fn swapped_and_stale_sectors_cost_no_more_than_what_they_cut() {
    let folder = tempfile::tempdir().unwrap();
    let count = 100;
    let bytes = lines(1..=count);
    let sectors = bytes.len() / SECTOR;
    for (one, other) in (0..sectors).flat_map(|one| (0..sectors).map(move |other| (one, other))) {
        let (from, to) = (one * SECTOR, other * SECTOR);
        let mut stale = bytes.clone();
        stale.copy_within(from..from + SECTOR, to);
        check(&opened(folder.path(), &stale), count);
        let mut swapped = stale;
        swapped[from..from + SECTOR].copy_from_slice(&bytes[to..to + SECTOR]);
        let contents = opened(folder.path(), &swapped);
        check(&contents, count);
        // At most the records at the borders of the two sectors are lost.
        assert!(contents.records() >= count - 8, "{} records are left", contents.records());
    }
}

#[test]
fn pages_go_on_behind_displaced_records() {
    let folder = tempfile::tempdir().unwrap();
    // The file is long enough for several marks and pages, with late records in front and early ones behind.
    let count = 6000;
    assert!(count > 2 * PAGE as u64);
    let moved = [lines(4000..=4100), lines(1..4000), lines(4101..=count)].concat();
    let contents = opened(folder.path(), &moved);
    check(&contents, count);
    assert_eq!(contents.records(), count);
}

/// Checks all segments, and returns the numbers that are lost.
fn checked(contents: &mut DataContents) -> Vec<u64> {
    (0..).map_while(|segment| contents.check(segment).unwrap()).flat_map(|checked| checked.lost).collect()
}

#[test]
fn damage_is_found_while_the_file_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let count = 600;
    let bytes = lines(1..=count);
    let sectors = bytes.len() / SECTOR;
    for (sector, kind) in (0..sectors).step_by(4).flat_map(|sector| [(sector, 0), (sector, 1), (sector, 2)]) {
        let mut contents = opened(folder.path(), &bytes);
        assert_eq!(checked(&mut contents), [] as [u64; 0]);
        let (at, mut damaged) = (sector * SECTOR, bytes.clone());
        match kind {
            0 => damaged[at..at + SECTOR].fill(0),
            1 => damaged[at + 77] ^= 1,
            _ => {
                let other = (sector + 7) % sectors * SECTOR;
                damaged.copy_within(other..other + SECTOR, at);
                damaged[other..other + SECTOR].copy_from_slice(&bytes[at..at + SECTOR]);
            }
        }
        std::fs::write(&path, &damaged).unwrap();
        let lost = checked(&mut contents);
        assert!((1..=20).contains(&lost.len()), "sector {sector}, damage {kind}: {lost:?}");
        check(&contents, count);
        assert_eq!(contents.unreadable(), lost.len() as u64);
        assert_eq!(checked(&mut contents), [] as [u64; 0], "it is told once");
    }
}

#[test]
fn gaps_are_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut contents = opened(folder.path(), &lines(1..=3000));
    assert!(contents.marks.len() > 5, "{} segments", contents.marks.len());
    let zeroed = vec![0; 20 * SECTOR];
    std::fs::write(folder.path().join("data.txt"), [&zeroed[..], &lines(1..=3000)[zeroed.len()..]].concat())
        .unwrap();
    let lost = checked(&mut contents);
    assert_eq!(lost, (1..=lost.len() as u64).collect::<Vec<_>>());
    assert_eq!(contents.gaps(1, 9), (vec![(1, lost.len() as u64)], false));
    check(&contents, 3000);
}
