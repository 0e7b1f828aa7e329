//! All assignments, the load generator and side-by-side comparisons. No other program needs it to run.
//!
//! | command | what it measures |
//! | --- | --- |
//! | `bench load` | rate and latencies of one target, in a closed loop or at a fixed rate |
//! | `bench compare` | `server`, the store or `echo-server`, and Redis, or the store with and without a key, in one run, alternating, with the raw `fdatasync` rate of that run |
//! | `bench agree` | this load generator and `redis-benchmark` on the same Redis, alternating |
//! | `bench idle` | resident memory of `server` with many idle connections |
//! | `bench start` | time from the start of `server` to its first reply |
//! | `bench scale` | many messages through the store: memory for each, and time until all is back after `kill -9` |
//! | `bench repair` | a disk that is deleted under load: time until each message has two copies again, rate meanwhile |
//! | `bench lottery` | whole lotteries of real programs: time, bets a second beside a plain write, memory of the server |
//! | `bench dataframe` | the DataFrame beside DataFusion, Polars, DuckDB and Dask; each middleware: queries, empty tasks, killed workers |
//! | `bench takeover` | two masters of DataFrames, of which the leading one is killed: how long until the other one leads and answers |
//! | `bench watched` | what metrics, one page and many pages cost the store: rate, latency, processor time |
//! | `bench flood` | a store whose heartbeat is flooded by others: false alarms, processor time |
//! | `bench heartbeat` | a headnode's heartbeat with thousands of simulated datanodes |
//!
//! Absolute figures depend on the machine: compare only what was measured in one run. README.md tells what was.

mod arguments;
mod compare;
mod dataframe;
mod echo;
mod flood;
mod footprint;
mod heartbeat;
mod load;
mod lottery;
mod peers;
mod programs;
mod repair;
mod scale;
mod stats;
mod store_takeover;
mod watched;

use std::process::ExitCode;

use service::cli;

use arguments::{BenchArguments, Measure};
use load::Load;

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: BenchArguments = match cli::parse("BENCH", std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Measure) -> anyhow::Result<()> {
    // The generator has one thread, as `redis-benchmark` has: the other processors are for the side that is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Measure::Load(arguments) => {
                let json = arguments.json;
                let report = load::run(&Load::try_from(&arguments)?, true).await?;
                stats::print(json, &report)
            }
            Measure::Compare(arguments) => {
                stats::print(arguments.json, &compare::with_peers(&arguments).await?)
            }
            Measure::Agree(arguments) => {
                stats::print(arguments.json, &compare::generators(&arguments).await?)
            }
            Measure::Idle { connections } => stats::print(false, &footprint::idle(connections).await?),
            Measure::Scale { messages, dir } => stats::print(false, &scale::run(messages, &dir).await?),
            Measure::Repair { messages, connections, repair_after, dir } => {
                let report = repair::run(messages, connections, repair_after, &dir).await?;
                stats::print(false, &report)
            }
            Measure::Dataframe(arguments) => stats::print(arguments.json, &dataframe::run(&arguments).await?),
            Measure::Takeover(arguments) => {
                stats::print(arguments.json, &dataframe::takeover::run(&arguments).await?)
            }
            Measure::Watched(arguments) => stats::print(arguments.json, &watched::run(&arguments).await?),
            Measure::StoreTakeover(arguments) => {
                stats::print(arguments.json, &store_takeover::run(&arguments).await?)
            }
            Measure::Flood(arguments) => stats::print(arguments.json, &flood::run(&arguments).await?),
            Measure::Heartbeat { datanodes, rounds } => {
                stats::print(false, &heartbeat::run(datanodes, rounds).await?)
            }
            Measure::Lottery(arguments) => stats::print(arguments.json, &lottery::run(&arguments).await?),
            Measure::Start { rounds } => stats::print(false, &footprint::start(rounds).await?),
        }
    })
}
