//! Tests real programs under random faults: `kill -9` of datanodes and headnode, SIGSTOP for seconds, restarts, while
//! several clients send without a pause.
//!
//! A run takes `CHAOS_SCHEDULES` schedules (200 unless told otherwise) from `CHAOS_FIRST` on (at random unless told
//! otherwise). A failure prints its schedule's seed:
//!
//! ```sh
//! CHAOS_FIRST=4711 CHAOS_SCHEDULES=1 cargo test -p minicluster --test chaos
//! ```
//!
//! The seed fixes the faults and their times; how they meet the messages is up to the machine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../processes/mod.rs"]
mod processes;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::StoreFiles;
use processes::{StoreProcesses, StoreSettings, outcome};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::parse_receipt;
use testkit::Signal;

/// The number of schedules at the same time. Most of the time they wait.
const AT_ONCE: usize = 20;
const CLIENTS: usize = 3;
const DATANODES: usize = 3;

#[derive(Debug, Default)]
struct ChaosTally {
    kills: AtomicU64,
    stops: AtomicU64,
    saved: AtomicU64,
    twice: AtomicU64,
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn nothing_acknowledged_is_lost_whatever_is_killed() {
    let first = setting("CHAOS_FIRST").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let schedules = setting("CHAOS_SCHEDULES").unwrap_or(200);
    println!("schedules {first} to {}", first + schedules - 1);
    let next = AtomicU64::new(first);
    let tally = ChaosTally::default();
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while !failed.load(Ordering::SeqCst) {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + schedules {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| run(seed, &tally))).is_err() {
                        failed.store(true, Ordering::SeqCst);
                        eprintln!("schedule {seed} failed; replay: CHAOS_FIRST={seed} CHAOS_SCHEDULES=1 cargo test -p minicluster --test chaos");
                    }
                }
            });
        }
    });
    println!("{tally:?}");
    assert!(!failed.load(Ordering::SeqCst), "a schedule failed: see above");
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    assert!(count(&tally.kills) + count(&tally.stops) >= schedules, "{tally:?}");
    assert!(count(&tally.saved) >= 10 * schedules, "{tally:?}");
}

/// A client's program that gets lines for as long as `wanted`.
struct ChaosTraffic {
    /// Reads what the client prints while it runs: a client that cannot print takes no more lines, and the feeder waits.
    ended: JoinHandle<(bool, String, String)>,
    feeder: JoinHandle<BTreeSet<String>>,
    sent: Arc<AtomicU64>,
}

impl ChaosTraffic {
    fn start(store: &StoreProcesses, number: usize, wanted: Arc<AtomicBool>) -> Self {
        let name = format!("client{number}");
        // A busy machine may be slow: what counts is that nothing is lost.
        let arguments = ["--wait", "5m", "--reply-timeout", "2s", "put", "-"];
        let mut client = store.client(&name, &arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = client.stdin.take().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let feeder = thread::spawn(move || {
            let mut lines = BTreeSet::new();
            while wanted.load(Ordering::SeqCst) {
                let line = format!("{name} \"{}\"", lines.len());
                writeln!(stdin, "{line}").unwrap();
                lines.insert(line);
                counter.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(3));
            }
            lines
        });
        let ended = thread::spawn(move || outcome(client));
        Self { ended, feeder, sent }
    }

    /// Waits until everything is saved, and returns what was sent.
    fn finish(self) -> BTreeSet<String> {
        let sent = self.feeder.join().unwrap();
        let (well, printed, logged) = self.ended.join().unwrap();
        assert!(well, "a client failed: {logged}");
        assert_eq!(printed.lines().count(), sent.len(), "{logged}");
        sent
    }
}

fn run(seed: u64, tally: &ChaosTally) {
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let two_replicas = rng.random_bool(0.3);
    let headnode = if two_replicas { vec!["--replicas", "2"] } else { Vec::new() };
    let mut store =
        StoreProcesses::start(folder.path(), StoreSettings { headnode, ..StoreSettings::default() });
    let wanted = Arc::new(AtomicBool::new(true));
    let traffic: Vec<_> =
        (0..CLIENTS).map(|number| ChaosTraffic::start(&store, number, wanted.clone())).collect();
    let sent = |traffic: &[ChaosTraffic]| {
        traffic.iter().map(|client| client.sent.load(Ordering::SeqCst)).sum::<u64>()
    };
    for _ in 0..rng.random_range(1..=4) {
        let before = sent(&traffic);
        pause(&mut rng, 10..400);
        fault(&mut store, &mut rng, tally);
        assert!(sent(&traffic) > before, "no traffic during the fault");
    }
    pause(&mut rng, 10..200);
    wanted.store(false, Ordering::SeqCst);
    let sent: BTreeSet<_> = traffic.into_iter().flat_map(ChaosTraffic::finish).collect();
    store.wait_until_available(DATANODES);
    let broken = store.headnode.events("connection broken: nothing is sent to this datanode");
    let is_blamed = |event: &serde_json::Value| event.to_string().contains("does not follow the protocol");
    assert!(!broken.iter().any(is_blamed), "a datanode that is only slow is told to be wrong: {broken:?}");
    store.stop();
    let receipts: Vec<_> = (0..CLIENTS)
        .flat_map(|number| {
            let path = folder.path().join(format!("client{number}/registro_cliente.txt"));
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| parse_receipt(line).unwrap()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(receipts.len(), sent.len());
    let files = StoreFiles::read(folder.path());
    let messages = files.messages();
    assert!(messages.keys().eq(sent.iter()), "what is stored is not what was sent");
    let twice = files.check(
        &messages.into_iter().map(|(text, id)| (id, text)).collect(),
        &receipts,
        1 + usize::from(two_replicas),
    );
    tally.saved.fetch_add(sent.len() as u64, Ordering::SeqCst);
    tally.twice.fetch_add(twice, Ordering::SeqCst);
}

fn pause(rng: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    thread::sleep(Duration::from_millis(rng.random_range(milliseconds)));
}

fn fault(store: &mut StoreProcesses, rng: &mut StdRng, tally: &ChaosTally) {
    let victim = rng.random_range(0..=DATANODES);
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
    if rng.random_bool(0.35) {
        // From 1 to 10 seconds, mostly short.
        let seconds = 1.0 + 9.0 * rng.random::<f64>().powi(4);
        let process = if victim == 0 { &store.headnode } else { &store.datanodes[victim - 1] };
        process.signal(Signal::SIGSTOP);
        thread::sleep(Duration::from_secs_f64(seconds));
        process.signal(Signal::SIGCONT);
        count(&tally.stops);
        return;
    }
    let process = if victim == 0 { &mut store.headnode } else { &mut store.datanodes[victim - 1] };
    process.kill();
    count(&tally.kills);
    pause(rng, 0..800);
    if victim == 0 {
        store.restart_headnode();
    } else {
        store.restart_datanode(victim);
    }
}
