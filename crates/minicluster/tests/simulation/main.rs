//! Tests the whole store on simulated networks, disks and clocks: see the crate `simulation`.
//!
//! A run takes `SIMULATION_SEEDS` seeds (200 unless told otherwise) from `SIMULATION_FIRST` on (at random unless told
//! otherwise). A failure prints its seed, which can be replayed alone:
//!
//! ```sh
//! SIMULATION_FIRST=4711 SIMULATION_SEEDS=1 cargo test -p minicluster --test simulation
//! ```

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use simulation::{TotalReport, simulate_and_print, simulate_many};

/// The variable that names the seed that a process simulates.
const SEED: &str = "SIMULATION_SEED";
/// The variable that asks for what the programs log.
const LOG: &str = "SIMULATION_LOG";

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Returns a command that simulates `seed`.
fn command(seed: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "one_seed", "--nocapture"]).env(SEED, seed.to_string());
    command
}

fn simulate(first: u64, count: u64) -> TotalReport {
    simulate_many(first, count, command, || {}).unwrap_or_else(|failed| {
        panic!(
            "{}\nseed {seed} failed; replay: SIMULATION_FIRST={seed} SIMULATION_SEEDS=1 cargo test -p minicluster --test simulation",
            failed.printed,
            seed = failed.seed
        )
    })
}

/// Does nothing unless it is told a seed: the tests below run it in further processes.
#[test]
fn one_seed() {
    if let Some(seed) = setting(SEED) {
        simulate_and_print(seed, setting(LOG).is_some());
    }
}

#[test]
fn nothing_acknowledged_is_ever_lost_whatever_network_disks_and_clocks_do() {
    let first = setting("SIMULATION_FIRST").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(200);
    println!("seeds {first} to {}", first + seeds - 1);
    let total = simulate(first, seeds);
    println!("{total}");
    // The faults happened, and did harm that had to be made up for.
    if seeds >= 3000 {
        assert_eq!(total.missing(), [""; 0], "what sometimes happens has not happened");
    }
}

#[test]
fn a_seed_gives_the_same_files_again() {
    // The runner repeats every thousandth seed.
    for seed in (17_000..27_000).step_by(1_000) {
        assert_eq!(simulate(seed, 1).repeated, 1);
    }
}
