//! Makes the files of keys: a new key of the cluster, and the key of its clients.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cluster_key::file::{self, FileKeys};
use cluster_key::{ClusterKey, KeyHolder};

/// What `store-client key` makes.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum KeyCommand {
    /// Makes a new key of the cluster, for --key-file of headnode and datanode
    ///
    /// To replace a key: append a new one to the file of every machine, then move its line to the top everywhere, then remove
    /// the old line everywhere. The programs read their file again in every round of the heartbeat.
    #[command(
        after_help = "Examples:\n  store-client key new cluster.key\n  store-client key new >> cluster.key"
    )]
    New {
        /// File to make, readable by its owner alone [default: standard output]
        #[arg(value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Makes the clients' file from the cluster's: whoever holds it can put and get, and is no part of the cluster
    #[command(after_help = "Example:\n  store-client key client --from cluster.key client.key")]
    Client {
        /// The file of the cluster's keys
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// File to make, readable by its owner alone [default: standard output]
        #[arg(value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Makes what `command` asks for.
///
/// # Errors
/// Fails if a file cannot be read or made.
pub fn run(command: &KeyCommand) -> anyhow::Result<()> {
    let (lines, to) = match command {
        KeyCommand::New { to } => {
            let key = ClusterKey::generate().context("the operating system gives no random numbers")?;
            (file::cluster_line(&key), to)
        }
        KeyCommand::Client { from, to } => match file::read(from, KeyHolder::Cluster)? {
            FileKeys::Cluster(keys) => (file::client_lines(&keys), to),
            FileKeys::Client(_) => {
                unreachable!("a file that is read for the cluster holds keys of the cluster")
            }
        },
    };
    write(to.as_deref(), &lines)
}

fn write(to: Option<&Path>, lines: &str) -> anyhow::Result<()> {
    match to {
        Some(path) => Ok(file::create(path, lines)?),
        None => std::io::stdout().write_all(lines.as_bytes()).context("cannot print the key"),
    }
}
