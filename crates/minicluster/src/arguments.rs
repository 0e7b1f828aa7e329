//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use page::PageArguments;
use service::{Common, cli};

/// Starts a headnode and datanodes on this computer, then stores the lines that you type.
///
/// Other clients can connect meanwhile: store-client put "Hola", or nc.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "minicluster",
    version,
    // Between the lines that are typed, only what is wrong.
    mut_arg("log_level", |flag| flag.default_value("warn")),
    after_help = "Examples:\n  minicluster\n  seq 1000 | minicluster\n  minicluster --datanodes 5 --replicas 2 --data-dir /tmp/store\n\
                  Each flag can also be set in the environment: --data-dir as MINICLUSTER_DATA_DIR.\n\n\
                  Built with --features simulation, minicluster simulate --help runs simulated stores."
)]
pub struct MiniclusterArguments {
    /// Number of datanodes, 1 to 100
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = cli::count(1..=100))]
    pub datanodes: usize,
    /// Number of datanodes that must confirm a message before the client is told
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = cli::count(1..=100))]
    pub replicas: usize,
    /// Time from one round of the heartbeat to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = cli::duration)]
    pub interval: Duration,
    /// Address and port for clients; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Folder that gets a folder for each part of the store, and registro_cliente.txt
    #[arg(long, value_name = "DIR", default_value = "run")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub page: PageArguments,
    #[command(flatten)]
    pub common: Common,
}
