//! Actividad 2, a datanode: answers the headnode's heartbeat, and stores messages in `data.txt`.
//!
//! | module | what it does |
//! | --- | --- |
//! | `arguments` | the command line and the settings |
//! | `heartbeat` | joins the multicast group and answers probes |
//! | `connection` | the headnode's connection: store, fetch, inventory |
//! | `metrics` | what is counted, and whether the datanode is well |
//! | `lobby` | connections that have not sent a hello yet |
//! | [`claim`] | which connection of which headnode may store |
//! | `scrub` | reads `data.txt` again and again, to find what was damaged |
//! | [`store`] | stores each message once, on disk before it is confirmed |
//! | [`contents`] | an index of `data.txt` that copes with lost and damaged records |
//!
//! A datanode belongs to one headnode at a time: to that with the highest epoch, whose newest connection takes over from
//! older ones. So once a new headnode has asked what is held, nothing that an earlier headnode left behind is stored any
//! more. The epoch is in `datanode.epoch` before the headnode is welcomed.
//!
//! A datanode does not talk to other datanodes, and it deletes nothing.

#![allow(missing_docs, reason = "a program's own library: only its binary and tests use it")]

mod arguments;
pub mod claim;
mod connection;
pub mod contents;
mod heartbeat;
mod identity;
mod lobby;
mod metrics;
mod scrub;
pub mod store;

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use cluster_key::{Door, KeyPurpose, KeyedNetwork};
use journal::Disk;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::DATA_FILE;
use service::net::{self, Listener as _, Network};
use service::{Environment, Shutdown};
use tokio::task::JoinSet;

pub use arguments::{DatanodeArguments, DatanodeConfig};
use connection::ConnectionContext;
use identity::DatanodeIdentity;
use lobby::Lobby;
use metrics::{DatanodeMetrics, DatanodeMonitor};
use page::latency::LatencyWindow;
use store::MessageStore;

/// Connections at the same time: one headnode, broken connections that the datanode has not noticed yet, those in the
/// lobby, and those that are being closed.
const MAX_CONNECTIONS: usize = 256;

/// Runs the datanode until `shutdown`, on the network of the operating system.
///
/// # Errors
/// Fails if the datanode cannot start, or if `data.txt` fails so that nothing more can be confirmed.
pub async fn run(config: DatanodeConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    run_in(Environment::real(rand::random()), config, shutdown).await
}

/// Runs the datanode until `shutdown`, in the given environment.
///
/// # Errors
/// Fails as [`run`] does.
pub async fn run_in<N: Network>(
    environment: Environment<N, Disk>,
    config: DatanodeConfig,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    net::make_room_for(MAX_CONNECTIONS + config.metrics.connections()).map_err(anyhow::Error::msg)?;
    let mut rng = StdRng::seed_from_u64(environment.seed);
    let door = Door { purpose: Some(KeyPurpose::Link), refusal: connection::key_refusal() };
    let environment = environment
        .with_network(|network| KeyedNetwork::new(network, config.keys.clone(), || rng.random(), door));
    let identity = Arc::new(DatanodeIdentity {
        name: config.name,
        incarnation: environment.clock.new_ulid(rng.random()),
    });
    let metrics = DatanodeMetrics::default();
    let store = MessageStore::open(&environment.disk, &config.data_dir, metrics.clone())?;
    let monitor = page::bind(&config.metrics)?;
    let listener = environment.network.listen(config.listen).await?;
    let address = listener.local_addr().context("cannot tell the listening address")?;
    let heartbeat = heartbeat::AnswererConfig {
        identity: identity.clone(),
        group: config.group,
        interface: config.interface,
        listen: address,
        advertise: config.advertise,
        records: store.records(),
        claim: store.current_claim(),
        unreadable: store.unreadable(),
        folder: config.data_dir,
        syncs: LatencyWindow::new(metrics.sync_duration.clone()),
        rng,
    };
    let heartbeat = heartbeat::start(&environment, heartbeat).await?;
    tracing::info!(name = %identity.name, %address, group = %config.group, "listening");

    let data_open = shutdown.hold(DATA_FILE);
    let failure = store.failure();
    let monitor = monitor.map(|listener| {
        let source = DatanodeMonitor::new(metrics, store.records(), failure.clone());
        environment.run_beside("metrics", page::serve(listener, Arc::new(source), shutdown.clone()))
    });
    let monitor = monitor.transpose().context("cannot start the thread of the metrics")?;
    let watched = failure.clone();
    let watcher = shutdown.request_on_failure("a file", async move { watched.wait().await });
    let lobby: Arc<Lobby> = Arc::default();
    let clock = environment.clock;
    let context =
        Arc::new(ConnectionContext { identity, store: Mutex::new(store), clock, shutdown: shutdown.clone() });
    let mut scrubbing = JoinSet::new();
    scrubbing.spawn(scrub::run(context.clone(), config.scrub_interval));
    let handle = |stream, peer| connection::serve(stream, peer, lobby.enter(), context.clone());
    net::serve(listener, MAX_CONNECTIONS, connection::refusal(), &shutdown, handle).await;
    // The task holds the files, so they are closed when it has ended.
    scrubbing.shutdown().await;
    drop((heartbeat, monitor, watcher, context, data_open));
    tracing::info!("data.txt closed");
    failure.get().map_or(Ok(()), |failure| Err(failure.into()))
}
