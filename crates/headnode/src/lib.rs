//! Actividad 2, the headnode: asks the datanodes every few seconds whether they are operative, stores each message on
//! one or several of them, and keeps the registry of all messages and their places.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`membership`] | which datanodes are operative, as a pure type |
//! | [`heartbeat`] | the loop that owns membership and links, sends probes, and ends rounds |
//! | `heartbeat_file` | the lines of `hearbeat_server.txt` |
//! | [`datanode_table`] | the available datanodes, and the random choice among them |
//! | [`link`] | the connection to a datanode: introduced, kept open, pipelined |
//! | [`registry`] | `registro_server.txt` and its index |
//! | [`placer`] | stores a message although datanodes may fail meanwhile, and reads it back |
//! | `connection` | the connection of a client: requests and replies |
//! | `arguments` | the command line and the settings |
//!
//! The headnode does not copy a message again when one of its datanodes is lost for ever, and it cannot run beside a
//! second headnode.

#![allow(missing_docs, reason = "a program's own library: only its binary and tests use it")]

mod arguments;
mod connection;
pub mod datanode_table;
pub mod heartbeat;
mod heartbeat_file;
pub mod link;
pub mod membership;
pub mod placement_error;
pub mod placer;
pub mod registry;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use batching::FailureSignal;
use journal::{JournalFile, WriteFailure};
use protocol::store::client_api::ErrorCode;
use protocol::store::types::NodeName;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::{HEARTBEAT_FILE, REGISTRY_FILE};
use service::net::{self, Listener as _, Network};
use service::{Environment, Shutdown, new_ulid};

pub use arguments::{HeadnodeArguments, HeadnodeConfig};
use connection::ClientContext;
use heartbeat::{HeartbeatLoop, HeartbeatSurroundings, Outlets};
use link::LinkContext;
use membership::{Membership, MembershipConfig};
use placer::Placer;
use registry::Registry;

/// The lowest number of open files that are reserved for connections to datanodes.
const MIN_DATANODES: usize = 1024;

/// Runs the headnode until `shutdown`, on the network of the operating system.
///
/// # Errors
/// Fails if the headnode cannot start, or if one of its files fails.
pub async fn run(config: HeadnodeConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    run_in(Environment::real(rand::random()), config, shutdown, |_| {}).await
}

/// Runs the headnode until `shutdown`, in the given environment. Calls `ready` with the address that clients connect
/// to.
///
/// # Errors
/// Fails as [`run`] does.
pub async fn run_in<N: Network>(
    environment: Environment<N>,
    config: HeadnodeConfig,
    shutdown: Shutdown,
    ready: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    net::make_room_for(config.max_connections + config.expected.max(MIN_DATANODES))
        .map_err(anyhow::Error::msg)?;
    let Environment { network, seed, .. } = environment;
    let mut rng = StdRng::seed_from_u64(seed);
    let registry = Registry::open(&config.data_dir.join(REGISTRY_FILE))?;
    let heartbeat_path = config.data_dir.join(HEARTBEAT_FILE);
    let (file, _) = JournalFile::open(&heartbeat_path)?;
    let earlier =
        heartbeat_file::names_in_last_round(&heartbeat_path).context("cannot read hearbeat_server.txt")?;
    let listener = network.listen(config.listen).await?;
    let address = listener.local_addr().context("cannot tell the listening address")?;
    let datagrams = network.sender(&config.interface).await.context("cannot open the heartbeat's socket")?;
    tracing::info!(%address, group = %config.group, "listening");
    ready(address);

    let membership = membership(&config, &registry, &earlier);
    let (inbox, Outlets { events, names, cluster }) = heartbeat::channels();
    let link_context = Arc::new(LinkContext {
        network,
        registry: registry.clone(),
        names,
        events,
        headnode: new_ulid(rng.random()),
        store_timeout: config.store_timeout,
    });
    let surroundings =
        HeartbeatSurroundings { datagrams, group: config.group, peers: config.peers.clone(), file };
    let loop_rng = StdRng::seed_from_u64(rng.random());
    let heartbeat = HeartbeatLoop::new(membership, loop_rng, surroundings, link_context, inbox);
    let files_open = shutdown.hold(REGISTRY_FILE);
    let failure = Arc::new(FailureSignal::default());
    let failed = first_failure(heartbeat, registry.clone(), failure.clone());
    let running = shutdown.request_on_failure("a file", failed);
    serve(listener, &config, Placer::new(cluster, registry.clone(), config.replicas, rng), &shutdown).await;
    drop(running);
    let closed = registry.close().await;
    drop(files_open);
    tracing::info!("registro_server.txt closed");
    failure.get().map_or(closed, Err).map_err(Into::into)
}

/// Returns the membership at the start. Every datanode that an earlier run has known is expected to hold records.
fn membership(config: &HeadnodeConfig, registry: &Registry, earlier: &[NodeName]) -> Membership {
    let HeadnodeConfig { interval, attempts, expected, .. } = *config;
    let mut membership = Membership::new(MembershipConfig { interval, attempts, expected }, Duration::ZERO);
    membership.forget(&config.forget);
    registry.forget(&config.forget);
    let registered = registry.holdings(|holdings| holdings.datanodes().cloned().collect::<Vec<_>>());
    for name in earlier.iter().chain(&registered).filter(|name| membership.remember(name)) {
        registry.expect(name);
    }
    membership
}

async fn serve(listener: impl net::Listener, config: &HeadnodeConfig, placer: Placer, shutdown: &Shutdown) {
    let max = config.max_connections;
    let reason = format!("the headnode serves its {max} connections already: try again later");
    let context = Arc::new(ClientContext {
        placer,
        expected: config.expected,
        idle_timeout: config.idle_timeout,
        shutdown: shutdown.clone(),
    });
    let refusal = connection::refusal(ErrorCode::TooManyConnections, reason);
    let handle = |stream, peer| connection::serve(stream, peer, context.clone());
    net::serve(listener, max, refusal, shutdown, handle).await;
}

/// Runs the heartbeat until one of the headnode's files fails, sets `first` to that failure, and returns it.
async fn first_failure<N: Network>(
    heartbeat: HeartbeatLoop<N>,
    registry: Registry,
    first: Arc<FailureSignal<WriteFailure>>,
) -> Arc<WriteFailure> {
    tokio::select! {
        biased;
        failure = heartbeat.run() => first.set(failure),
        failure = registry.failure().wait() => failure,
    }
}
