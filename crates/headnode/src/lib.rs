//! Actividad 2, the headnode: asks the datanodes every few seconds whether they are operative, stores each message on
//! one of them (or several), and keeps the registry of where everything is.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`membership`] | who is operative: a pure type |
//! | `heartbeat` | drives it: multicast, answers, `hearbeat_server.txt` |
//! | [`link`] | the connection to a datanode: kept, reconciled, pipelined |
//! | [`directory`] | the operative datanodes, and the random choice among them |
//! | [`registry`] | `registro_server.txt` and its index |
//! | [`placer`] | stores a message whatever fails on the way; reads it back |
//! | `connection` | clients |
//!
//! What it does not do: copy a message again when one of its datanodes is lost for ever, or run beside a second
//! headnode.

mod connection;
pub mod directory;
mod heartbeat;
pub mod link;
pub mod membership;
pub mod placer;
pub mod registry;

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use journal::{Failure, JournalFile};
use protocol::store::client_api::ErrorCode;
use protocol::store::heartbeat::DEFAULT_GROUP;
use protocol::store::types::NodeName;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::{HEARTBEAT_FILE, REGISTRY_FILE};
use service::net::{self, Interface, Listener as _, Network};
use service::{Common, Environment, Shutdown, cli, new_ulid};
use tokio::time::Instant;

use directory::Directory;
use heartbeat::Heartbeat;
use membership::{Config, DEFAULT_ATTEMPTS, Membership};
use placer::Placer;
use registry::Registry;

/// Files for the connections to datanodes, if no more are expected.
const MIN_DATANODES: usize = 1024;

/// Asks datanodes whether they are operative, stores each message on one of them, and keeps the registry.
///
/// Clients send a message a line, or one JSON object a line; try: echo Hola | nc -N localhost 5000
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "headnode",
    version,
    after_help = "Each flag can also be set in the environment: --store-timeout as HEADNODE_STORE_TIMEOUT."
)]
pub struct Arguments {
    /// Address and port to listen on for clients; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,
    /// Folder of hearbeat_server.txt and registro_server.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// The heartbeat
    #[command(flatten)]
    pub heartbeat: HeartbeatArguments,
    /// How messages are stored
    #[command(flatten)]
    pub storing: StoringArguments,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

/// The heartbeat.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Heartbeat")]
pub struct HeartbeatArguments {
    /// Multicast group and port
    #[arg(long, value_name = "IP:PORT", default_value = DEFAULT_GROUP, value_parser = cli::multicast_group)]
    pub group: SocketAddrV4,
    /// Interface: all, an IPv4 address or a name
    #[arg(long, value_name = "INTERFACE", default_value = "all")]
    pub interface: Interface,
    /// From one round to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = cli::duration)]
    pub interval: Duration,
    /// Probes that a datanode gets within a round before it is given up, 1 to 10
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_ATTEMPTS, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub attempts: u32,
    /// Datanodes that should be there, 0 to 100000
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = cli::count(0..=100_000))]
    pub expected: usize,
    /// Datanodes that are gone for ever: nobody waits for what they may hold
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub forget: Vec<NodeName>,
    /// Datanodes to probe by unicast too, where the network carries no multicast: all addresses of each name, at the port of --group
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = cli::host_and_port)]
    pub peers: Vec<String>,
}

/// How messages are stored.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Storing")]
pub struct StoringArguments {
    /// Datanodes that must confirm a message before the client is told, 1 to 16
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = cli::count(1..=16))]
    pub replicas: usize,
    /// How long a datanode may take to confirm before another one is tried
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = cli::duration)]
    pub store_timeout: Duration,
    /// Clients served at the same time, 1 to 1000000; further ones are refused with a reason
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = cli::count(1..=1_000_000))]
    pub max_connections: usize,
    /// How long a client may go without completing a request
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = cli::duration)]
    pub idle_timeout: Duration,
}

/// Runs the headnode until `shutdown`, on the system's network.
///
/// # Errors
/// If it cannot start, or if one of its files fails.
pub async fn run(arguments: Arguments, shutdown: Shutdown) -> anyhow::Result<()> {
    run_in(Environment::real(rand::random()), arguments, shutdown, |_| {}).await
}

/// Runs the headnode until `shutdown`, in the given environment; `ready` is told the address that clients connect to.
///
/// # Errors
/// As [`run`].
pub async fn run_in<N: Network>(
    environment: Environment<N>,
    arguments: Arguments,
    shutdown: Shutdown,
    ready: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    let Arguments { listen, data_dir, heartbeat, storing, .. } = arguments;
    net::make_room_for(storing.max_connections + heartbeat.expected.max(MIN_DATANODES))
        .map_err(anyhow::Error::msg)?;
    let Environment { network, seed, .. } = environment;
    let registry = Registry::open(&data_dir.join(REGISTRY_FILE))?;
    let heartbeat_path = data_dir.join(HEARTBEAT_FILE);
    let (file, _) = JournalFile::open(&heartbeat_path)?;
    let earlier =
        heartbeat::names_in_last_round(&heartbeat_path).context("cannot read hearbeat_server.txt")?;
    let listener = network.listen(listen).await?;
    let address = listener.local_addr().context("cannot tell the listening address")?;
    let datagrams =
        network.sender(&heartbeat.interface).await.context("cannot open the heartbeat's socket")?;
    tracing::info!(%address, group = %heartbeat.group, "listening");
    ready(address);

    let HeartbeatArguments { interval, attempts, expected, group, peers, forget, .. } = heartbeat;
    let mut membership = Membership::new(Config { interval, attempts, expected }, Duration::ZERO);
    membership.forget(&forget);
    registry.forget(&forget);
    let registered = registry.holdings(|holdings| holdings.datanodes().cloned().collect::<Vec<_>>());
    for name in earlier.iter().chain(&registered).filter(|name| membership.remember(name)) {
        registry.expect(name);
    }
    let directory = Arc::new(Directory::new(membership, Instant::now(), seed));
    let links = Arc::new(link::Context {
        network,
        directory: directory.clone(),
        registry: registry.clone(),
        headnode: new_ulid(StdRng::seed_from_u64(seed).random()),
        store_timeout: storing.store_timeout,
    });
    let datagrams = Arc::new(datagrams);
    let heartbeat = Heartbeat { datagrams, group, peers, directory: directory.clone(), links, file };
    let files_open = shutdown.hold(REGISTRY_FILE);
    let watcher = tokio::spawn(end_with(heartbeat, registry.clone(), shutdown.clone()));
    serve(
        listener,
        &storing,
        Placer::new(directory.clone(), registry.clone(), storing.replicas, expected),
        &shutdown,
    )
    .await;
    let failure = if watcher.is_finished() { watcher.await.ok() } else { None };
    for link in directory.available().iter() {
        link.give_up();
    }
    let closed = registry.close();
    drop(files_open);
    tracing::info!("registro_server.txt closed");
    failure.map_or(closed, Err).map_err(Into::into)
}

async fn serve(
    listener: impl net::Listener,
    storing: &StoringArguments,
    placer: Placer,
    shutdown: &Shutdown,
) {
    let max = storing.max_connections;
    let reason = format!("the headnode serves its {max} connections already: try again later");
    let context = Arc::new(connection::Context {
        placer,
        idle_timeout: storing.idle_timeout,
        shutdown: shutdown.clone(),
    });
    let refusal = connection::refusal(ErrorCode::TooManyConnections, reason);
    let handle = |stream, peer| connection::serve(stream, peer, context.clone());
    net::serve(listener, max, refusal, shutdown, handle).await;
}

/// Runs the heartbeat. A file that failed ends the headnode.
async fn end_with<N: Network>(
    heartbeat: Heartbeat<N>,
    registry: Registry,
    shutdown: Shutdown,
) -> Arc<Failure> {
    let failure = tokio::select! {
        biased;
        failure = heartbeat.run() => Arc::new(failure),
        failure = registry.failed() => failure,
    };
    tracing::error!(%failure, "shutting down: a file failed");
    shutdown.request();
    failure
}
