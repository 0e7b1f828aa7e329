//! `minicluster simulate`: the whole store on simulated networks, disks and clocks, seed after seed.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use indicatif::{ProgressBar, ProgressStyle};
use service::cli;
use simulation::{FailedSeed, TotalReport, simulate_and_print, simulate_many};

/// From this many seeds on, all that sometimes happens has to happen.
const ENOUGH_SEEDS: u64 = 3_000;

/// Runs the whole store on simulated networks, disks and clocks.
///
/// Each seed switches on a random subset of the faults. The first seed in which the store loses, changes or invents a
/// message, or does not recover, ends the run, and a command is printed that repeats it.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "minicluster simulate", version)]
struct SimulateArguments {
    /// Number of seeds
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first: u64,
    /// Simulate one seed in this process, and show what the programs log
    #[arg(long)]
    log: bool,
    /// Simulate one seed in this process
    #[arg(long, hide = true)]
    alone: bool,
    /// Put a bug into the store, to see whether it is found: its number, from 1
    #[cfg(feature = "plants")]
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=simulation::PLANTS.len() as i64))]
    plant: u8,
}

impl SimulateArguments {
    /// Returns the flags that repeat one seed.
    fn of_seed(&self, seed: u64) -> Vec<String> {
        let mut flags = vec!["simulate".to_owned(), "--seeds".to_owned(), "1".to_owned()];
        flags.extend(["--first".to_owned(), seed.to_string()]);
        #[cfg(feature = "plants")]
        if self.plant > 0 {
            flags.extend(["--plant".to_owned(), self.plant.to_string()]);
        }
        flags
    }
}

/// Runs the simulations that the command line asks for.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: SimulateArguments = match cli::parse("MINICLUSTER_SIMULATE", arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    #[cfg(feature = "plants")]
    simulation::plant(arguments.plant);
    if arguments.alone || arguments.log {
        simulate_and_print(arguments.first, arguments.log);
        return ExitCode::SUCCESS;
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("cannot find this program to start it again: {error}");
            return ExitCode::FAILURE;
        }
    };
    let bar = ProgressBar::new(arguments.seeds);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let command = |seed| {
        let mut command = Command::new(&program);
        command.args(arguments.of_seed(seed)).arg("--alone");
        command
    };
    let outcome = simulate_many(arguments.first, arguments.seeds, command, || bar.inc(1));
    bar.finish_and_clear();
    match outcome {
        Ok(total) => conclude(&total),
        Err(failed) => tell(&arguments, &failed),
    }
}

fn conclude(total: &TotalReport) -> ExitCode {
    print!("{total}");
    let missing = total.missing();
    if missing.is_empty() || total.seeds < ENOUGH_SEEDS {
        return ExitCode::SUCCESS;
    }
    println!("never happened: {}", missing.join("; "));
    ExitCode::FAILURE
}

fn tell(arguments: &SimulateArguments, failed: &FailedSeed) -> ExitCode {
    println!("{}", failed.printed.trim_end());
    let number = failed.seed - arguments.first + 1;
    println!("seed {}, number {number} of this run, failed; repeat it with:", failed.seed);
    println!("minicluster {}", arguments.of_seed(failed.seed).join(" "));
    ExitCode::FAILURE
}
