//! The tasks that take care that each message has enough copies, and what others need of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::store::types::NodeName;
use rand::rngs::StdRng;
use service::WallClock;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster_view::ClusterView;
use crate::desk::OperatorDesk;
use crate::keeper::{Keeper, KeeperInbox, KeeperOutlets};
use crate::metrics::HeadnodeMetrics;
use crate::placer::{Placer, PlacerSettings};
use crate::registry::Registry;
use crate::repair::Repairer;

/// What the tasks need.
pub struct CareSurroundings {
    pub cluster: ClusterView,
    pub registry: Registry,
    /// The datanodes that are declared lost.
    pub forgotten: BTreeSet<NodeName>,
    pub keeper: (KeeperInbox, KeeperOutlets),
    pub settings: PlacerSettings,
    pub metrics: HeadnodeMetrics,
    pub clock: WallClock,
    /// Chooses datanodes.
    pub rng: StdRng,
}

/// The running tasks. They end when this is dropped.
pub struct CopyCare {
    keeping: JoinSet<()>,
    repairing: JoinSet<()>,
}

impl CopyCare {
    /// Starts the tasks. Returns what stores messages, and what operators ask, too.
    pub fn start(
        repair_after: Duration,
        surroundings: CareSurroundings,
    ) -> (Self, Arc<Placer>, OperatorDesk) {
        let CareSurroundings { cluster, registry, forgotten, keeper, settings, metrics, clock, rng } =
            surroundings;
        let (inbox, keeper) = keeper;
        let discounts = keeper.discounts.clone();
        let placer = Placer::new(cluster.clone(), registry.clone(), discounts.clone(), settings, clock, rng);
        let placer = Arc::new(placer);
        let progress = watch::Sender::default();
        let desk = OperatorDesk {
            cluster: cluster.clone(),
            registry: registry.clone(),
            placer: placer.clone(),
            keeper: keeper.clone(),
            progress: progress.subscribe(),
        };
        let repairer = Repairer {
            placer: placer.clone(),
            registry: registry.clone(),
            discounts,
            may_repair: keeper.may_repair,
            replicas: settings.replicas,
            progress,
            metrics,
        };
        let keeper = Keeper::new(cluster, registry, forgotten, inbox, repair_after);
        let (mut keeping, mut repairing) = (JoinSet::new(), JoinSet::new());
        keeping.spawn(keeper.run());
        repairing.spawn(repairer.run());
        (Self { keeping, repairing }, placer, desk)
    }

    /// Ends the tasks. What is being copied is copied and registered first, so the links are still needed.
    pub async fn end(mut self) {
        self.keeping.shutdown().await;
        while self.repairing.join_next().await.is_some() {}
    }
}
