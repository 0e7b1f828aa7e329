//! Actividad 2, a datanode: answers the headnode's heartbeat, and stores messages in `data.txt`.
//!
//! | module | what it does |
//! | --- | --- |
//! | `heartbeat` | joins the multicast group and answers probes |
//! | `connection` | the headnode's connection: store, fetch, inventory |
//! | `lobby` | connections that have not said hello yet |
//! | [`store`] | each message once, on disk before it is confirmed |
//! | [`contents`] | what `data.txt` holds, whatever the disk did to it |
//! | [`remembered`] | `datanode.journal`: the names of other datanodes, and numbers that are not given again |
//!
//! A datanode belongs to one headnode at a time: the newest connection takes over from older ones, so that nothing a
//! dead headnode left behind is stored after its successor has asked what is held.
//!
//! What it does not do: talk to other datanodes, or delete anything.

mod connection;
pub mod contents;
mod heartbeat;
mod lobby;
pub mod remembered;
pub mod store;

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use protocol::store::heartbeat::DEFAULT_GROUP;
use protocol::store::types::{Incarnation, NodeName};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::DATA_FILE;
use service::net::{self, Interface, Listener as _, Network};
use service::{Common, Environment, Shutdown, new_ulid};

use connection::ConnectionContext;
use lobby::Lobby;
use store::Store;

/// Connections at the same time: one headnode, those that it has not noticed to be broken, those in the lobby, and those
/// that have just been sent away.
const MAX_CONNECTIONS: usize = 256;

/// Answers the headnode's heartbeat and stores messages in data.txt.
///
/// Needs no list of anything: it joins the multicast group, and the headnode finds it.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "datanode",
    version,
    after_help = "Each flag can also be set in the environment: --data-dir as DATANODE_DATA_DIR."
)]
pub struct Arguments {
    /// Name of this datanode, unlike all others [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<NodeName>,
    /// Address and port to listen on for the headnode; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5001")]
    pub listen: SocketAddr,
    /// Address that the headnode is to connect to [default: the address it sees, and the port of --listen]
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,
    /// Multicast group and port of the heartbeat
    #[arg(long, value_name = "IP:PORT", default_value = DEFAULT_GROUP, value_parser = service::cli::multicast_group)]
    pub group: SocketAddrV4,
    /// Interface of the heartbeat: all, an IPv4 address or a name
    #[arg(long, value_name = "INTERFACE", default_value = "all")]
    pub interface: Interface,
    /// Folder of data.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

/// Who this datanode is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub name: NodeName,
    pub incarnation: Incarnation,
}

/// Runs the datanode until `shutdown`, on the system's network.
///
/// # Errors
/// If it cannot start, or if `data.txt` fails so that nothing more can be confirmed.
pub async fn run(arguments: Arguments, shutdown: Shutdown) -> anyhow::Result<()> {
    run_in(Environment::real(rand::random()), arguments, shutdown).await
}

/// Runs the datanode until `shutdown`, in the given environment.
///
/// # Errors
/// As [`run`].
pub async fn run_in<N: Network>(
    environment: Environment<N>,
    arguments: Arguments,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    net::make_room_for(MAX_CONNECTIONS).map_err(anyhow::Error::msg)?;
    let mut rng = StdRng::seed_from_u64(environment.seed);
    let name = arguments.name.clone().map_or_else(host_name, Ok)?;
    let identity = Arc::new(Identity { name, incarnation: new_ulid(rng.random()) });
    let store = Store::open(&arguments.data_dir)?;
    let listener = environment.network.listen(arguments.listen).await?;
    let address = listener.local_addr().context("cannot tell the listening address")?;
    let heartbeat = heartbeat::AnswererConfig {
        identity: identity.clone(),
        group: arguments.group,
        interface: arguments.interface,
        listen: address,
        advertise: arguments.advertise,
        records: store.records(),
        folder: arguments.data_dir,
        rng,
    };
    let heartbeat = heartbeat::start(&environment, heartbeat).await?;
    tracing::info!(name = %identity.name, %address, group = %arguments.group, "listening");

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

fn host_name() -> anyhow::Result<NodeName> {
    let name = nix::unistd::gethostname().context("cannot tell the host's name: set --name")?;
    let name = name.to_string_lossy().into_owned();
    name.parse().context("the host's name cannot be the datanode's: set --name")
}
