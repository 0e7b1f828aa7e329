//! Which datanodes are drained. They say so themselves, so that every headnode knows it before it stores anything there.

use std::collections::BTreeSet;

use protocol::store::types::NodeName;
use tokio::sync::watch;

use crate::copies::Discounts;

/// The datanodes that say, since this headnode leads, that an operator drains them. Clones share the same list.
#[derive(Debug, Clone)]
pub struct DrainedDatanodes {
    names: watch::Sender<BTreeSet<NodeName>>,
    discounts: watch::Receiver<Discounts>,
}

impl DrainedDatanodes {
    /// Returns the list that `names` publishes. The keeper reads it and publishes the `discounts` that follow from it.
    #[must_use]
    pub fn new(names: watch::Sender<BTreeSet<NodeName>>, discounts: watch::Receiver<Discounts>) -> Self {
        Self { names, discounts }
    }

    /// Takes note of what a datanode says. If it is drained, this waits until its copies count no more and nothing new is
    /// stored there.
    pub async fn note(&self, name: &NodeName, draining: bool) {
        self.names.send_if_modified(
            |names| {
                if draining { names.insert(name.clone()) } else { names.remove(name) }
            },
        );
        if draining {
            // This cannot fail before the headnode leads no more.
            let _ = self.discounts.clone().wait_for(|discounts| discounts.of(name).is_some()).await;
        }
    }
}
