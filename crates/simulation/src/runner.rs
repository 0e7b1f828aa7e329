//! Runs many seeds, each in a process of its own, on all processors.
//!
//! When a machine stops, tokio drops its tasks in an order that depends on how many tasks the process has had before. So
//! only the first simulation of a process can be repeated.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::report::{SeedReport, TotalReport};

/// One seed in this many is run twice, and both runs have to leave the same files.
const TWICE_EVERY: u64 = 1_000;

/// A seed whose simulation failed, and what its process printed.
#[derive(Debug)]
pub struct FailedSeed {
    /// The seed.
    pub seed: u64,
    /// The output of its process.
    pub printed: String,
}

/// Simulates `count` seeds from `first` on. `command` returns a command that calls [`simulate_and_print`](crate::simulate_and_print) for a seed, and
/// `progress` is called after each one.
///
/// # Errors
/// Returns the first seed that fails. No further seed is begun then.
pub fn simulate_many(
    first: u64,
    count: u64,
    command: impl Fn(u64) -> Command + Sync,
    progress: impl Fn() + Sync,
) -> Result<TotalReport, FailedSeed> {
    let (next, has_failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let total = Mutex::new(Ok(TotalReport::default()));
    let work = || {
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - first >= count {
                return;
            }
            let report = run(seed, &command).and_then(|report| {
                let is_twice = seed.is_multiple_of(TWICE_EVERY);
                if is_twice { repeat(report, &command).map(|report| (report, 1)) } else { Ok((report, 0)) }
            });
            let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match (report, &mut *total) {
                (Ok((report, repeated)), Ok(total)) => {
                    total.add(&report);
                    total.repeated += repeated;
                }
                (Err(failed), Ok(_)) => {
                    has_failed.store(true, Ordering::Relaxed);
                    *total = Err(failed);
                }
                (_, Err(_)) => {}
            }
            progress();
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run(seed: u64, command: impl Fn(u64) -> Command) -> Result<SeedReport, FailedSeed> {
    let failed = |printed| FailedSeed { seed, printed };
    // The errors of programs are expected, and where they come from does not matter.
    let output = command(seed)
        .env("RUST_LIB_BACKTRACE", "0")
        .output()
        .map_err(|error| failed(format!("cannot start a process: {error}")))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let report = SeedReport::in_output(&printed).filter(|_| output.status.success());
    report.ok_or_else(|| failed(format!("{printed}{}", String::from_utf8_lossy(&output.stderr))))
}

fn repeat(report: SeedReport, command: impl Fn(u64) -> Command) -> Result<SeedReport, FailedSeed> {
    let again = run(report.seed, command)?;
    if again == report {
        return Ok(report);
    }
    Err(FailedSeed { seed: report.seed, printed: format!("two runs differ:\n{report}\n{again}") })
}
