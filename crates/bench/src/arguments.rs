//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Parser, Subcommand};
use service::cli;

use crate::load::{Load, Protocol};

/// Measures the programs of this workspace, and Redis beside them.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct BenchArguments {
    #[command(subcommand)]
    pub command: Measure,
}

#[derive(Debug, Subcommand)]
pub enum Measure {
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
pub struct LoadArguments {
    /// Where to send
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    pub address: SocketAddr,
    /// What is there
    #[arg(long, value_name = "PROTOCOL", default_value = "server")]
    pub protocol: Protocol,
    /// Connections at the same time
    #[arg(long, default_value_t = 50)]
    pub connections: usize,
    /// Closed loop: messages on their way on each connection
    #[arg(long, default_value_t = 1)]
    pub pipeline: usize,
    /// Messages in all
    #[arg(long, default_value_t = 100_000)]
    pub messages: u64,
    /// Bytes of each message
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Open loop: send this many a second whatever comes back, and measure from when each was due
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct CompareArguments {
    /// What is compared with Redis; the store also with nutcracker in front of three Redis, its own topology
    #[arg(long, value_name = "WHAT", default_value = "server")]
    pub target: ComparisonTarget,
    /// Rounds; in each every side is measured, in rotating order
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Length of each measurement, roughly
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = cli::duration)]
    pub length: Duration,
    /// Bytes of each message
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Folder for the data of both sides, so that they use the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// What `server` logs while it is measured (Redis logs no request)
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub server_log_level: String,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct LotteryArguments {
    /// How many
    #[arg(long, default_value_t = 5, value_parser = cli::count(1..=10_000))]
    pub agencies: usize,
    /// Bets in all; the default is what the course's five agencies have
    #[arg(long, default_value_t = 78_697, value_parser = clap::value_parser!(u64).range(1..))]
    pub bets: u64,
    /// Bets in a batch
    #[arg(long, default_value_t = 150)]
    pub batch: usize,
    /// Kill server and agencies when nine tenths are stored, and measure what comes then: all bets are sent again, in
    /// batches two thirds as large
    #[arg(long)]
    pub interrupted: bool,
    /// Rounds; in each both sides are measured, in alternating order
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Folder for the data, so that both sides use the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What can be compared with Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ComparisonTarget {
    /// Actividad 1's server
    Server,
    /// Actividad 2's headnode and three datanodes
    Store,
    /// TP0's echo server with kept connections, beside Redis PING: neither stores anything
    Echo,
}

impl TryFrom<&LoadArguments> for Load {
    type Error = anyhow::Error;

    /// Returns the load that was asked for.
    ///
    /// # Errors
    /// If it would send nothing.
    fn try_from(arguments: &LoadArguments) -> anyhow::Result<Self> {
        let &LoadArguments { address, protocol, connections, pipeline, messages, size, rate, .. } = arguments;
        ensure!(
            connections > 0 && pipeline > 0 && messages > 0,
            "connections, pipeline and messages must be more than 0"
        );
        ensure!(rate.is_none_or(|rate| rate > 0.0), "the rate must be more than 0");
        Ok(Self { address, protocol, connections, pipeline, messages, size, rate })
    }
}
