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
    /// Puts load on one target and shows rate and latencies
    Load(LoadArguments),
    /// Measures `server`, the store or `echo-server` beside Redis, in turn; what is stored is on disk before each reply
    Compare(CompareArguments),
    /// Measures this load generator beside `redis-benchmark`, on the same Redis
    Agree(CompareArguments),
    /// Measures the resident memory of `server` with idle connections
    Idle {
        /// Number of idle connections to open
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// Measures the time from the start of `server` to its first reply
    Start {
        /// Number of measurements
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// Puts many messages into the store: memory for each, and time until everything is back after kill -9
    Scale {
        /// Number of messages to store
        #[arg(long, default_value_t = 1_000_000)]
        messages: u64,
        /// Folder for the data
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Deletes the disk of one of three datanodes under load: time until each message has two copies again
    Repair {
        /// Number of messages to store before
        #[arg(long, default_value_t = 1_000_000)]
        messages: u64,
        /// Number of clients that put messages all the time
        #[arg(long, default_value_t = 50)]
        connections: usize,
        /// How long the datanode may be away before its messages are copied
        #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = cli::duration)]
        repair_after: Duration,
        /// Folder for the data
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Holds whole lotteries, from the start of the agencies to the last one's winners, beside a plain write of the same file
    Lottery(LotteryArguments),
    /// Measures DataFrames: one process and workers beside DataFusion, Polars, DuckDB and Dask, tasks, and killed workers
    Dataframe(DataFrameArguments),
    /// Kills the leading one of two masters of DataFrames, again and again, in the middle of a job
    Takeover(TakeoverArguments),
    /// Measures what looking costs the store: without a page, with one that nobody looks at, with one open page, with many
    Watched(WatchedArguments),
    /// Ends the leading one of two headnodes, again and again
    StoreTakeover(StoreTakeoverArguments),
    /// Floods the heartbeat of a store with datagrams of others: false alarms, processor time
    Flood(FloodArguments),
    /// Measures the heartbeat of a headnode with simulated datanodes: processor time, datagrams, losses
    Heartbeat {
        /// Number of simulated datanodes
        #[arg(long, default_value_t = 1000)]
        datanodes: usize,
        /// Number of rounds to measure, 5 s each
        #[arg(long, default_value_t = 5)]
        rounds: u64,
    },
}

#[derive(Debug, Clone, clap::Args)]
pub struct LoadArguments {
    /// Address of the target
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    pub address: SocketAddr,
    /// Protocol of the target
    #[arg(long, value_name = "PROTOCOL", default_value = "server")]
    pub protocol: Protocol,
    /// Number of connections at the same time
    #[arg(long, default_value_t = 50)]
    pub connections: usize,
    /// Closed loop: number of messages on their way on each connection
    #[arg(long, default_value_t = 1)]
    pub pipeline: usize,
    /// Number of messages in all
    #[arg(long, default_value_t = 100_000)]
    pub messages: u64,
    /// Length of each message in bytes
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Open loop: number of messages to send each second, whatever comes back; latencies count from when each was due
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct CompareArguments {
    /// Program that is compared with Redis; the store is also compared with nutcracker in front of three Redis
    #[arg(long, value_name = "WHAT", default_value = "server")]
    pub target: ComparisonTarget,
    /// Number of rounds; each measures every side, in rotating order
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Approximate length of each measurement
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = cli::duration)]
    pub length: Duration,
    /// Length of each message in bytes
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Folder for the data of both sides, so that they use the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Least severe events that `server` logs while it is measured (Redis logs no request)
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub server_log_level: String,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct LotteryArguments {
    /// Number of agencies
    #[arg(long, default_value_t = 5, value_parser = cli::count(1..=10_000))]
    pub agencies: usize,
    /// Number of bets in all; the default is what the course's five agencies have
    #[arg(long, default_value_t = 78_697, value_parser = clap::value_parser!(u64).range(1..))]
    pub bets: u64,
    /// Number of bets in a batch
    #[arg(long, default_value_t = 150)]
    pub batch: usize,
    /// Kill server and agencies when nine tenths are stored, and measure what follows: all bets are sent again, in batches
    /// two thirds as large
    #[arg(long)]
    pub interrupted: bool,
    /// Number of rounds; each measures both sides, in alternating order
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Folder for the data, so that both sides use the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct DataFrameArguments {
    /// Number of rows of each of the two files
    #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub rows: u64,
    /// Folder for the files; they are made once, from a seed
    #[arg(long, value_name = "DIR", default_value = "target/bench-data")]
    pub dir: PathBuf,
    /// Number of rounds; each measures every side, in rotating order
    #[arg(long, default_value_t = 5, value_parser = cli::count(1..=1000))]
    pub rounds: usize,
    /// Python with the packages of crates/bench/peers/requirements.txt; without it Polars, DuckDB and Dask do not take part
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<PathBuf>,
    /// Folder for charts in SVG
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Show and draw the figures of an earlier run, which `--json` printed into this file, and measure nothing
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Leave out the queries beside the other DataFrames
    #[arg(long)]
    pub skip_queries: bool,
    /// Leave out the queries with 1, 2 and 4 workers
    #[arg(long)]
    pub skip_scaling: bool,
    /// Leave out empty tasks, killed workers and memory
    #[arg(long)]
    pub skip_middlewares: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct TakeoverArguments {
    /// Middleware of the cluster, as `--middleware` of its programs names it
    #[arg(long, value_name = "NAME", default_value = "grpc")]
    pub middleware: String,
    /// Number of masters to kill
    #[arg(long, default_value_t = 100, value_parser = cli::count(1..=100_000))]
    pub rounds: usize,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct WatchedArguments {
    /// Number of pages that are many
    #[arg(long, default_value_t = 1000, value_parser = cli::count(2..=1024))]
    pub pages: usize,
    /// Folder with the programs `headnode` and `datanode` of another version, to measure it too
    #[arg(long, value_name = "DIR")]
    pub other: Option<PathBuf>,
    /// Number of rounds; each measures every side, in rotating order
    #[arg(long, default_value_t = 20, value_parser = cli::count(1..=10_000))]
    pub rounds: usize,
    /// Approximate length of each measurement
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = cli::duration)]
    pub length: Duration,
    /// Number of connections at the same time
    #[arg(long, default_value_t = 50, value_parser = cli::count(1..=10_000))]
    pub connections: usize,
    /// Folder for the data of all sides, so that they use the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Says whom `flood` sends datagrams, how many, and for how long.
#[derive(Debug, clap::Args)]
pub struct FloodArguments {
    /// The programs that receive the flood
    #[arg(long, value_name = "WHO", default_value = "headnode")]
    pub target: FloodTarget,
    /// Number of datagrams to send each second
    #[arg(long, default_value_t = 100_000)]
    pub rate: u64,
    /// Length of the flood
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = cli::duration)]
    pub length: Duration,
    /// Flood a store without a key
    #[arg(long)]
    pub plain: bool,
    /// Folder for the data
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct StoreTakeoverArguments {
    /// Number of headnodes to end
    #[arg(long, default_value_t = 100, value_parser = cli::count(1..=100_000))]
    pub rounds: usize,
    /// Stop the leader with SIGSTOP, so that it is silent, in place of kill -9
    #[arg(long)]
    pub silent: bool,
    /// Time from one round of the heartbeat to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = cli::duration)]
    pub interval: Duration,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The programs that receive a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloodTarget {
    /// The headnode's socket of the heartbeat
    Headnode,
    /// The multicast group, so each of the three datanodes
    Datanodes,
}

/// The programs that can be compared with Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ComparisonTarget {
    /// Actividad 1's server
    Server,
    /// Actividad 2's headnode and three datanodes
    Store,
    /// Actividad 2's headnode and three datanodes with a key, beside the same without one
    Key,
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
        Ok(Self { address, protocol, connections, pipeline, messages, size, rate, keys: None })
    }
}
