//! Runs the store beside a model of its rule: batches of any bets on any connections, rounds without room on the disk,
//! connections that break, a server that is killed, the end of agencies, the draw.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use journal::{JournalFile, Storage};
use proptest::prelude::*;
use tempfile::TempDir;

use super::ledger::BatchRefusal;
use super::*;

const CONNECTIONS: usize = 4;
const AGENCIES: usize = 2;

/// A file on a disk with limited room. Nobody pulls the plug, so the file is never synced.
struct LimitedFile {
    file: File,
    room: Arc<AtomicUsize>,
}

impl LimitedFile {
    fn open(path: &Path, room: &Arc<AtomicUsize>) -> JournalFile {
        let file = OpenOptions::new().append(true).open(path).unwrap();
        JournalFile::with_storage("limited", Box::new(Self { file, room: room.clone() }))
    }
}

impl Storage for LimitedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = Storage::write(&mut self.file, &bytes[..room.min(bytes.len())])?;
        self.room.fetch_sub(written, Ordering::Relaxed);
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn status(&self) -> io::Result<(u64, bool)> {
        self.file.status()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
}

/// How often each bet was sent, or is stored.
type BetCounts = HashMap<u8, usize>;

/// The store, and what has to be true of it.
struct ModelLottery {
    folder: TempDir,
    round: StoreRound,
    room: Arc<AtomicUsize>,
    connections: Vec<Arc<Claims>>,
    sent: Vec<BetCounts>,
    stored: Vec<BetCounts>,
    done: Vec<bool>,
    drawn: bool,
}

fn agency_of(connection: usize) -> usize {
    connection % AGENCIES
}

/// Lines of different lengths, some of which hold others.
fn line(agency: usize, bet: u8) -> String {
    format!("{agency},{}{bet}\r\n", "x".repeat(usize::from(bet) % 3))
}

fn open(folder: &Path, room: &Arc<AtomicUsize>) -> StoreRound {
    let (mut files, contents) = LotteryFiles::open(folder).unwrap();
    let limited = |name: &str| LimitedFile::open(&folder.join(name), room);
    files.replace_storage(limited(BETS_FILE), limited(JOURNAL_FILE));
    StoreRound::new(files, contents.ledger)
}

impl ModelLottery {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let room = Arc::new(AtomicUsize::new(usize::MAX));
        Self {
            round: open(folder.path(), &room),
            folder,
            room,
            connections: vec![Arc::default(); CONNECTIONS],
            sent: vec![BetCounts::new(); CONNECTIONS],
            stored: vec![BetCounts::new(); AGENCIES],
            done: vec![false; AGENCIES],
            drawn: false,
        }
        .with_connections()
    }

    fn with_connections(mut self) -> Self {
        (0..CONNECTIONS).for_each(|connection| self.reconnect(connection));
        self
    }

    fn reconnect(&mut self, connection: usize) {
        self.connections[connection] = Arc::default();
        self.sent[connection].clear();
    }

    /// Kills the server, and starts it again.
    fn restart(&mut self) {
        self.round = open(self.folder.path(), &self.room);
        (0..CONNECTIONS).for_each(|connection| self.reconnect(connection));
    }

    fn job(&self, connection: usize, bets: &[u8]) -> StoreJob {
        let agency = agency_of(connection);
        StoreJob::Batch(NewBatch {
            agency: agency.to_string().into(),
            lines: bets.iter().map(|bet| line(agency, *bet)).collect::<String>().into_bytes(),
            bets: bets.len() as u32,
            claims: self.connections[connection].clone(),
        })
    }

    /// Sends batches in one round with `room` bytes left in the files, and checks the outcome of each.
    fn work(&mut self, batches: &[(usize, Vec<u8>)], room: usize) {
        let jobs = batches.iter().map(|(connection, bets)| self.job(*connection, bets)).collect();
        let mut outcomes = Vec::new();
        self.room.store(room, Ordering::Relaxed);
        self.round.run(jobs, &mut outcomes).unwrap();
        self.room.store(usize::MAX, Ordering::Relaxed);
        assert_eq!(outcomes.len(), batches.len());
        let mut failed = [false; CONNECTIONS];
        for ((connection, bets), outcome) in batches.iter().zip(outcomes) {
            self.check(*connection, bets, &outcome, &mut failed[*connection], room);
        }
    }

    fn check(
        &mut self,
        connection: usize,
        bets: &[u8],
        outcome: &JobOutcome,
        failed: &mut bool,
        room: usize,
    ) {
        let agency = agency_of(connection);
        let (mut sent, mut stored) = (self.sent[connection].clone(), self.stored[agency].clone());
        let mut new = 0;
        for bet in bets {
            let sending = sent.entry(*bet).or_default();
            *sending += 1;
            let times = stored.entry(*bet).or_default();
            if *sending > *times {
                assert_eq!(*sending, *times + 1, "a connection has not claimed more than there is");
                *times += 1;
                new += 1;
            }
        }
        match outcome {
            JobOutcome::Stored(count) => assert!(new == *count && new > 0, "{new} are new, {count} stored"),
            JobOutcome::Repeated => assert_eq!(new, 0),
            JobOutcome::NoSpace(_) => {
                assert!(room < usize::MAX && (new > 0 || *failed), "nothing of it needs room");
                *failed = true;
                return;
            }
            JobOutcome::Refused(BatchRefusal::Done) => {
                return assert!(new > 0 && self.done[agency] && !self.drawn, "{new} are new");
            }
            JobOutcome::Refused(BatchRefusal::Drawn) => {
                return assert!(new > 0 && self.drawn, "{new} are new");
            }
            other => panic!("{other:?}"),
        }
        assert!(new == 0 || !(self.done[agency] || self.drawn));
        (self.sent[connection], self.stored[agency]) = (sent, stored);
    }

    fn finish(&mut self, agency: usize) {
        let jobs = vec![StoreJob::Finish { agency: agency.to_string().into() }];
        self.round.run(jobs, &mut Vec::new()).unwrap();
        self.done[agency] |= !self.drawn;
    }

    fn draw(&mut self) {
        if !self.drawn && self.done.iter().all(|done| *done) {
            self.round.draw().unwrap();
            self.drawn = true;
        }
    }

    /// Checks that the file holds just what has to be stored.
    fn check_file(&self) {
        let text = std::fs::read_to_string(self.folder.path().join(BETS_FILE)).unwrap();
        let mut lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
        let expected = self.stored.iter().enumerate().flat_map(|(agency, counts)| {
            counts.iter().flat_map(move |(bet, times)| vec![line(agency, *bet); *times])
        });
        let mut expected: Vec<_> = expected.collect();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }
}

#[derive(Debug, Clone)]
enum ModelStep {
    Work(Vec<(usize, Vec<u8>)>),
    NoRoom(Vec<(usize, Vec<u8>)>, usize),
    Reconnect(usize),
    Restart,
    Forget,
    Finish(usize),
    Draw,
}

fn batches() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    // Few bets, so that most of them come again; some of them very often.
    let bets = prop_oneof![
        prop::collection::vec(0u8..4, 1..8),
        prop::collection::vec(0u8..60, 1..20),
        (0u8..2, 1usize..60).prop_map(|(bet, times)| vec![bet; times]),
    ];
    prop::collection::vec((0..CONNECTIONS, bets), 1..6)
}

fn step() -> impl Strategy<Value = ModelStep> {
    prop_oneof![
        12 => batches().prop_map(ModelStep::Work),
        4 => (batches(), 0usize..300).prop_map(|(batches, room)| ModelStep::NoRoom(batches, room)),
        2 => (0..CONNECTIONS).prop_map(ModelStep::Reconnect),
        2 => Just(ModelStep::Restart),
        1 => Just(ModelStep::Forget),
        1 => (0..AGENCIES).prop_map(ModelStep::Finish),
        1 => Just(ModelStep::Draw),
    ]
}

proptest! {
    #[test]
    fn each_sending_is_judged_as_the_rule_says(steps in prop::collection::vec(step(), 1..25)) {
        let mut lottery = ModelLottery::new();
        for step in &steps {
            match step {
                ModelStep::Work(batches) => lottery.work(batches, usize::MAX),
                ModelStep::NoRoom(batches, room) => lottery.work(batches, *room),
                ModelStep::Reconnect(connection) => lottery.reconnect(*connection),
                ModelStep::Restart => lottery.restart(),
                ModelStep::Forget if lottery.round.remembers_after_draw() => lottery.round.forget(),
                ModelStep::Forget => {}
                ModelStep::Finish(agency) => lottery.finish(*agency),
                ModelStep::Draw => lottery.draw(),
            }
            lottery.check_file();
        }
    }

    /// Passes over the bets of an agency, each in an order and in batches of its own, on two connections at the same time,
    /// cut off by kills and full disks: a last whole pass leaves each bet as often as the agency has it.
    #[test]
    fn whatever_came_before_a_whole_pass_leaves_what_the_agency_has(
        (bets, passes, last) in prop::collection::vec(0u8..40, 1..80).prop_flat_map(|bets| {
            let order = || Just(bets.clone()).prop_shuffle();
            let pass = (order(), order(), 1usize..30, 1usize..30, 0usize..12, prop::option::of(0usize..2000), any::<bool>());
            (Just(bets.clone()), prop::collection::vec(pass, 0..6), (order(), 1usize..30))
        }),
    ) {
        let mut lottery = ModelLottery::new();
        for (one, two, size, other_size, rounds, room, is_killed) in &passes {
            let batches = one.chunks(*size).map(|batch| (0, batch.to_vec()));
            let others = two.chunks(*other_size).map(|batch| (2, batch.to_vec()));
            for (batch, other) in batches.zip(others).take(*rounds) {
                lottery.work(&[batch, other], room.unwrap_or(usize::MAX));
            }
            if *is_killed {
                lottery.restart();
            } else {
                lottery.reconnect(0);
                lottery.reconnect(2);
            }
        }
        let (order, size) = last;
        for batch in order.chunks(size) {
            lottery.work(&[(0, batch.to_vec())], usize::MAX);
        }
        let mut expected = BetCounts::new();
        bets.iter().for_each(|bet| *expected.entry(*bet).or_default() += 1);
        prop_assert_eq!(&lottery.stored[0], &expected);
        lottery.check_file();
    }
}

#[test]
fn where_a_batch_fails_the_repeats_behind_it_are_claimed_in_their_order() {
    let mut lottery = ModelLottery::new();
    lottery.work(&[(2, vec![7; 8])], usize::MAX);
    lottery.work(&[(0, vec![7])], usize::MAX);
    // The second batch needs no room, but the first one gives back the copies before those that the second one claims.
    lottery.work(&[(0, vec![7, 9]), (0, vec![7; 5])], 0);
    for _ in 0..9 {
        lottery.work(&[(0, vec![7])], usize::MAX);
    }
    assert!(lottery.stored[0][&7] >= 8);
    lottery.check_file();
}

#[test]
fn thousands_of_equal_bets_are_told_apart_quickly() {
    const TIMES: usize = 5_000;
    let mut lottery = ModelLottery::new();
    let batch = vec![7; 200];
    let send = |lottery: &mut ModelLottery, connection, times: usize| {
        for _ in 0..times / batch.len() {
            lottery.work(&[(connection, batch.clone())], usize::MAX);
        }
    };
    send(&mut lottery, 0, TIMES);
    send(&mut lottery, 2, TIMES / 2);
    lottery.restart();
    send(&mut lottery, 0, TIMES + 1000);
    assert_eq!(lottery.stored[0][&7], TIMES + 1000);
    lottery.check_file();
}
