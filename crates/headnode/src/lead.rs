//! Whether this headnode leads, and in which epoch.
//!
//! Every headnode that has led keeps its epoch in `headnode.epoch`, and leads in it again after a restart. When a datanode
//! tells of a higher one, another headnode has taken over: this one then stands by (see [`standby`](crate::standby)). Until
//! it has noticed that it can store nothing, because datanodes refuse it. So there is no moment at which two headnodes
//! store on one datanode, and no need for the two to know each other.

use std::sync::atomic::{AtomicBool, Ordering};

use protocol::store::types::Epoch;
use tokio::sync::watch;

/// The file of the headnode's epoch, in the same folder as the registry.
pub const EPOCH_FILE: &str = "headnode.epoch";

/// One time during which this headnode leads.
#[derive(Debug)]
pub struct EpochLead {
    pub epoch: Epoch,
    end: watch::Sender<Option<LeadEnd>>,
    welcomed: AtomicBool,
}

/// Why a headnode leads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadEnd {
    /// A datanode has met a headnode with this epoch, which is higher.
    Superseded(Epoch),
    /// Too few datanodes have answered for several rounds, so that another headnode may lead already.
    Isolated,
}

impl EpochLead {
    /// Returns a time that begins now.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, end: watch::Sender::new(None), welcomed: AtomicBool::new(false) }
    }

    /// Notes that a datanode has met a headnode with this epoch. A higher one ends the lead.
    pub fn hears(&self, epoch: Epoch) {
        if epoch > self.epoch {
            self.ends(LeadEnd::Superseded(epoch));
        }
    }

    /// Ends the lead, unless it has ended already.
    pub fn ends(&self, why: LeadEnd) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(why);
            is_first
        });
    }

    /// Waits for the end of the lead.
    pub async fn ended(&self) -> LeadEnd {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|end| *end) {
            Ok(Some(end)) => end,
            _ => std::future::pending().await,
        }
    }

    /// Notes that a datanode has the epoch on its disk.
    pub fn note_welcome(&self) {
        self.welcomed.store(true, Ordering::Relaxed);
    }

    /// Returns whether any datanode has ever served this headnode in this epoch.
    #[must_use]
    pub fn was_welcomed(&self) -> bool {
        self.welcomed.load(Ordering::Relaxed)
    }
}

/// Returns how many of the `expected` datanodes are a majority.
#[must_use]
pub fn majority(expected: usize) -> usize {
    expected / 2 + 1
}

#[cfg(test)]
mod tests {
    use protocol::store::types::ulid;

    use super::*;

    #[tokio::test]
    async fn only_a_higher_epoch_ends_a_lead() {
        let epoch = |number, run| Epoch { number, taken_by: ulid(run, 1) };
        let lead = EpochLead::new(epoch(2, 5));
        for lower in [epoch(2, 5), epoch(1, 9), epoch(2, 4)] {
            lead.hears(lower);
            assert_eq!(*lead.end.borrow(), None, "{lower}");
        }
        lead.hears(epoch(2, 6));
        lead.ends(LeadEnd::Isolated);
        assert_eq!(lead.ended().await, LeadEnd::Superseded(epoch(2, 6)), "the first reason stays");
    }
}
