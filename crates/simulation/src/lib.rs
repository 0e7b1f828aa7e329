//! Actividad 2: the whole store on simulated networks, disks and clocks. Everything that happens comes from a seed, which
//! repeats it exactly.
//!
//! | module | what it does |
//! | --- | --- |
//! | `world` | one simulation, from a seed to a report |
//! | `faults`, `schedule` | which faults a seed switches on, and when they come |
//! | `layout` | the names of the machines |
//! | `machine`, `disk`, `files`, `network` | what the programs run on |
//! | `host`, `client`, `operator` | the programs of the store, clients that put, get and list, and what operators ask for |
//! | `keys`, `attacker` | the keys of some seeds, and somebody who has none |
//! | `history`, `check` | what must hold of what clients were told, and of the files |
//! | `marks` | what sometimes happens |
//! | `report`, `runner` | many seeds, each in a process of its own |

#![cfg(feature = "run")]
#![allow(missing_docs, reason = "a library for tests: only `minicluster` uses it")]

mod attacker;
mod check;
mod client;
mod disk;
mod faults;
mod files;
mod history;
mod host;
mod keys;
mod layout;
mod machine;
mod marks;
mod network;
mod operator;
pub mod report;
pub mod runner;
mod schedule;
pub mod world;

pub use journal::plants::PLANTS;
#[cfg(feature = "plants")]
pub use journal::plants::plant;
pub use report::{SeedReport, TotalReport};
pub use runner::{FailedSeed, simulate_many};

/// Simulates `seed` and prints its report. If `shows`, everything that the programs log is printed too.
///
/// # Panics
/// Panics if the store does what it must never do, or if this process has a subscriber of logs already.
pub fn simulate_and_print(seed: u64, shows: bool) {
    tracing::subscriber::set_global_default(marks::MarkingSubscriber::new(shows))
        .expect("a process simulates one seed, and logs nothing else");
    println!("{}", world::simulate(seed));
}
