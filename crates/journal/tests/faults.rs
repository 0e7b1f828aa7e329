//! A disk that fills up or fails, and many writers at the same time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use journal::{AppendError, Batch, Checksum, Executor, Journal, JournalFile, Storage, WriteFailure};
use proptest::prelude::*;

/// A disk in memory whose operations fail on demand.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    /// The number of bytes of `bytes` that a crash would leave.
    synced: usize,
    capacity: Option<usize>,
    write_error: Option<i32>,
    sync_error: Option<i32>,
    truncate_error: Option<i32>,
    /// So many of the next writes are interrupted by a signal.
    interruptions: usize,
    sync_takes: Duration,
    syncs: usize,
    faults: usize,
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EINTR: i32 = 4;

impl Disk {
    fn fault(&mut self, code: Option<i32>) -> io::Result<()> {
        let Some(code) = code else { return Ok(()) };
        self.faults += 1;
        Err(io::Error::from_raw_os_error(code))
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Disk>>);

impl Shared {
    fn with<T>(&self, change: impl FnOnce(&mut Disk) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn file(&self) -> JournalFile {
        JournalFile::with_storage("data.txt", Box::new(self.clone()))
    }

    fn text(&self) -> String {
        self.with(|disk| String::from_utf8(disk.bytes.clone()).unwrap())
    }
}

impl Storage for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|disk| {
            disk.fault(disk.write_error)?;
            if disk.interruptions > 0 {
                disk.interruptions -= 1;
                disk.fault(Some(EINTR))?;
            }
            // A nearly full disk writes only a part of the bytes.
            let room = disk.capacity.map_or(usize::MAX, |capacity| capacity - disk.bytes.len()).min(7);
            if room == 0 {
                disk.fault(Some(ENOSPC))?;
            }
            let written = bytes.len().min(room);
            disk.bytes.extend_from_slice(&bytes[..written]);
            Ok(written)
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|disk| {
            disk.syncs += 1;
            std::thread::sleep(disk.sync_takes);
            disk.fault(disk.sync_error)?;
            disk.synced = disk.bytes.len();
            Ok(())
        })
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        Ok((self.with(|disk| disk.bytes.len() as u64), true))
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.with(|disk| {
            disk.fault(disk.truncate_error)?;
            disk.bytes.truncate(length as usize);
            Ok(())
        })
    }
}

fn batch(text: &str) -> Batch {
    let mut batch = Batch::new(Checksum::None);
    batch.push(|record| {
        record.word(text);
    });
    batch
}

fn faults_happened(disk: &Shared, count: usize) {
    assert_eq!(disk.with(|disk| disk.faults), count, "the fault did not happen");
}

#[test]
fn a_full_disk_refuses_the_batch_leaves_no_part_of_it_and_goes_on_when_there_is_room() {
    let disk = Shared::default();
    let mut file = disk.file();
    file.commit(b"first\n").unwrap();
    disk.with(|disk| disk.capacity = Some(10));
    let error = file.commit(b"second\nthird\n").unwrap_err();
    assert!(matches!(error, WriteFailure::NoSpace(_)), "{error}");
    faults_happened(&disk, 1);
    assert_eq!(disk.text(), "first\n");
    disk.with(|disk| disk.capacity = None);
    assert_eq!(file.commit(b"fourth\n").unwrap(), 6);
    assert_eq!(disk.text(), "first\nfourth\n");
}

#[test]
fn a_write_that_a_signal_interrupts_goes_on() {
    let disk = Shared::default();
    disk.with(|disk| disk.interruptions = 2);
    disk.file().commit(b"Hola, servidor\n").unwrap();
    assert_eq!(disk.text(), "Hola, servidor\n");
    faults_happened(&disk, 2);
}

#[test]
fn how_long_a_sync_took_is_told() {
    let (disk, takes) = (Shared::default(), Duration::from_millis(3));
    let mut file = disk.file();
    assert_eq!(file.last_sync(), Duration::ZERO);
    disk.with(|disk| disk.sync_takes = takes);
    file.commit(b"Hola\n").unwrap();
    assert!(file.last_sync() >= takes, "{:?}", file.last_sync());
}

#[test]
fn a_file_is_cut_on_disk_or_not_used_any_more() {
    let disk = Shared::default();
    let mut file = disk.file();
    file.commit(b"one\ntwo\n").unwrap();
    file.truncate(4).unwrap();
    assert_eq!((disk.text().as_str(), disk.with(|disk| disk.synced)), ("one\n", 4));
    assert_eq!(file.commit(b"three\n").unwrap(), 4);
    disk.with(|disk| disk.truncate_error = Some(EIO));
    assert!(matches!(file.truncate(4), Err(WriteFailure::Fatal { .. })));
    faults_happened(&disk, 1);
    assert!(file.commit(b"four\n").is_err());
}

#[test]
fn a_failed_sync_is_final_and_never_tried_again() {
    let disk = Shared::default();
    let mut file = disk.file();
    disk.with(|disk| disk.sync_error = Some(EIO));
    assert!(matches!(file.commit(b"a\n"), Err(WriteFailure::Fatal { .. })));
    faults_happened(&disk, 1);
    disk.with(|disk| disk.sync_error = None);
    assert!(matches!(file.commit(b"b\n"), Err(WriteFailure::Fatal { .. })));
    assert_eq!(disk.with(|disk| disk.syncs), 1, "no second sync");
    assert_eq!(disk.text(), "a\n", "nothing more is written");
}

#[test]
fn a_write_error_that_is_not_about_room_is_final() {
    let disk = Shared::default();
    let mut file = disk.file();
    disk.with(|disk| disk.write_error = Some(EIO));
    let error = file.commit(b"a\n").unwrap_err();
    assert!(error.to_string().contains("cannot write to data.txt"), "{error}");
    faults_happened(&disk, 1);
}

#[test]
fn a_partial_write_that_cannot_be_taken_back_is_final() {
    let disk = Shared::default();
    let mut file = disk.file();
    disk.with(|disk| (disk.capacity, disk.truncate_error) = (Some(3), Some(EIO)));
    assert!(matches!(file.commit(b"second\n"), Err(WriteFailure::Fatal { .. })));
    faults_happened(&disk, 2);
}

/// Group commit must behave the same with each executor.
const EXECUTORS: [Executor; 2] = [Executor::Thread, Executor::Inline];

#[tokio::test]
async fn many_writers_share_syncs_and_each_learns_its_offset() {
    for executor in EXECUTORS {
        let disk = Shared::default();
        let journal = Journal::start_on(executor, disk.file());
        let writers: Vec<_> = (0..500)
            .map(|i| {
                let journal = journal.clone();
                tokio::spawn(async move { (i, journal.append(batch(&format!("record-{i}"))).await.unwrap()) })
            })
            .collect();
        let mut places = Vec::new();
        for writer in writers {
            places.push(writer.await.unwrap());
        }
        let text = disk.text();
        for (i, offset) in places {
            assert!(text[offset as usize..].starts_with(&format!("record-{i}\n")), "record {i} at {offset}");
        }
        assert_eq!(text.lines().count(), 500);
        let syncs = disk.with(|disk| disk.syncs);
        assert!(syncs < 50, "500 writers that were ready together took {syncs} syncs");
    }
}

#[tokio::test]
async fn a_failed_sync_reaches_every_writer_and_the_program() {
    for executor in EXECUTORS {
        let disk = Shared::default();
        let journal = Journal::start_on(executor, disk.file());
        journal.append(batch("before")).await.unwrap();
        disk.with(|disk| disk.sync_error = Some(EIO));
        let (one, two) = (batch("one"), batch("two"));
        let (one, two) = tokio::join!(journal.append(one), journal.append(two));
        assert!(
            matches!((&one, &two), (Err(AppendError::Fatal(_)), Err(AppendError::Fatal(_)))),
            "{one:?} {two:?}"
        );
        faults_happened(&disk, 1);
        assert!(journal.failure().wait().await.to_string().contains("cannot sync data.txt"));
        let late = journal.append(batch("late")).await;
        assert!(matches!(late, Err(AppendError::Fatal(_))), "{late:?}");
        assert!(!disk.text().contains("late"));
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_journal_goes_on() {
    for executor in EXECUTORS {
        let disk = Shared::default();
        let journal = Journal::start_on(executor, disk.file());
        disk.with(|disk| disk.capacity = Some(4));
        let refused = journal.append(batch("too-long")).await;
        assert!(matches!(refused, Err(AppendError::NoSpace(_))), "{refused:?}");
        assert_eq!(journal.append(batch("abc")).await.unwrap(), 0);
        faults_happened(&disk, 1);
    }
}

#[tokio::test]
async fn closing_commits_what_waits_and_refuses_what_comes() {
    for executor in EXECUTORS {
        let disk = Shared::default();
        let journal = Journal::start_on(executor, disk.file());
        let waiting = tokio::spawn({
            let journal = journal.clone();
            async move { journal.append(batch("waiting")).await }
        });
        tokio::task::yield_now().await;
        journal.close().await;
        waiting.await.unwrap().unwrap();
        assert_eq!(disk.text(), "waiting\n");
        assert!(matches!(journal.append(batch("late")).await, Err(AppendError::Closed)));
    }
}

proptest! {
    /// Checks that an acknowledged record is on disk and that no part of a refused one stays in the file, whatever the
    /// disk does.
    #[test]
    fn acknowledged_means_synced(steps in prop::collection::vec((0usize..30, 0usize..60, 0u8..12), 1..40)) {
        let disk = Shared::default();
        let mut file = disk.file();
        let mut acknowledged = String::new();
        for (i, (size, room, fault)) in steps.into_iter().enumerate() {
            disk.with(|disk| {
                disk.capacity = (fault < 4).then(|| disk.bytes.len() + room);
                disk.sync_error = (fault == 11).then_some(EIO);
            });
            let line = format!("{i} {}\n", "x".repeat(size));
            match file.commit(line.as_bytes()) {
                Ok(_) => acknowledged.push_str(&line),
                Err(WriteFailure::NoSpace(_)) => {}
                Err(WriteFailure::Fatal { .. }) => break,
            }
            prop_assert_eq!(&disk.text(), &acknowledged);
            prop_assert_eq!(disk.with(|disk| disk.synced), acknowledged.len());
        }
        let synced = disk.with(|disk| disk.bytes[..disk.synced].to_vec());
        prop_assert_eq!(String::from_utf8(synced).unwrap(), acknowledged);
    }
}
