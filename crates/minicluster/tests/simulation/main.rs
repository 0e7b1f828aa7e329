//! Tests the whole store on a simulated network, with simulated time: loss, delay, partitions in one direction or both,
//! and crashes, all from a seed.
//!
//! A run takes `SIMULATION_SEEDS` seeds (200 unless told otherwise) from `SIMULATION_FIRST` on (at random unless told
//! otherwise). A failure prints its seed, which can be replayed alone:
//!
//! ```sh
//! SIMULATION_FIRST=4711 SIMULATION_SEEDS=1 cargo test -p minicluster --test simulation
//! ```

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod network;
mod schedule;
mod world;

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use world::SimulationTally;

/// The variable that names the seed that a process simulates.
const SEED: &str = "SIMULATION_SEED";
/// The beginning of the line that tells how a simulation went.
const OUTCOME: &str = "simulated: ";

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Simulates `seed` in a process of its own. When a host crashes, tokio drops its tasks in an order that depends on how
/// many tasks the process has had before; so only the first simulation of a process can be repeated.
fn simulate(seed: u64) -> Result<SimulationTally, String> {
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test);
    command.args(["--exact", "one_seed", "--nocapture"]).env(SEED, seed.to_string());
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let outcome = printed.lines().find_map(|line| line.split_once(OUTCOME)).map(|(_, outcome)| outcome);
    let tally = outcome.and_then(|outcome| outcome.parse().ok()).filter(|_| output.status.success());
    tally.ok_or_else(|| format!("{printed}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Does nothing unless it is told a seed: the tests below run it in further processes.
#[test]
fn one_seed() {
    if let Some(seed) = setting(SEED) {
        println!("{OUTCOME}{}", world::simulate(seed));
    }
}

#[test]
fn nothing_acknowledged_is_ever_lost_whatever_the_network_does() {
    let first = setting("SIMULATION_FIRST").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(200);
    println!("seeds {first} to {}", first + seeds - 1);
    let next = AtomicU64::new(first);
    let total = thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(2, usize::from);
        let run = || {
            let mut total = SimulationTally::default();
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= first + seeds {
                    return total;
                }
                match simulate(seed) {
                    Ok(tally) => total.add(&tally),
                    Err(printed) => panic!(
                        "{printed}\nseed {seed} failed; replay: SIMULATION_FIRST={seed} SIMULATION_SEEDS=1 cargo test -p minicluster --test simulation"
                    ),
                }
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(run)).collect();
        workers.into_iter().fold(SimulationTally::default(), |mut total, worker| {
            total.add(&worker.join().unwrap());
            total
        })
    });
    println!("{total:?}");
    // The faults happened, and did harm that had to be made up for.
    if seeds >= 100 {
        assert!(total.crashes > seeds / 4 && total.cuts > seeds / 4, "{total:?}");
        assert!(total.saved > 10 * seeds && total.twice > 0, "{total:?}");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 17..27 {
        assert_eq!(simulate(seed), simulate(seed), "seed {seed}");
    }
}
