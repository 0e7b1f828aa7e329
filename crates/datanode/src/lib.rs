//! Actividad 2, a datanode: answers the headnode's heartbeat, and stores messages in `data.txt`.
//!
//! | module | what it does |
//! | --- | --- |
//! | `arguments` | the command line and the settings |
//! | `heartbeat` | joins the multicast group and answers probes |
//! | `connection` | the headnode's connection: store, fetch, inventory |
//! | `lobby` | connections that have not sent a hello yet |
//! | [`store`] | stores each message once, on disk before it is confirmed |
//! | [`contents`] | an index of `data.txt` that copes with lost and damaged records |
//! | [`remembered`] | `datanode.journal`: the names of other datanodes, and the numbers that must not be assigned again |
//!
//! A datanode belongs to one headnode at a time: the newest connection takes over from older ones. So once a new
//! headnode has asked what is held, nothing that an ended headnode left behind is stored any more.
//!
//! A datanode does not talk to other datanodes, and it deletes nothing.

#![allow(missing_docs, reason = "a program's own library: only its binary and tests use it")]

mod arguments;
mod connection;
pub mod contents;
mod heartbeat;
mod identity;
mod lobby;
pub mod remembered;
pub mod store;

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::DATA_FILE;
use service::net::{self, Listener as _, Network};
use service::{Environment, Shutdown, new_ulid};

pub use arguments::{DatanodeArguments, DatanodeConfig};
use connection::ConnectionContext;
use identity::DatanodeIdentity;
use lobby::Lobby;
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
    environment: Environment<N>,
    config: DatanodeConfig,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    net::make_room_for(MAX_CONNECTIONS).map_err(anyhow::Error::msg)?;
    let mut rng = StdRng::seed_from_u64(environment.seed);
    let identity = Arc::new(DatanodeIdentity { name: config.name, incarnation: new_ulid(rng.random()) });
    let store = MessageStore::open(&config.data_dir)?;
    let listener = environment.network.listen(config.listen).await?;
    let address = listener.local_addr().context("cannot tell the listening address")?;
    let heartbeat = heartbeat::AnswererConfig {
        identity: identity.clone(),
        group: config.group,
        interface: config.interface,
        listen: address,
        advertise: config.advertise,
        records: store.records(),
        folder: config.data_dir,
        rng,
    };
    let heartbeat = heartbeat::start(&environment, heartbeat).await?;
    tracing::info!(name = %identity.name, %address, group = %config.group, "listening");

    let data_open = shutdown.hold(DATA_FILE);
    let failure = store.failure();
    let watched = failure.clone();
    let watcher = shutdown.request_on_failure("a file", async move { watched.wait().await });
    let lobby: Arc<Lobby> = Arc::default();
    let context =
        Arc::new(ConnectionContext { identity, store: Mutex::new(store), shutdown: shutdown.clone() });
    let handle = |stream, peer| connection::serve(stream, peer, lobby.enter(), context.clone());
    net::serve(listener, MAX_CONNECTIONS, connection::refusal(), &shutdown, handle).await;
    drop((heartbeat, watcher, context, data_open));
    tracing::info!("data.txt closed");
    failure.get().map_or(Ok(()), |failure| Err(failure.into()))
}
