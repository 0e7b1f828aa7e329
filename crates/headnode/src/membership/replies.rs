//! The links as a second sign of life: which datanodes are asked on them, and what their replies count for.

use std::time::Duration;

use protocol::store::types::{Incarnation, NodeName, NodeState};

use super::node::Node;
use super::{Membership, MembershipAction};

impl Membership {
    /// Returns the operative datanodes that have not answered in this round.
    #[must_use]
    pub fn silent(&self) -> Vec<NodeName> {
        let is_silent = |node: &Node| node.answers && node.last_round != self.round;
        self.nodes.iter().filter(|(_, node)| is_silent(node)).map(|(name, _)| name.clone()).collect()
    }

    /// Returns when the present round began.
    #[must_use]
    pub fn round_begun(&self) -> Duration {
        self.sent.first().copied().unwrap_or_default()
    }

    /// Notes that this run of a datanode has replied on its link in this round.
    pub fn note_reply(&mut self, name: &NodeName, incarnation: Incarnation) {
        if let Some(node) = self.nodes.get_mut(name).filter(|node| node.incarnation == incarnation) {
            node.replied_in_round = Some(self.round);
        }
    }

    /// Asks the connected datanodes that have not answered in this round on their links.
    pub(super) fn ping_silent(&self, actions: &mut Vec<MembershipAction>) {
        let is_asked = |node: &Node| node.last_round != self.round && node.state() == NodeState::Available;
        let asked = self.nodes.iter().filter(|(_, node)| is_asked(node));
        actions.extend(asked.map(|(name, _)| MembershipAction::Ping(name.clone())));
    }
}
