//! The time during which a headnode leads: it opens its files, asks the datanodes, and serves clients until the program
//! ends or another headnode takes over.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use batching::FailureSignal;
use journal::{Disk, JournalFile, WriteFailure};
use protocol::store::client_api::ErrorCode;
use protocol::store::types::{Epoch, Incarnation, NodeName};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::epoch_file::{EpochFile, KeptEpoch};
use records::{HEARTBEAT_FILE, REGISTRY_FILE};
use service::net::{self, Listener as _, Network};
use service::{Environment, Shutdown};
use tokio::sync::watch;

use crate::arguments::HeadnodeConfig;
use crate::care::{CareSurroundings, CopyCare};
use crate::cluster_view::ClusterView;
use crate::connection::{self, ClientContext};
use crate::desk::OperatorDesk;
use crate::heartbeat::{self, HeartbeatLoop, HeartbeatSurroundings, Outlets};
use crate::keeper;
use crate::lead::{EpochLead, LeadEnd, majority};
use crate::link::LinkContext;
use crate::membership::{Membership, MembershipConfig};
use crate::metrics::HeadnodeMetrics;
use crate::placer::{Placer, PlacerSettings};
use crate::probing::Prober;
use crate::recent_messages::RecentMessages;
use crate::registry::Registry;
use crate::role::{HeadnodeRole, LedStore};

/// What a headnode has whether or not it leads.
pub struct Headnode<N: Network> {
    pub environment: Environment<N, Disk>,
    pub config: HeadnodeConfig,
    pub shutdown: Shutdown,
    pub prober: Arc<Prober<N::Datagrams>>,
    pub epoch_file: EpochFile,
    pub role: watch::Sender<HeadnodeRole>,
    /// The present run of the headnode.
    pub run: Incarnation,
    pub metrics: HeadnodeMetrics,
    pub recent: Arc<RecentMessages>,
    pub rng: StdRng,
}

/// The files of a headnode that leads, and whom they name.
struct LeaderFiles {
    registry: Registry,
    /// The datanodes that are declared lost.
    forgotten: BTreeSet<NodeName>,
    /// `hearbeat_server.txt`.
    heartbeat: JournalFile,
    membership: Membership,
}

/// What is needed to serve clients.
struct Serving<N: Network> {
    /// `None` if clients can connect only once a majority of the datanodes serves this headnode.
    listener: Option<N::Listener>,
    placer: Arc<Placer>,
    desk: OperatorDesk,
    cluster: ClusterView,
}

impl<N: Network> Headnode<N> {
    /// Leads in `lead.epoch`, which is on disk before any datanode learns of it. Calls `ready` when clients can connect.
    /// Returns why the lead has ended, or `None` if the program ends.
    ///
    /// # Errors
    /// Fails if a file or the address cannot be used, or if a file fails.
    pub async fn lead(
        &mut self,
        lead: Arc<EpochLead>,
        ready: &mut impl FnMut(SocketAddr),
    ) -> anyhow::Result<Option<LeadEnd>> {
        let LeaderFiles { registry, forgotten, heartbeat: file, membership } = self.open_files(lead.epoch)?;
        let needed = self.config.standby.then(|| majority(self.config.expected));
        // With a second headnode, clients may only be served once no other headnode can store for a majority.
        let listener = if needed.is_none() { Some(self.listen().await?) } else { None };
        let (inbox, Outlets { events, names, cluster }) = heartbeat::channels();
        let keeper = keeper::channels(&forgotten);
        let link_context = Arc::new(LinkContext {
            network: self.environment.network.clone(),
            registry: registry.clone(),
            names,
            events,
            headnode: self.run,
            lead: lead.clone(),
            store_timeout: self.config.store_timeout,
            drained: keeper.1.drained.clone(),
            metrics: self.metrics.clone(),
        });
        let (prober, clock) = (self.prober.clone(), self.environment.clock.clone());
        let surroundings = HeartbeatSurroundings { prober, clock: clock.clone(), file, needed };
        let loop_rng = StdRng::seed_from_u64(self.rng.random());
        let heartbeat = HeartbeatLoop::new(membership, loop_rng, surroundings, link_context, inbox);
        let files_open = self.shutdown.hold(REGISTRY_FILE);
        let failure = Arc::new(FailureSignal::default());
        let failed = first_failure(heartbeat, registry.clone(), failure.clone());
        let running = self.shutdown.request_on_failure("a file", failed);
        let surroundings = CareSurroundings {
            cluster: cluster.clone(),
            registry: registry.clone(),
            forgotten,
            keeper,
            settings: PlacerSettings {
                epoch: lead.epoch,
                replicas: self.config.replicas,
                confirmed_by: needed,
            },
            metrics: self.metrics.clone(),
            clock,
            rng: StdRng::seed_from_u64(self.rng.random()),
        };
        let (care, placer, desk) = CopyCare::start(self.config.repair_after, surroundings);
        let led = LedStore { placer: placer.clone(), registered_at_start: registry.messages() };
        self.role.send_replace(HeadnodeRole::Leads(Arc::new(led)));
        let serving = Serving { listener, placer, desk, cluster };
        let ended = self.serve_clients(&lead, serving, ready).await?;
        care.end().await;
        // The heartbeat's file has to be free when the headnode leads again.
        running.abort();
        let _ = running.await;
        self.role.send_replace(HeadnodeRole::StandsBy(Some(lead.epoch)));
        let closed = registry.close().await;
        drop(files_open);
        tracing::info!("registro_server.txt closed");
        failure.get().map_or(closed, Err)?;
        Ok(ended)
    }

    /// Opens the registry first, because its lock keeps a second headnode out of the folder.
    fn open_files(&mut self, epoch: Epoch) -> anyhow::Result<LeaderFiles> {
        let Environment { disk, clock, .. } = &self.environment;
        let config = &self.config;
        let registry = Registry::open(disk, clock.clone(), &config.data_dir.join(REGISTRY_FILE), epoch)?;
        self.epoch_file.keep(KeptEpoch { epoch, is_own: true }).context("cannot keep the epoch")?;
        let heartbeat_path = config.data_dir.join(HEARTBEAT_FILE);
        let (heartbeat, _) = JournalFile::open_on(disk, &heartbeat_path)?;
        if config.standby {
            registry.ask_at_least(config.expected);
        }
        let mut forgotten = registry.forgotten();
        forgotten.extend(config.forget.iter().cloned());
        let membership = membership(config, &registry, &forgotten);
        Ok(LeaderFiles { registry, forgotten, heartbeat, membership })
    }

    async fn listen(&mut self) -> anyhow::Result<N::Listener> {
        let listener = self.environment.network.listen(self.config.listen).await?;
        // If the headnode leads again later, clients find it at the same address.
        self.config.listen = listener.local_addr().context("cannot tell the listening address")?;
        Ok(listener)
    }

    /// Serves clients until the program or the lead ends. Returns why the lead has ended.
    async fn serve_clients(
        &mut self,
        lead: &EpochLead,
        serving: Serving<N>,
        ready: &mut impl FnMut(SocketAddr),
    ) -> anyhow::Result<Option<LeadEnd>> {
        let Serving { listener, placer, desk, mut cluster } = serving;
        let listener = match listener {
            Some(listener) => listener,
            None => {
                let needed = majority(self.config.expected);
                tokio::select! {
                    biased;
                    () = self.shutdown.requested() => return Ok(None),
                    end = lead.ended() => return Ok(Some(end)),
                    // This cannot fail while the heartbeat runs; if it has ended, the program is asked to end.
                    _ = cluster.table.wait_for(|table| table.links().count() >= needed) => {}
                }
                self.listen().await?
            }
        };
        let config = &self.config;
        tracing::info!(address = %config.listen, group = %config.group, epoch = %lead.epoch, "listening");
        ready(config.listen);
        let shutdown = self.shutdown.of_part();
        let context = Arc::new(ClientContext {
            placer,
            desk,
            metrics: self.metrics.clone(),
            recent: self.recent.clone(),
            expected: config.expected,
            idle_timeout: config.idle_timeout,
            shutdown: shutdown.clone(),
        });
        let served = serve(listener, config.max_connections, context, &shutdown);
        tokio::pin!(served);
        tokio::select! {
            biased;
            () = &mut served => Ok(None),
            end = lead.ended() => {
                shutdown.request();
                served.await;
                Ok(Some(end))
            }
        }
    }
}

/// Returns the membership at the start. Every datanode that an earlier run has known is expected to hold records.
fn membership(config: &HeadnodeConfig, registry: &Registry, forgotten: &BTreeSet<NodeName>) -> Membership {
    let HeadnodeConfig { interval, attempts, expected, .. } = *config;
    let mut membership = Membership::new(MembershipConfig { interval, attempts, expected }, Duration::ZERO);
    let forgotten: Vec<_> = forgotten.iter().cloned().collect();
    membership.forget(&forgotten);
    registry.forget(&forgotten);
    for name in registry.names().iter().filter(|name| membership.remember(name)) {
        registry.expect(name);
    }
    membership
}

async fn serve(listener: impl net::Listener, max: usize, context: Arc<ClientContext>, shutdown: &Shutdown) {
    let reason = format!("the headnode serves its {max} connections already: try again later");
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
        failure = first.wait() => failure,
    }
}
