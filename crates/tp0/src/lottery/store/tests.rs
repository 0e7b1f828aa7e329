use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use journal::{Checksum, JournalFile, Records, Storage};
use tempfile::TempDir;

use super::files::ReadAt;
use super::ledger::{BatchRefusal, Ledger};
use super::record::JournalEntry;
use super::*;
use crate::action_log::ActionLevel;
use crate::action_log::tests::CapturedActions;
use crate::lottery::board::DrawStatus;

struct RunningStore {
    store: BetStore,
    log: CapturedActions,
    board: Arc<LotteryBoard>,
}

fn start_with(
    folder: &Path,
    files: LotteryFiles,
    contents: LotteryContents,
    agencies: usize,
) -> RunningStore {
    let (log, captured) = CapturedActions::start(ActionLevel::Info);
    let board = Arc::new(LotteryBoard::new(agencies));
    let store = BetStore::start(folder, files, contents, agencies, log, board.clone());
    RunningStore { store, log: captured, board }
}

fn start(folder: &Path, agencies: usize) -> RunningStore {
    let (files, contents) = LotteryFiles::open(folder).unwrap();
    start_with(folder, files, contents, agencies)
}

impl RunningStore {
    async fn send(&self, agency: &str, lines: &str, claims: &Arc<Claims>) -> Option<JobOutcome> {
        let batch = NewBatch {
            agency: agency.into(),
            lines: lines.as_bytes().to_vec(),
            bets: lines.lines().count() as u32,
            claims: claims.clone(),
        };
        self.store.enqueue(batch).await.ok()?.outcome().await.ok()
    }

    /// All winners, once the draw was held.
    async fn winners(&self, agency: &str) -> String {
        let mut drawn = self.store.drawn.clone();
        drawn.wait_for(Option::is_some).await.unwrap();
        let (mut winners, mut out, mut more) = (self.store.winners(agency).unwrap(), Vec::new(), true);
        while more {
            (winners, out, more) = winners.next(out).await.unwrap();
        }
        String::from_utf8(out).unwrap()
    }
}

fn lines(agency: &str, batch: usize, bets: usize) -> String {
    let line = |bet| {
        let number = if bet == 1 { 7574 } else { 1000 + batch };
        format!("{agency},Ana {batch},Núñez,{bet},2000-01-01,{number}\r\n")
    };
    (0..bets).map(line).collect()
}

fn content(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

#[tokio::test]
async fn a_whole_lottery_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 2);
    let claims = Arc::default();
    for agency in ["1", "2"] {
        assert!(matches!(
            running.send(agency, &lines(agency, 1, 3), &claims).await,
            Some(JobOutcome::Stored(_))
        ));
    }
    assert!(running.store.winners("1").is_none());
    assert!(matches!(running.store.finish("1".into()).await, Ok(JobOutcome::Finished)));
    assert!(matches!(running.store.finish("1".into()).await, Ok(JobOutcome::Repeated)));
    assert!(matches!(
        running.send("1", &lines("1", 2, 3), &claims).await,
        Some(JobOutcome::Refused(BatchRefusal::Done))
    ));
    running.store.close().await;
    assert!(running.send("1", "x", &claims).await.is_none());

    let running = start(folder.path(), 2);
    let again = Arc::default();
    assert!(matches!(running.send("1", &lines("1", 1, 3), &again).await, Some(JobOutcome::Repeated)));
    assert!(matches!(
        running.send("1", &lines("1", 2, 3), &again).await,
        Some(JobOutcome::Refused(BatchRefusal::Done))
    ));
    assert!(running.store.winners("1").is_none());
    assert!(matches!(running.store.finish("2".into()).await, Ok(JobOutcome::Finished)));
    assert_eq!(running.winners("1").await, "1,Ana 1,Núñez,1,2000-01-01,7574\n");
    assert_eq!(running.winners("2").await, "2,Ana 1,Núñez,1,2000-01-01,7574\n");
    assert_eq!(running.winners("3").await, "");
    assert!(matches!(
        running.send("3", &lines("3", 1, 3), &again).await,
        Some(JobOutcome::Refused(BatchRefusal::Drawn))
    ));
    assert_eq!(running.log.actions(), ["action: sorteo | result: success"]);
    running.store.close().await;

    fs::write(folder.path().join(WINNERS_FILE), "3,lost").unwrap();
    let running = start(folder.path(), 2);
    assert_eq!(running.winners("2").await, "2,Ana 1,Núñez,1,2000-01-01,7574\n");
    running.store.close().await;
    assert_eq!(running.log.actions(), [""; 0], "a draw is told once");
    assert_eq!(content(folder.path(), BETS_FILE), lines("1", 1, 3) + &lines("2", 1, 3));
}

#[tokio::test]
async fn the_board_counts_what_is_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let totals = |running: &RunningStore| {
        let metrics = &running.board.metrics;
        (metrics.bets_in_file.get(), metrics.agencies.known.get(), metrics.agencies.finished.get())
    };
    let bets = |running: &RunningStore| {
        let mut bets: Vec<_> = running.board.agencies().iter().map(|agency| agency.bets).collect();
        bets.sort_unstable();
        bets
    };
    let running = start(folder.path(), 3);
    for (agency, count) in [("1", 3), ("2", 4), ("1", 3)] {
        running.send(agency, &lines(agency, 1, count), &Arc::default()).await;
    }
    running.store.finish("1".into()).await.unwrap();
    running.store.finish("1".into()).await.unwrap();
    let batches = &running.board.metrics.batches;
    assert_eq!((batches.stored.get(), batches.repeated.get(), batches.refused.get()), (2, 1, 0));
    assert_eq!((totals(&running), bets(&running)), ((7, 2, 1), vec![3, 4]));
    assert_eq!(running.board.events(0, 9).0, 1, "the end of an agency is one event");
    running.store.close().await;

    let running = start(folder.path(), 1);
    assert_eq!((totals(&running), bets(&running)), ((7, 2, 1), vec![3, 4]));
    assert_eq!(running.board.metrics.bets.get(), 0, "nothing was stored in this run");
    running.winners("1").await;
    assert!(matches!(running.board.draw(), DrawStatus::Held { winners: 2, time: Some(_) }));
    running.store.close().await;
    let running = start(folder.path(), 1);
    assert!(matches!(running.board.draw(), DrawStatus::Held { winners: 2, time: None }));
    running.store.close().await;
}

#[tokio::test]
async fn a_draw_that_was_due_is_held_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 2);
    running.send("1", &lines("1", 1, 3), &Arc::default()).await;
    assert!(matches!(running.store.finish("1".into()).await, Ok(JobOutcome::Finished)));
    running.store.close().await;
    let running = start(folder.path(), 1);
    assert_eq!(running.winners("1").await, "1,Ana 1,Núñez,1,2000-01-01,7574\n");
    assert_eq!(running.log.actions(), ["action: sorteo | result: success"]);
}

#[tokio::test]
async fn winners_are_found_wherever_the_pieces_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 1);
    let mut expected = String::new();
    let claims = Arc::default();
    for batch in 0..60 {
        let name = "x".repeat(batch * 131 + 1);
        let text: String = (0..150)
            .map(|bet| {
                format!(
                    "1,{name},\"q\"\"{bet}\",{bet},2000-01-01,{}\r\n",
                    if bet % 7 == 0 { 7574 } else { 17574 }
                )
            })
            .collect();
        for line in text.lines().filter(|line| line.ends_with(",7574")) {
            expected.push_str(&line.replace("\"q\"\"", "q\"").replace("\",", ","));
            expected.push('\n');
        }
        assert!(matches!(running.send("1", &text, &claims).await, Some(JobOutcome::Stored(_))));
        assert!(matches!(
            running.send("11", &text.replace("1,x", "11,x"), &claims).await,
            Some(JobOutcome::Stored(_))
        ));
    }
    assert!(matches!(running.store.finish("1".into()).await, Ok(JobOutcome::Finished)));
    assert!(running.winners("1").await == expected, "{} bytes expected", expected.len());
}

/// Three rounds of a batch each, and the end of the agency; where in `lottery.journal` each begins.
async fn three_rounds() -> (TempDir, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 9);
    let claims = Arc::default();
    for batch in 1..=3 {
        assert!(matches!(
            running.send("1", &lines("1", batch, 2), &claims).await,
            Some(JobOutcome::Stored(_))
        ));
    }
    assert!(matches!(running.store.finish("1".into()).await, Ok(JobOutcome::Finished)));
    running.store.close().await;
    let file = fs::File::open(folder.path().join(JOURNAL_FILE)).unwrap();
    let starts = Records::from(&file, 0, Checksum::Crc32c).map(|record| record.unwrap().0 as usize).collect();
    (folder, starts)
}

/// Opens copies of the files, cut or changed: the batches and agencies in them, and the length of `bets.csv`.
fn reopened(journal: &[u8], bets: &[u8]) -> Result<(u64, usize, usize), String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(JOURNAL_FILE), journal).unwrap();
    fs::write(folder.path().join(BETS_FILE), bets).unwrap();
    let (files, contents) = LotteryFiles::open(folder.path()).map_err(|error| format!("{error:#}"))?;
    drop(files);
    let after = fs::read(folder.path().join(BETS_FILE)).unwrap();
    assert_eq!(after, bets[..after.len()]);
    // What was kept is kept for good.
    let (_, again) = LotteryFiles::open(folder.path()).map_err(|error| format!("{error:#}"))?;
    assert_eq!(again.ledger.bets(), contents.ledger.bets());
    Ok((contents.ledger.bets(), contents.ledger.done(), after.len()))
}

#[tokio::test]
async fn cut_at_every_byte_the_longest_whole_beginning_is_kept() {
    let (folder, starts) = three_rounds().await;
    let journal = fs::read(folder.path().join(JOURNAL_FILE)).unwrap();
    let bets = fs::read(folder.path().join(BETS_FILE)).unwrap();
    let ends: Vec<_> =
        (0..=3).map(|batches| (1..=batches).map(|batch| lines("1", batch, 2).len()).sum()).collect();
    assert_eq!(bets.len(), ends[3]);
    for length in 0..=journal.len() {
        let outcome = reopened(&journal[..length], &bets);
        if length < starts[1] {
            assert!(
                outcome.unwrap_err().contains("does not know"),
                "the header alone tells whose bets.csv it is"
            );
            continue;
        }
        let whole = starts.iter().chain([&journal.len()]).filter(|end| **end <= length).count() - 2;
        let batches = whole.min(3);
        assert_eq!(
            outcome,
            Ok((2 * batches as u64, usize::from(whole == 4), ends[batches])),
            "journal cut at {length}"
        );
    }
    for length in 0..=bets.len() {
        let batches = ends.iter().filter(|end| **end <= length).count() - 1;
        let expected = (2 * batches as u64, usize::from(batches == 3), ends[batches]);
        assert_eq!(reopened(&journal, &bets[..length]), Ok(expected), "bets cut at {length}");
    }
    // More than what is known.
    let more = [&bets[..], b"1,Ana,not,acknow"].concat();
    assert_eq!(reopened(&journal, &more), Ok((6, 1, ends[3])));
    assert_eq!(reopened(&journal[..starts[3]], &[&more[..], b"\r\n"].concat()), Ok((4, 0, ends[2])));
}

#[tokio::test]
async fn what_no_crash_can_have_done_is_an_error_and_nothing_is_cut() {
    let (folder, starts) = three_rounds().await;
    let journal = fs::read(folder.path().join(JOURNAL_FILE)).unwrap();
    let bets = fs::read(folder.path().join(BETS_FILE)).unwrap();
    let (second, third) = (lines("1", 1, 2).len(), lines("1", 1, 2).len() + lines("1", 2, 2).len());
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    for at in 0..bets.len() {
        let outcome = reopened(&journal, &flipped(&bets, at));
        match at {
            _ if at < third => {
                assert!(outcome.as_ref().unwrap_err().contains("is damaged at byte"), "{at}: {outcome:?}");
            }
            // The last round with bets: a crash may have torn it.
            _ => assert_eq!(outcome, Ok((4, 0, third)), "{at}"),
        }
    }
    for at in starts[1]..starts[2] - 1 {
        let outcome = reopened(&flipped(&journal, at), &bets);
        assert!(outcome.as_ref().unwrap_err().contains("is damaged at byte"), "{at}: {outcome:?}");
    }
    for at in starts[4]..journal.len() - 1 {
        assert_eq!(reopened(&flipped(&journal, at), &bets), Ok((6, 0, bets.len())), "{at}");
    }
    assert!(second < third);
}

#[test]
fn other_files_are_refused_and_left_alone() {
    assert!(reopened(b"", b"1,a,b,c,2000-01-01,1\r\n").unwrap_err().contains("does not know"));
    let folder = tempfile::tempdir().unwrap();
    let (_files, _) = LotteryFiles::open(folder.path()).unwrap();
    assert!(LotteryFiles::open(folder.path()).unwrap_err().to_string().contains("in use by another process"));
    assert!(content(folder.path(), JOURNAL_FILE).starts_with("lottery 2 "));
}

/// A disk that fails on demand.
#[derive(Debug, Clone, Default)]
struct FailingDisk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    bytes: Vec<u8>,
    room: Option<usize>,
    fails_to_sync: bool,
    fails_to_read: bool,
}

impl Storage for FailingDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        let room = state.room.map_or(bytes.len(), |room| room.saturating_sub(state.bytes.len()));
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let part = room.min(bytes.len());
        state.bytes.extend_from_slice(&bytes[..part]);
        Ok(part)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.0.lock().unwrap().fails_to_sync { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        Ok((self.0.lock().unwrap().bytes.len() as u64, true))
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().bytes.truncate(length as usize);
        Ok(())
    }
}

impl ReadAt for FailingDisk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        if state.fails_to_read {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = state.bytes.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl FailingDisk {
    fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.0.lock().unwrap());
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().bytes.clone()).unwrap()
    }
}

fn on_disks() -> (TempDir, FailingDisk, FailingDisk, RunningStore) {
    let folder = tempfile::tempdir().unwrap();
    let (bets, journal) = (FailingDisk::default(), FailingDisk::default());
    let files = LotteryFiles::with_storage(
        folder.path(),
        JournalFile::with_storage(BETS_FILE, Box::new(bets.clone())),
        Box::new(bets.clone()),
        JournalFile::with_storage(JOURNAL_FILE, Box::new(journal.clone())),
    );
    let contents = LotteryContents { ledger: Ledger::default(), draw: None };
    let running = start_with(folder.path(), files, contents, 2);
    (folder, bets, journal, running)
}

#[tokio::test]
async fn a_full_disk_takes_all_of_a_batch_or_none_in_both_files() {
    let (_folder, bets, journal, running) = on_disks();
    let claims = Arc::default();
    let (first, second) = (lines("1", 1, 2), lines("1", 2, 2));
    assert!(matches!(running.send("1", &first, &claims).await, Some(JobOutcome::Stored(_))));
    let records = journal.text();
    for full in [&bets, &journal] {
        full.set(|state| state.room = Some(state.bytes.len() + 10));
        assert!(matches!(running.send("1", &second, &claims).await, Some(JobOutcome::NoSpace(_))));
        assert!(running.board.is_disk_full());
        let repeated = running.send("1", &first, &Arc::default()).await;
        assert!(matches!(repeated, Some(JobOutcome::Repeated)), "that needs no room");
        assert_eq!((bets.text(), journal.text()), (first.clone(), records.clone()));
        full.set(|state| state.room = None);
    }
    assert!(matches!(running.send("1", &second, &claims).await, Some(JobOutcome::Stored(_))));
    assert!(!running.board.is_disk_full());
    let batches = &running.board.metrics.batches;
    assert_eq!((batches.stored.get(), batches.disk_full.get(), batches.repeated.get()), (2, 2, 2));
    assert_eq!(bets.text(), first + &second);
    let batches = journal.text();
    let places: Vec<_> = batches
        .lines()
        .filter_map(|line| JournalEntry::parse(line.split(" crc32c=").next()?.as_bytes()))
        .filter_map(|(round, entry)| match entry {
            JournalEntry::Batch { range, .. } => Some((round, range.offset)),
            _ => None,
        })
        .collect();
    assert_eq!(places, [(1, 0), (2, lines("1", 1, 2).len() as u64)]);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    for which in 0..2 {
        let (_folder, bets, journal, running) = on_disks();
        [&bets, &journal][which].set(|state| state.fails_to_sync = true);
        for batch in 1..=2 {
            let outcome = running.send("1", &lines("1", batch, 2), &Arc::default()).await;
            assert!(outcome.is_none(), "{outcome:?}");
        }
        running.store.failure().wait().await;
        assert!(running.store.failure().get().unwrap().to_string().contains("cannot sync"));
        running.store.close().await;
    }
}

#[tokio::test]
async fn when_bets_cannot_be_read_nothing_is_acknowledged_any_more() {
    let (_folder, bets, _journal, running) = on_disks();
    let first = lines("1", 1, 2);
    assert!(matches!(running.send("1", &first, &Arc::default()).await, Some(JobOutcome::Stored(2))));
    bets.set(|state| state.fails_to_read = true);
    for _ in 0..2 {
        assert!(running.send("1", &first, &Arc::default()).await.is_none());
    }
    running.store.failure().wait().await;
    assert!(running.store.failure().get().unwrap().to_string().starts_with("cannot read "));
    running.store.close().await;
}

#[tokio::test]
async fn of_a_batch_the_new_bets_are_stored_and_the_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 2);
    let all = lines("1", 1, 5);
    let some: String = all.split_inclusive('\n').skip(1).take(2).collect();
    assert!(matches!(running.send("1", &some, &Arc::default()).await, Some(JobOutcome::Stored(2))));
    assert!(matches!(running.send("1", &all, &Arc::default()).await, Some(JobOutcome::Stored(3))));
    assert!(
        matches!(running.send("2", &all, &Arc::default()).await, Some(JobOutcome::Stored(5))),
        "another agency"
    );
    running.store.close().await;
    let others: String = all.split_inclusive('\n').filter(|line| !some.contains(line)).collect();
    assert_eq!(content(folder.path(), BETS_FILE), some + &others + &all);
    let records = content(folder.path(), JOURNAL_FILE);
    let counts: Vec<_> = records.lines().skip(1).map(|line| line.split(' ').nth(6).unwrap()).collect();
    assert_eq!(counts, ["2", "3", "5"]);
}

#[tokio::test]
async fn many_agencies_share_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 1000);
    let batches = (0..500).map(|agency| {
        let running = &running;
        async move {
            let (name, claims) = (agency.to_string(), Arc::default());
            for batch in 0..4 {
                assert!(matches!(
                    running.send(&name, &lines(&name, batch, 2), &claims).await,
                    Some(JobOutcome::Stored(_))
                ));
            }
        }
    });
    futures_util::future::join_all(batches).await;
    running.store.close().await;
    assert_eq!(content(folder.path(), BETS_FILE).lines().count(), 4000);
    let records = content(folder.path(), JOURNAL_FILE);
    let last = records.lines().last().unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    assert!(last < 1000, "{last} rounds for 2000 batches");
    let (_, contents) = LotteryFiles::open(folder.path()).unwrap();
    assert_eq!(contents.ledger.bets(), 4000);
}
