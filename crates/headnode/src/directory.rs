//! The datanodes that are available, which means that messages can be sent to them, and the choice among them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::store::client_api::NodeState;
use protocol::store::types::NodeName;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::link::Link;
use crate::membership::Membership;

/// Membership and connections, shared by everything in the headnode.
#[derive(Debug)]
pub struct Directory {
    start: Instant,
    state: Mutex<State>,
}

/// What the lock protects.
#[derive(Debug)]
pub struct State {
    /// Who answers, and whose connection stands.
    pub membership: Membership,
    /// The connection of each, standing or not.
    pub links: HashMap<NodeName, Arc<Link>>,
    /// The connections of those that are available; made up again when somebody asks after a change.
    available: Arc<[Arc<Link>]>,
    rng: StdRng,
}

impl Directory {
    /// Nobody is known yet. `start` is moment 0 of `membership`.
    #[must_use]
    pub fn new(membership: Membership, start: Instant, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let state = State { membership, links: HashMap::new(), available: Arc::default(), rng };
        Self { start, state: Mutex::new(state) }
    }

    /// The moment that membership counts from.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Changes membership or links.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    /// A fresh random number.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.lock().rng.random()
    }

    /// Puts `items` in a random order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        items.shuffle(&mut self.lock().rng);
    }

    /// The connections of the available datanodes.
    #[must_use]
    pub fn available(&self) -> Arc<[Arc<Link>]> {
        let mut state = self.lock();
        state.update();
        state.available.clone()
    }

    /// Up to `count` different available datanodes, uniformly at random among those that `eligible` accepts.
    pub fn choose(&self, count: usize, eligible: impl Fn(&NodeName) -> bool) -> Vec<Arc<Link>> {
        let mut state = self.lock();
        state.update();
        let State { available, rng, .. } = &mut *state;
        let eligible = available.iter().filter(|link| eligible(&link.name));
        if count == 1 {
            return eligible.choose(rng).cloned().into_iter().collect();
        }
        eligible.cloned().sample(rng, count)
    }

    /// Looks at membership.
    pub fn look<T>(&self, look: impl FnOnce(&Membership) -> T) -> T {
        look(&self.lock().membership)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn update(&mut self) {
        if !self.membership.take_changed() {
            return;
        }
        let Self { membership, links, available, .. } = self;
        let names = membership.nodes().filter(|(_, node)| node.state() == NodeState::Available);
        *available = names.filter_map(|(name, _)| links.get(name).cloned()).collect();
    }
}
