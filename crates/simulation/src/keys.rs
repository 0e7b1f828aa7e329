//! The keys of a simulated store: some seeds have one, some of these replace it, and all of these have an attacker.
//!
//! Whatever is random here comes from the seed alone, so that the seeds without a key stay what they were.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_key::{ClusterKey, Keyring};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::layout::{CLIENTS, MACHINES};

/// The rate of the seeds with a key, and that of those among them that replace it.
const KEYED: f64 = 0.25;
const ROTATED: f64 = 0.6;
/// When a new key is added below the old one, moved to the top, and alone: each machine does it at its own time within these.
const ADDED_MS: std::ops::Range<u64> = 300..2_000;
const PROMOTED_MS: std::ops::Range<u64> = 2_100..4_500;
const REMOVED_MS: std::ops::Range<u64> = 4_600..7_500;

/// The keys of all machines and clients.
#[derive(Debug)]
pub struct SimulatedKeys {
    keyrings: BTreeMap<&'static str, Keyring>,
    /// When which machine gets which keys, in order.
    changes: Vec<(Duration, &'static str, Vec<ClusterKey>)>,
    /// For the attacker.
    pub attacker_seed: u64,
}

impl SimulatedKeys {
    /// Returns the keys of this seed, if it has any.
    pub fn of_seed(seed: u64) -> Option<Self> {
        // Another number than the seed, so that these choices are not those of the faults.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x6b65_7973);
        if !rng.random_bool(KEYED) {
            return None;
        }
        let [old, new] = [0; 2].map(|_| ClusterKey::from(rng.random::<[u8; 32]>()));
        let names = || MACHINES.into_iter().chain(CLIENTS);
        let keyrings = names().map(|name| (name, Keyring::of_cluster(vec![old.clone()]))).collect();
        let mut changes = Vec::new();
        if rng.random_bool(ROTATED) {
            for name in names() {
                let steps = [
                    (ADDED_MS, vec![old.clone(), new.clone()]),
                    (PROMOTED_MS, vec![new.clone(), old.clone()]),
                    (REMOVED_MS, vec![new.clone()]),
                ];
                for (when, keys) in steps {
                    changes.push((Duration::from_millis(rng.random_range(when)), name, keys));
                }
            }
            changes.sort_by_key(|(when, ..)| *when);
            changes.reverse();
        }
        Some(Self { keyrings, changes, attacker_seed: rng.random() })
    }

    /// Returns the keys of a machine or client.
    pub fn of(&self, name: &str) -> Option<Keyring> {
        self.keyrings.get(name).cloned()
    }

    /// Makes the changes that are due.
    pub fn apply(&mut self, now: Duration) {
        while let Some((_, name, keys)) = self.changes.pop_if(|(when, ..)| *when <= now) {
            if let Some(keyring) = self.keyrings.get(name) {
                keyring.replace_with(keys);
            }
        }
    }
}
