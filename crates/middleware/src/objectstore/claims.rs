//! The claims that this transport holds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ulid::Ulid;

/// The claims that are held, by their requests.
#[derive(Default)]
pub(crate) struct HeldClaims(Mutex<BTreeMap<Ulid, HeldClaim>>);

struct HeldClaim {
    path: String,
    /// How often it is renewed.
    every: Duration,
    renewed: Instant,
}

impl HeldClaims {
    /// Holds a claim that has been put just now.
    pub(crate) fn add(&self, ask: Ulid, path: String, every: Duration) {
        self.all().insert(ask, HeldClaim { path, every, renewed: Instant::now() });
    }

    pub(crate) fn remove(&self, ask: Ulid) {
        self.all().remove(&ask);
    }

    pub(crate) fn has(&self, ask: Ulid) -> bool {
        self.all().contains_key(&ask)
    }

    /// The requests whose claims are to be renewed now, with the paths of the claims. They count as renewed.
    pub(crate) fn take_due(&self) -> Vec<(Ulid, String)> {
        let due = |(ask, claim): (&Ulid, &mut HeldClaim)| {
            if claim.renewed.elapsed() < claim.every {
                return None;
            }
            claim.renewed = Instant::now();
            Some((*ask, claim.path.clone()))
        };
        self.all().iter_mut().filter_map(due).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Ulid, HeldClaim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
