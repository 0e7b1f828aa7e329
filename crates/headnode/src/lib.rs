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
//! | [`cluster_view`] | what other parts see of the cluster |
//! | [`cluster_event`] | what happens to datanodes, with its cause |
//! | [`lead`], `leading` | whether this headnode leads, and what it does then |
//! | [`role`] | whether it leads, as its page and monitors see it |
//! | [`standby`] | what a headnode does that does not lead |
//! | [`probing`] | sends probes |
//! | `metrics`, `gauges` | what is counted, and what is set when somebody asks |
//! | `store_page`, `frame`, `store_history`, `recent_messages` | what the page and monitors see |
//! | `care` | starts and ends the tasks that care for copies |
//! | [`copies`] | which copies of a message count, as pure types |
//! | [`keeper`], [`drained`] | how long each datanode has been away, and what operators have decided about it |
//! | [`repair`] | copies messages that have too few copies |
//! | `damage` | asks datanodes which records they have found damaged |
//! | `desk` | what operators ask for: drain, forget, fsck |
//! | [`placer`] | stores a message although datanodes may fail meanwhile, and reads it back |
//! | `connection` | the connection of a client: requests and replies |
//! | `arguments` | the command line and the settings |
//!
//! Of several headnodes of one group one leads, and the others stand by.

#![allow(missing_docs, reason = "a program's own library: only its binary and tests use it")]

mod arguments;
mod care;
pub mod cluster_event;
pub mod cluster_view;
mod connection;
pub mod copies;
mod damage;
pub mod datanode_table;
mod desk;
pub mod drained;
mod frame;
mod gauges;
pub mod heartbeat;
mod heartbeat_file;
pub mod keeper;
pub mod lead;
mod leading;
pub mod link;
pub mod membership;
pub mod metrics;
pub mod placement_error;
pub mod placer;
pub mod probing;
mod recent_messages;
pub mod registry;
pub mod repair;
pub mod role;
pub mod standby;
mod store_history;
mod store_page;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use cluster_key::{Door, KeyPurpose, KeyedNetwork};
use journal::{Disk, WriteFailure};
use protocol::store::client_api::ErrorCode;
use protocol::store::types::Epoch;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::epoch_file::{EpochFile, KeptEpoch};
use service::net::{self, Network};
use service::{Environment, Shutdown};
use tokio::sync::watch;

pub use arguments::{HeadnodeArguments, HeadnodeConfig, PAGE_PORT};
use lead::{EPOCH_FILE, EpochLead, LeadEnd};
use leading::Headnode;
use metrics::HeadnodeMetrics;
use probing::Prober;
use recent_messages::RecentMessages;
use role::HeadnodeRole;
use standby::{StandbyConfig, stand_by};
use store_page::{StorePage, StorePageSettings};

/// The lowest number of open files that are reserved for connections to datanodes.
const MIN_DATANODES: usize = 1024;

/// Where a headnode listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// The address that clients connect to.
    pub clients: SocketAddr,
    /// The address of the page, if there is one.
    pub page: Option<SocketAddr>,
}

/// Runs the headnode until `shutdown`, on the network of the operating system.
///
/// # Errors
/// Fails if the headnode cannot start, or if one of its files fails.
pub async fn run(config: HeadnodeConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    run_in(Environment::real(rand::random()), config, shutdown, |_| {}).await
}

/// Runs the headnode until `shutdown`, in the given environment. Calls `ready` when clients can connect, which they cannot
/// while the headnode stands by.
///
/// # Errors
/// Fails as [`run`] does.
pub async fn run_in<N: Network>(
    environment: Environment<N, Disk>,
    config: HeadnodeConfig,
    shutdown: Shutdown,
    ready: impl FnOnce(Listening),
) -> anyhow::Result<()> {
    let datanodes = config.expected.max(MIN_DATANODES);
    net::make_room_for(config.max_connections + datanodes + config.page.connections())
        .map_err(anyhow::Error::msg)?;
    let mut rng = StdRng::seed_from_u64(environment.seed);
    let environment = environment.with_network(|network| {
        KeyedNetwork::new(network, config.keys.clone(), || rng.random(), door(&config))
    });
    let run = environment.clock.new_ulid(rng.random());
    let datagrams = environment.network.sender(&config.interface).await;
    let datagrams = Arc::new(datagrams.context("cannot open the heartbeat's socket")?);
    let prober = Arc::new(Prober { datagrams, group: config.group, peers: config.peers.clone() });
    let epoch_file = EpochFile::open(&environment.disk, config.data_dir.join(EPOCH_FILE))
        .context("cannot read headnode.epoch")?;
    let metrics = HeadnodeMetrics::new();
    let recent = Arc::new(RecentMessages::new(config.page_messages));
    let role = watch::Sender::new(HeadnodeRole::StandsBy(epoch_file.epoch()));
    let page = page::bind(&config.page)?;
    let page_address = page.as_ref().map(|page| page.address);
    let page = page.map(|listener| {
        let settings = StorePageSettings {
            run,
            expected: config.expected,
            replicas: config.replicas,
            interval: config.interval,
            data_dir: config.data_dir.clone(),
        };
        let source = StorePage::new(role.subscribe(), metrics.clone(), recent.clone(), settings);
        environment.run_beside("page", page::serve(listener, Arc::new(source), shutdown.clone()))
    });
    let page = page.transpose().context("cannot start the page's thread")?;
    let mut ready = Some(ready);
    let mut ready = |clients| {
        if let Some(ready) = ready.take() {
            ready(Listening { clients, page: page_address });
        }
    };
    let mut headnode =
        Headnode { environment, config, shutdown, prober, epoch_file, role, run, metrics, recent, rng };
    let outcome = lead_and_stand_by(&mut headnode, &mut ready).await;
    drop(page);
    outcome
}

/// Returns who may connect if there is a key.
fn door(config: &HeadnodeConfig) -> Door {
    let reason = "this headnode serves only who shows a key of the cluster: use store-client --key-file with a file that \
                  store-client key client has made"
        .to_owned();
    let purpose = (!config.open_clients).then_some(KeyPurpose::Client);
    Door { purpose, refusal: connection::refusal(ErrorCode::KeyRequired, reason) }
}

/// Leads whenever no other headnode does, until the program ends.
async fn lead_and_stand_by<N: Network>(
    headnode: &mut Headnode<N>,
    ready: &mut impl FnMut(SocketAddr),
) -> anyhow::Result<()> {
    let kept = headnode.epoch_file.kept();
    let is_new = kept.is_none() && !headnode.config.standby;
    let mut next = match kept {
        Some(KeptEpoch { epoch, is_own: true }) => Some(epoch),
        _ => is_new.then(|| Epoch::after(None, headnode.run)),
    };
    loop {
        let epoch = match next.take() {
            Some(epoch) => epoch,
            None => match next_epoch(headnode).await {
                Some(epoch) => epoch,
                None => return Ok(()),
            },
        };
        let lead = Arc::new(EpochLead::new(epoch));
        match headnode.lead(lead.clone(), ready).await? {
            None => return Ok(()),
            // A headnode that has lost its disk, or is the first one with an epoch, begins behind what was there before.
            Some(LeadEnd::Superseded(higher)) if is_new && !lead.was_welcomed() => {
                next = Some(Epoch::after(Some(higher), headnode.run));
            }
            Some(end) => {
                let higher = match end {
                    LeadEnd::Superseded(higher) => {
                        tracing::warn!(%epoch, %higher, "superseded: another headnode has taken over, and this one stands by");
                        higher
                    }
                    LeadEnd::Isolated => {
                        tracing::warn!(%epoch, "too few datanodes answer: another headnode may lead, and this one stands by");
                        epoch
                    }
                };
                match headnode.epoch_file.keep(KeptEpoch { epoch: higher, is_own: false }) {
                    // After a restart this headnode leads in its old epoch, and learns again that there is a higher one.
                    Err(failure @ WriteFailure::NoSpace(_)) => {
                        tracing::warn!(%failure, "cannot keep the epoch");
                    }
                    kept => kept?,
                }
            }
        }
    }
}

/// Stands by until no headnode leads, and returns the epoch in which this one takes over. Returns `None` if the program
/// ends.
async fn next_epoch<N: Network>(headnode: &mut Headnode<N>) -> Option<Epoch> {
    let Headnode { prober, config, epoch_file, rng, role, shutdown, run, .. } = headnode;
    let standby =
        StandbyConfig { interval: config.interval, expected: config.expected, highest: epoch_file.epoch() };
    tokio::select! {
        biased;
        () = shutdown.requested() => None,
        highest = stand_by(prober, standby, rng, role) => {
            let epoch = Epoch::after(highest, *run);
            tracing::warn!(%epoch, "takes over: a majority of the datanodes say that no headnode leads");
            Some(epoch)
        }
    }
}
