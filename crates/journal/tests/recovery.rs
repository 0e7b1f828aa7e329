//! Crashes and damage: every cut and every flipped bit of a journal, and two owners of one file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use journal::{Batch, Checksum, Damage, JournalFile, OpenError, Recovery};

/// Messages of many lengths, some with characters that are escaped.
fn messages(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("mensaje {i} \n\t\"é\" {}", "x".repeat(i % 17))).collect()
}

fn write(path: &Path, checksum: Checksum, messages: &[String]) -> Vec<u8> {
    let mut file = open(path, checksum).0;
    for message in messages {
        let mut batch = Batch::new(checksum);
        batch.push(|record| {
            record.text(message);
        });
        file.commit(batch.as_bytes()).unwrap();
    }
    fs::read(path).unwrap()
}

/// Opens a journal. Returns the file, what was found, and the texts of the records that were served.
fn open(path: &Path, checksum: Checksum) -> (JournalFile, Recovery, Vec<String>) {
    let mut served = Vec::new();
    let (file, recovery) = match checksum {
        Checksum::None => JournalFile::open(path).unwrap(),
        Checksum::Crc32c => JournalFile::open_verified(path, |_, record| {
            let record = std::str::from_utf8(record).expect("a served record is UTF-8");
            served.extend(journal::record::fields(record).expect("a served record has fields"));
        })
        .unwrap(),
    };
    (file, recovery, served)
}

/// Returns the lengths of the file at which a record ends.
fn line_ends(bytes: &[u8]) -> Vec<usize> {
    std::iter::once(0)
        .chain(bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1))
        .collect()
}

#[test]
fn cut_at_every_byte_keeps_every_whole_record() {
    for checksum in [Checksum::None, Checksum::Crc32c] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let messages = messages(15);
        let bytes = write(&path, checksum, &messages);
        let ends = line_ends(&bytes);
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let (mut file, recovery, served) = open(&path, checksum);
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            assert_eq!(recovery.torn_bytes, (cut - ends[whole]) as u64, "cut at {cut}");
            assert_eq!(recovery.damaged, [], "cut at {cut}");
            if checksum == Checksum::Crc32c {
                assert_eq!(served, messages[..whole], "cut at {cut}");
                assert_eq!(recovery.records, whole as u64);
            }
            file.commit(b"next\n").unwrap();
            let expected = [&bytes[..ends[whole]], b"next\n"].concat();
            assert_eq!(fs::read(&path).unwrap(), expected, "cut at {cut}");
        }
    }
}

#[test]
fn what_is_cut_off_is_kept_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let tails = journal::torn_tails_of(&path);
    write(&path, Checksum::Crc32c, &messages(2));
    assert!(!tails.exists(), "nothing was torn");
    let mut expected = Vec::new();
    for torn in ["half a rec", "and ano\0\0\0"] {
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
        let (_, recovery, served) = open(&path, Checksum::Crc32c);
        assert_eq!((recovery.torn_bytes, served.len()), (torn.len() as u64, 2));
        expected.extend_from_slice(torn.as_bytes());
        expected.push(b'\n');
        assert_eq!(fs::read(&tails).unwrap(), expected);
    }
}

#[test]
fn a_long_torn_tail_is_cut_and_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.txt");
    // The file is read a block of 64 KiB at a time.
    for blocks in [0, 1, 3] {
        let tail: Vec<u8> = (0..blocks * 64 * 1024 + 10).map(|i| b'a' + (i % 26) as u8).collect();
        fs::write(&path, [&b"one\ntwo\n"[..], &tail].concat()).unwrap();
        let (_, recovery, _) = open(&path, Checksum::None);
        assert_eq!((recovery.whole_bytes, recovery.torn_bytes), (8, tail.len() as u64));
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        let tails = journal::torn_tails_of(&path);
        assert_eq!(fs::read(&tails).unwrap(), [&tail[..], b"\n"].concat());
        fs::remove_file(tails).unwrap();
    }
}

#[test]
fn no_flipped_bit_is_served_and_every_other_record_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let messages = messages(300);
    let bytes = write(&path, Checksum::Crc32c, &messages);
    let ends = line_ends(&bytes);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let mut served = Vec::new();
        let found = journal::scan::scan(flipped.as_slice(), Checksum::Crc32c, |offset, record| {
            let start = offset as usize;
            assert_eq!(record, &bytes[start..start + record.len()], "bit of byte {at}: damage was served");
            served.push(start);
        })
        .unwrap();
        // The record that holds the byte is lost. If the byte is its line end, the next record is lost as well.
        let first = ends.iter().rposition(|end| *end <= at).unwrap();
        let lost = if bytes[at] == b'\n' { 2 } else { 1 };
        let mut expected = ends[..messages.len()].to_vec();
        expected.drain(first..(first + lost).min(messages.len()));
        assert_eq!(served, expected, "bit of byte {at}");
        let told = found.damaged.iter().map(|damage| damage.bytes).sum::<u64>() + found.torn_bytes;
        let end = ends[(first + lost).min(ends.len() - 1)];
        assert_eq!(told, (end - ends[first]) as u64, "bit of byte {at}: {found:?}");
    }
}

#[test]
fn damage_is_told_kept_and_appended_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.txt");
    let bytes = write(&path, Checksum::Crc32c, &messages(3));
    let ends = line_ends(&bytes);
    let mut damaged = bytes.clone();
    damaged[ends[1] + 2] ^= 0x10;
    fs::write(&path, &damaged).unwrap();
    let (mut file, recovery, served) = open(&path, Checksum::Crc32c);
    assert_eq!(recovery.damaged, [Damage { offset: ends[1] as u64, bytes: (ends[2] - ends[1]) as u64 }]);
    assert_eq!(served.len(), 2);
    assert_eq!(file.commit(b"x\n").unwrap(), bytes.len() as u64);
    assert!(fs::read(&path).unwrap().starts_with(&damaged), "the evidence stays");
}

#[test]
fn a_tail_of_zeroes_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    for checksum in [Checksum::None, Checksum::Crc32c] {
        let path = folder.path().join(format!("{checksum:?}"));
        let bytes = write(&path, checksum, &messages(5));
        fs::write(&path, [bytes.as_slice(), &[0; 200_000]].concat()).unwrap();
        let (_, recovery, _) = open(&path, checksum);
        assert_eq!(recovery.torn_bytes, 200_000);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_file_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("log.txt");
    let owner = JournalFile::open(&path).unwrap();
    let error = JournalFile::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("log.txt is in use by another process"), "{error}");
    drop(owner);
    JournalFile::open(&path).expect("free again");
}

#[test]
fn what_cannot_be_opened_is_named_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.txt");
    fs::create_dir(&path).unwrap();
    let error = JournalFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("log.txt") && error.contains("--data-dir"), "{error}");
}

#[test]
fn a_removed_file_is_noticed_before_anything_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.txt");
    let mut file = JournalFile::open(&path).unwrap().0;
    file.commit(b"a\n").unwrap();
    fs::remove_file(&path).unwrap();
    let error = file.commit(b"b\n").unwrap_err();
    assert!(error.to_string().contains("removed or replaced"), "{error}");
    assert!(file.commit(b"c\n").is_err(), "it stays stopped");
}

#[test]
fn a_file_emptied_by_its_reader_goes_on_without_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.txt");
    let mut file = JournalFile::open(&path).unwrap().0;
    file.commit(b"a\n").unwrap();
    fs::write(&path, b"").unwrap();
    file.commit(b"b\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"b\n");
}
