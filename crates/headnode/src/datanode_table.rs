//! The datanodes to which messages can be sent, and the random choice among them.

use std::sync::Arc;

use protocol::store::types::NodeName;
use rand::Rng;
use rand::seq::IteratorRandom as _;

use crate::link::Link;

/// The links to all datanodes that are available at one moment. A table never changes: the heartbeat's loop publishes a
/// new one.
#[derive(Debug, Clone, Default)]
pub struct DatanodeTable(Arc<[Arc<Link>]>);

impl FromIterator<Arc<Link>> for DatanodeTable {
    fn from_iter<T: IntoIterator<Item = Arc<Link>>>(links: T) -> Self {
        Self(links.into_iter().collect())
    }
}

impl DatanodeTable {
    /// Returns up to `count` different datanodes, chosen uniformly at random from those that `is_eligible` accepts.
    pub fn choose(
        &self,
        count: usize,
        rng: &mut impl Rng,
        is_eligible: impl Fn(&NodeName) -> bool,
    ) -> Vec<Arc<Link>> {
        let eligible = self.0.iter().filter(|link| is_eligible(&link.name));
        if count == 1 {
            return eligible.choose(rng).cloned().into_iter().collect();
        }
        eligible.cloned().sample(rng, count)
    }

    /// Returns the link to the datanode of this name, if it is available.
    #[must_use]
    pub fn find(&self, name: &NodeName) -> Option<&Arc<Link>> {
        self.0.iter().find(|link| &link.name == name)
    }

    /// Returns all links.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.0.iter()
    }
}
