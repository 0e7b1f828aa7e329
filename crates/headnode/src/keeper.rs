//! The keeper of the datanodes' standing: which copies count, and whether messages may be repaired now.
//!
//! It alone owns the list of the datanodes that are declared lost and the memory of how long each one has been away. Which
//! ones are drained, these say themselves: so every headnode knows it before it stores anything there. Others send the keeper
//! requests, and read what it publishes.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::store::types::{NodeName, NodeState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cluster_view::{ClusterStatus, ClusterView, WantedEvents};
use crate::copies::{Absences, Discount, Discounts, Presence};
use crate::damage::DamageWatch;
use crate::drained::DrainedDatanodes;
use crate::registry::{Registry, RegistryError};

/// How many requests of operators may wait.
const QUEUED_REQUESTS: usize = 16;
/// How often the keeper looks at the datanodes: ten times within `--repair-after`, and at least once in this time.
const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// Why a decision about a datanode was not made. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DecisionError {
    #[error("no datanode of this name was ever known")]
    UnknownDatanode,
    #[error("{0} is operative: stop it first, or drain it, so that nothing is lost")]
    Operative(NodeName),
    #[error(
        "{lost} messages exist only on {datanode}: start it again, or accept their loss with --accept-loss"
    )]
    WouldLose { datanode: NodeName, lost: u64 },
    #[error("{0} is not available: start it first; if it is gone for ever, forget it")]
    Away(NodeName),
    #[error("there is no space for the decision: free some, and try again")]
    NoSpace,
    #[error("the headnode cannot write its decisions and stops")]
    Failed,
    #[error("the headnode cannot read its registry")]
    CannotReadRegistry,
}

/// The decision of an operator that a datanode is gone for ever.
#[derive(Debug)]
pub struct LossRequest {
    pub datanode: NodeName,
    pub answer: oneshot::Sender<Result<(), DecisionError>>,
}

/// The keeper's ends of its channels.
pub struct KeeperInbox {
    requests: mpsc::Receiver<LossRequest>,
    drained: watch::Receiver<BTreeSet<NodeName>>,
    discounts: watch::Sender<Discounts>,
    may_repair: watch::Sender<bool>,
}

/// The other ends, for the rest of the program.
#[derive(Debug, Clone)]
pub struct KeeperOutlets {
    pub requests: mpsc::Sender<LossRequest>,
    pub drained: DrainedDatanodes,
    /// The datanodes whose copies do not count.
    pub discounts: watch::Receiver<Discounts>,
    /// Whether messages may be repaired now.
    pub may_repair: watch::Receiver<bool>,
}

/// Returns the two ends of the channels between the keeper and the rest of the program. From the first moment on, the
/// copies on datanodes that are declared lost do not count.
pub fn channels(forgotten: &BTreeSet<NodeName>) -> (KeeperInbox, KeeperOutlets) {
    let (requests, requests_in) = mpsc::channel(QUEUED_REQUESTS);
    let forgotten = forgotten.iter().map(|name| (name.clone(), Discount::Forgotten)).collect();
    let (discounts, may_repair) = (watch::Sender::new(forgotten), watch::Sender::new(false));
    let names = watch::Sender::new(BTreeSet::new());
    let drained_in = names.subscribe();
    let outlets = KeeperOutlets {
        requests,
        drained: DrainedDatanodes::new(names, discounts.subscribe()),
        discounts: discounts.subscribe(),
        may_repair: may_repair.subscribe(),
    };
    (KeeperInbox { requests: requests_in, drained: drained_in, discounts, may_repair }, outlets)
}

/// The state of the keeper.
pub struct Keeper {
    cluster: ClusterView,
    registry: Registry,
    /// The datanodes that are declared lost.
    forgotten: BTreeSet<NodeName>,
    absences: Absences,
    damage: DamageWatch,
    inbox: KeeperInbox,
    repair_after: Duration,
    start: Instant,
}

impl Keeper {
    /// Returns the keeper without starting it.
    pub fn new(
        cluster: ClusterView,
        registry: Registry,
        forgotten: BTreeSet<NodeName>,
        inbox: KeeperInbox,
        repair_after: Duration,
    ) -> Self {
        let (absences, damage, start) = (Absences::default(), DamageWatch::default(), Instant::now());
        Self { cluster, registry, forgotten, absences, damage, inbox, repair_after, start }
    }

    /// Runs until nobody can ask for anything any more.
    pub async fn run(mut self) {
        let mut ticks = interval((self.repair_after / 10).clamp(SHORTEST_TICK, LONGEST_TICK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut table = self.cluster.table.clone();
        loop {
            tokio::select! {
                biased;
                request = self.inbox.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
                // A datanode that is back counts at once, and one that is drained no more.
                Ok(()) = table.changed() => self.observe().await,
                Ok(()) = self.inbox.drained.changed() => self.observe().await,
                _ = ticks.tick() => self.observe().await,
            }
        }
    }

    async fn answer(&mut self, LossRequest { datanode, answer }: LossRequest) {
        let outcome = self.declare_lost(&datanode).await;
        self.observe().await;
        // Whoever has disconnected needs no answer.
        let _ = answer.send(outcome);
    }

    async fn declare_lost(&mut self, name: &NodeName) -> Result<(), DecisionError> {
        let status = self.cluster.status(WantedEvents::default()).await;
        let known = status.datanodes.iter().find(|datanode| &datanode.name == name);
        let is_registered =
            || self.registry.holdings(|holdings| holdings.datanodes().any(|held| held == name));
        if known.is_none() && !self.forgotten.contains(name) && !is_registered() {
            return Err(DecisionError::UnknownDatanode);
        }
        if known.is_some_and(|datanode| datanode.state != NodeState::NotOperative) {
            return Err(DecisionError::Operative(name.clone()));
        }
        self.write(name, true)?;
        tracing::warn!(datanode = %name, "declared lost: its copies count no more");
        self.registry.forget(std::slice::from_ref(name));
        self.cluster.forget(name.clone()).await;
        Ok(())
    }

    fn write(&mut self, name: &NodeName, is_lost: bool) -> Result<(), DecisionError> {
        self.registry.set_forgotten(name, is_lost).map_err(|failure| {
            tracing::error!(%failure, "cannot write headnode.journal");
            if matches!(failure, RegistryError::NoSpace(_)) {
                DecisionError::NoSpace
            } else {
                DecisionError::Failed
            }
        })?;
        if is_lost {
            self.forgotten.insert(name.clone());
        } else {
            self.forgotten.remove(name);
        }
        Ok(())
    }

    /// Looks at the datanodes, and publishes what has changed.
    async fn observe(&mut self) {
        let status = self.cluster.status(WantedEvents::default()).await;
        self.take_back(&status);
        let now = self.start.elapsed();
        let available = status.datanodes.iter().map(|one| (&one.name, one.state == NodeState::Available));
        self.absences.observe(now, available);
        let away = self.absences.longer_than(self.repair_after, now).map(|name| (name, Discount::Away));
        let drained = self.inbox.drained.borrow_and_update().clone();
        let drained = drained.iter().map(|name| (name, Discount::Draining));
        let forgotten = self.forgotten.iter().map(|name| (name, Discount::Forgotten));
        let all = away.chain(drained).chain(forgotten);
        let discounts: Discounts = all.map(|(name, discount)| (name.clone(), discount)).collect();
        let presence = presence(&status, &discounts);
        self.inbox.discounts.send_if_modified(|published| replace_if_new(published, discounts));
        let may_repair = presence.allows_repair(now, self.repair_after);
        self.inbox.may_repair.send_if_modified(|published| replace_if_new(published, may_repair));
        self.damage.look(&status, &self.cluster, &self.registry).await;
    }

    /// Lets the copies of datanodes count again that were declared lost and have come back.
    fn take_back(&mut self, status: &ClusterStatus) {
        let available = status.datanodes.iter().filter(|one| one.state == NodeState::Available);
        let back: Vec<_> =
            available.map(|one| &one.name).filter(|name| self.forgotten.contains(*name)).collect();
        for name in back {
            if self.write(name, false).is_ok() {
                tracing::warn!(datanode = %name, "it was declared lost and has come back: its copies count again");
            }
        }
    }
}

/// Counts the datanodes that are not forgotten.
fn presence(status: &ClusterStatus, discounts: &Discounts) -> Presence {
    let is_known = |name: &NodeName| discounts.of(name) != Some(Discount::Forgotten);
    let states: Vec<_> =
        status.datanodes.iter().filter(|one| is_known(&one.name)).map(|one| one.state).collect();
    let count = |wanted: &[NodeState]| states.iter().filter(|state| wanted.contains(state)).count();
    Presence {
        known: states.len(),
        operative: count(&[NodeState::Available, NodeState::Operative]),
        available: count(&[NodeState::Available]),
    }
}

fn replace_if_new<T: PartialEq>(published: &mut T, new: T) -> bool {
    let is_new = *published != new;
    *published = new;
    is_new
}
