//! Asks datanodes that have found damage which records they have lost.

use std::collections::BTreeMap;

use protocol::store::json;
use protocol::store::node_api::{NodeReply, NodeRequest};
use protocol::store::types::{NodeName, NodeState};

use crate::cluster_view::{ClusterStatus, ClusterView};
use crate::link::Link;
use crate::registry::Registry;

/// How many numbers each datanode could not read when it was last asked which.
#[derive(Debug, Default)]
pub struct DamageWatch(BTreeMap<NodeName, u64>);

impl DamageWatch {
    /// Asks those datanodes whose count has changed, and marks in the registry what they have lost.
    pub async fn look(&mut self, status: &ClusterStatus, cluster: &ClusterView, registry: &Registry) {
        for datanode in status.datanodes.iter().filter(|datanode| datanode.state == NodeState::Available) {
            let Some(unreadable) = datanode.last_answer.as_ref().map(|answer| answer.unreadable) else {
                continue;
            };
            let link = cluster.table.borrow().find(&datanode.name).cloned();
            if self.0.get(&datanode.name) != Some(&unreadable)
                && let Some(link) = link
                && ask(&link, registry).await.is_some()
            {
                self.0.insert(datanode.name.clone(), unreadable);
            }
        }
    }
}

/// Asks a datanode for all numbers that no readable record has. Returns `None` if it does not tell them all.
async fn ask(link: &Link, registry: &Registry) -> Option<()> {
    let mut from = 1;
    loop {
        let mut line = Vec::new();
        json::encode(&NodeRequest::Gaps { from }, &mut line);
        let NodeReply::Gaps { ranges, more } = link.ask(&line).ok()?.await.ok()? else { return None };
        registry.mark_gaps(&link.name, &ranges);
        match ranges.last() {
            Some((_, last)) if more && *last >= from && *last < u64::MAX => from = last + 1,
            _ => return (!more).then_some(()),
        }
    }
}
