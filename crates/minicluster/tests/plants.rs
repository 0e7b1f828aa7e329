//! Proves that the simulation finds bugs: each bug that is put into the store on purpose is caught.
//!
//! ```sh
//! cargo test --profile simulation -p minicluster --features plants --test plants -- --nocapture
//! ```

// Without the feature this file is empty. A manifest that named it would miss it where tests are left out, as in images.
#![cfg(feature = "plants")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use simulation::{PLANTS, simulate_many};

/// The seeds in which each bug has to be caught.
const SEEDS: u64 = 3_000;

#[test]
fn every_bug_on_purpose_is_caught() {
    println!("| bug | caught by seed |\n| --- | --- |");
    for (number, (_, bug)) in (1..).zip(PLANTS) {
        let command = |seed: u64| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_minicluster"));
            command.args(["simulate", "--alone", "--first", &seed.to_string()]);
            command.args(["--plant", &u32::to_string(&number)]);
            command
        };
        match simulate_many(1, SEEDS, command, || {}) {
            Ok(_) => panic!("{SEEDS} seeds do not catch bug {number}: {bug}"),
            Err(failed) => {
                assert!(failed.printed.contains("panicked"), "{}", failed.printed);
                println!("| {bug} | {} |", failed.seed);
            }
        }
    }
}
