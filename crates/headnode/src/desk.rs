//! What operators can ask for: to drain, keep or forget a datanode, and to check the copies of all messages.

use std::sync::Arc;

use futures_util::future::join_all;
use protocol::store::client_api::{CheckedMessage, FSCK_PAGE, FsckPage, FsckVerdict, MAX_CHECKED_PLACES};
use protocol::store::json;
use protocol::store::node_api::{NodeFailure, NodeReply, NodeRequest};
use protocol::store::types::{NodeName, NodeState, Place, RegistryEntry};
use tokio::sync::{oneshot, watch};

use crate::cluster_view::{ClusterView, WantedEvents};
use crate::copies::{CopyTally, Discount};
use crate::keeper::{DecisionError, KeeperOutlets, LossRequest};
use crate::placer::{CopyState, Placer};
use crate::registry::Registry;
use crate::repair::RepairProgress;

/// Answers operators. All connections share it.
#[derive(Debug)]
pub struct OperatorDesk {
    pub cluster: ClusterView,
    pub registry: Registry,
    pub placer: Arc<Placer>,
    pub keeper: KeeperOutlets,
    pub progress: watch::Receiver<RepairProgress>,
}

impl OperatorDesk {
    /// Lets the messages of a datanode be copied elsewhere. Returns how many have still to be copied, if that was counted
    /// since. If there are none, the datanode can be removed. The datanode itself remembers that it is drained.
    ///
    /// # Errors
    /// Fails with a [`DecisionError`] if the datanode is unknown or away, or cannot write the decision.
    pub async fn drain(&self, name: &NodeName) -> Result<Option<u64>, DecisionError> {
        if self.discount(name) != Some(Discount::Draining) {
            self.set_draining(name, true).await?;
        }
        let progress = self.progress.borrow();
        let is_counted = progress.discounts.of(name) == Some(Discount::Draining);
        let on_datanode = progress.on_draining.get(name).copied().unwrap_or(0);
        Ok(is_counted.then_some(on_datanode + progress.unreadable))
    }

    /// Takes a drain back: the copies on the datanode count again.
    ///
    /// # Errors
    /// Fails as [`drain`](Self::drain) does.
    pub async fn keep(&self, name: &NodeName) -> Result<(), DecisionError> {
        self.set_draining(name, false).await
    }

    async fn set_draining(&self, name: &NodeName, on: bool) -> Result<(), DecisionError> {
        let status = self.cluster.status(WantedEvents::default()).await;
        if !status.datanodes.iter().any(|datanode| &datanode.name == name) {
            return Err(DecisionError::UnknownDatanode);
        }
        let mut line = Vec::new();
        json::encode(&NodeRequest::Drain { on }, &mut line);
        let link = self.cluster.table.borrow().find(name).cloned();
        let asked = link.and_then(|link| link.ask(&line).ok());
        let Some(asked) = asked else { return Err(DecisionError::Away(name.clone())) };
        match asked.await {
            Ok(NodeReply::Drain { on: written }) if written == on => {
                if on {
                    tracing::info!(datanode = %name, "drained: its messages are moved elsewhere");
                } else {
                    tracing::info!(datanode = %name, "kept: its copies count");
                }
                self.keeper.drained.note(name, on).await;
                Ok(())
            }
            Ok(NodeReply::Failed { code: NodeFailure::DiskFull, .. }) => Err(DecisionError::NoSpace),
            // If the datanode has written it, it says so when it is connected again.
            _ => Err(DecisionError::Away(name.clone())),
        }
    }

    /// Declares a datanode lost. Returns how many messages exist nowhere else.
    ///
    /// # Errors
    /// Fails with a [`DecisionError`] if the datanode is operative, or if messages exist nowhere else and `accepts_loss` is
    /// not set.
    pub async fn forget(&self, name: &NodeName, accepts_loss: bool) -> Result<u64, DecisionError> {
        let status = self.cluster.status(WantedEvents::default()).await;
        let known = status.datanodes.iter().find(|datanode| &datanode.name == name);
        if known.is_some_and(|datanode| datanode.state != NodeState::NotOperative) {
            return Err(DecisionError::Operative(name.clone()));
        }
        let lost = self.only_at(name).await?;
        if lost > 0 && !accepts_loss {
            return Err(DecisionError::WouldLose { datanode: name.clone(), lost });
        }
        self.declare_lost(name).await?;
        Ok(lost)
    }

    /// Counts the messages of which no copy is left on another datanode that is not forgotten.
    async fn only_at(&self, name: &NodeName) -> Result<u64, DecisionError> {
        let discounts = self.keeper.discounts.borrow().clone();
        let mut count = 0;
        let counting = self.registry.for_each(|holdings, key| {
            let mut intact = key.places.iter().filter(|place| !holdings.is_lost(place));
            let is_elsewhere = |place: &Place| {
                &place.datanode != name && discounts.of(&place.datanode) != Some(Discount::Forgotten)
            };
            let is_there = key.places.iter().any(|place| &place.datanode == name && !holdings.is_lost(place));
            count += u64::from(is_there && !intact.any(is_elsewhere));
        });
        counting.await.map_err(|error| cannot_read(&error))?;
        Ok(count)
    }

    async fn declare_lost(&self, name: &NodeName) -> Result<(), DecisionError> {
        let (answer, answered) = oneshot::channel();
        let request = LossRequest { datanode: name.clone(), answer };
        // If the keeper has ended, receiving the answer fails too.
        let _ = self.keeper.requests.send(request).await;
        answered.await.unwrap_or(Err(DecisionError::Failed))
    }

    fn discount(&self, name: &NodeName) -> Option<Discount> {
        self.keeper.discounts.borrow().of(name)
    }

    /// Checks the copies of the next messages from the mark `from` on. If the check is `deep`, each copy is read.
    ///
    /// # Errors
    /// Fails with [`DecisionError::CannotReadRegistry`].
    pub async fn check(&self, from: u64, deep: bool) -> Result<FsckPage, DecisionError> {
        let page = self.registry.page(from, FSCK_PAGE, |_, _| true).map_err(|error| cannot_read(&error))?;
        if deep {
            // Reading marks what is damaged.
            join_all(page.entries.iter().map(|entry| self.read_copies(entry))).await;
        }
        let mut checked =
            FsckPage { messages: self.registry.messages(), next: page.next, ..FsckPage::default() };
        for entry in page.entries {
            match self.verdict(&entry) {
                FsckVerdict::Healthy => checked.healthy += 1,
                verdict => checked.others.push(self.checked(entry, verdict)),
            }
        }
        Ok(checked)
    }

    async fn read_copies(&self, entry: &RegistryEntry) {
        for place in &entry.places {
            if self.placer.check_copy(entry, place).await == CopyState::Damaged {
                tracing::error!(id = %entry.id, %place, "this copy is damaged or gone");
            }
        }
    }

    fn verdict(&self, entry: &RegistryEntry) -> FsckVerdict {
        let (discounts, replicas) = (self.keeper.discounts.borrow(), self.placer.replicas());
        self.registry.holdings(|holdings| {
            let tally = CopyTally::of(&entry.places, holdings, &discounts);
            let is_unknown =
                |place: &Place| discounts.counts(&place.datanode) && !holdings.was_asked(&place.datanode);
            match tally {
                _ if !tally.can_be_read() => FsckVerdict::Lost,
                _ if tally.lost > 0 => FsckVerdict::Damaged,
                _ if tally.live < replicas => FsckVerdict::UnderReplicated,
                _ if entry.places.iter().any(is_unknown) => FsckVerdict::NotReconciled,
                _ if tally.live > replicas => FsckVerdict::Extra,
                _ => FsckVerdict::Healthy,
            }
        })
    }

    fn checked(&self, entry: RegistryEntry, verdict: FsckVerdict) -> CheckedMessage {
        let RegistryEntry { id, mut places, .. } = entry;
        let mut damaged: Vec<_> = self
            .registry
            .holdings(|holdings| places.iter().filter(|place| holdings.is_lost(place)).cloned().collect());
        places.truncate(MAX_CHECKED_PLACES);
        damaged.truncate(MAX_CHECKED_PLACES / 2);
        CheckedMessage { id, verdict, places, damaged }
    }
}

fn cannot_read(error: &std::io::Error) -> DecisionError {
    tracing::error!(%error, "cannot read registro_server.txt");
    DecisionError::CannotReadRegistry
}
