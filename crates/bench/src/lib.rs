//! All assignments: load generator and side-by-side comparisons. Nothing needs it to run.
//!
//! | command | what it measures |
//! | --- | --- |
//! | `bench load` | one target: rate and latencies, in a closed loop or at a fixed rate |
//! | `bench compare` | `server`, the store or `echo-server`, and Redis, in one run, alternating, with the raw `fdatasync` rate of that run |
//! | `bench agree` | this load generator and `redis-benchmark` on the same Redis, alternating |
//! | `bench idle` | resident memory of `server` with many idle connections |
//! | `bench start` | time from the start of `server` to its first reply |
//! | `bench scale` | many messages through the store: memory for each, and time until all is back after `kill -9` |
//! | `bench lottery` | whole lotteries of real programs: time, bets a second beside a plain write, memory of the server |
//! | `bench heartbeat` | a headnode's heartbeat with thousands of simulated datanodes |
//!
//! Absolute figures move with the machine: compare only what was measured in one run.

mod compare;
mod echo;
mod footprint;
mod heartbeat;
mod load;
mod lottery;
mod peers;
mod scale;
mod stats;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use service::cli;

use load::{Load, Protocol};

/// Measures the programs of this workspace, and Redis beside them.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Put load on one target and show rate and latencies
    Load(LoadArguments),
    /// `server` or the store beside Redis with `appendfsync always`, alternating, durable before each reply
    Compare(CompareArguments),
    /// This load generator beside `redis-benchmark`, on the same Redis
    Agree(CompareArguments),
    /// Resident memory of `server` with idle connections
    Idle {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// Time from the start of `server` to its first reply
    Start {
        /// How often to measure
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// Many messages through the store: memory for each, and time until everything is back after kill -9
    Scale {
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        messages: u64,
        /// Folder for the data
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Whole lotteries, from the start of the agencies to the last one's winners, beside a plain write of the same file
    Lottery(LotteryArguments),
    /// The heartbeat of a headnode with simulated datanodes: processor time, datagrams, losses
    Heartbeat {
        /// How many
        #[arg(long, default_value_t = 1000)]
        datanodes: usize,
        /// Rounds that are measured, 5 s each
        #[arg(long, default_value_t = 5)]
        rounds: u64,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct LoadArguments {
    /// Where to send
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    address: SocketAddr,
    /// What is there
    #[arg(long, value_name = "PROTOCOL", default_value = "server")]
    protocol: Protocol,
    /// Connections at the same time
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Closed loop: messages on their way on each connection
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Messages in all
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Bytes of each message
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Open loop: send this many a second whatever comes back, and measure from when each was due
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct CompareArguments {
    /// What is compared with Redis; the store also with nutcracker in front of three Redis, its own topology
    #[arg(long, value_name = "WHAT", default_value = "server")]
    target: Target,
    /// Rounds; in each every side is measured, in rotating order
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Length of each measurement, roughly
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = cli::duration)]
    length: Duration,
    /// Bytes of each message
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Folder for the data of both sides, so that they use the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// What `server` logs while it is measured (Redis logs no request)
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    server_log_level: String,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct LotteryArguments {
    /// How many
    #[arg(long, default_value_t = 5, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    agencies: usize,
    /// Bets in all; the default is what the course's five agencies have
    #[arg(long, default_value_t = 78_697, value_parser = clap::value_parser!(u64).range(1..))]
    bets: u64,
    /// Bets in a batch
    #[arg(long, default_value_t = 150)]
    batch: usize,
    /// Kill server and agencies when nine tenths are stored, and measure what comes then: all bets are sent again, in
    /// batches two thirds as large
    #[arg(long)]
    interrupted: bool,
    /// Rounds; in each both sides are measured, in alternating order
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Folder for the data, so that both sides use the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// What can be compared with Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// Actividad 1's server
    Server,
    /// Actividad 2's headnode and three datanodes
    Store,
    /// TP0's echo server with kept connections, beside Redis PING: neither stores anything
    Echo,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse("BENCH", std::env::args_os()) {
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
    // One thread, as `redis-benchmark` has: the other processors are for the side that is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Measure::Load(arguments) => {
                let json = arguments.json;
                let report = load::run(&Load::from(&arguments), true).await?;
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
            Measure::Heartbeat { datanodes, rounds } => {
                stats::print(false, &heartbeat::run(datanodes, rounds).await?)
            }
            Measure::Lottery(arguments) => stats::print(arguments.json, &lottery::run(&arguments).await?),
            Measure::Start { rounds } => stats::print(false, &footprint::start(rounds).await?),
        }
    })
}

impl From<&LoadArguments> for Load {
    fn from(arguments: &LoadArguments) -> Self {
        Self {
            address: arguments.address,
            protocol: arguments.protocol,
            connections: arguments.connections,
            pipeline: arguments.pipeline,
            messages: arguments.messages,
            size: arguments.size,
            rate: arguments.rate,
        }
    }
}
