//! Handshakes, channels and whole networks with a key, over streams in memory and sockets on loopback.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod channel;
mod forged;
mod listener;

use cluster_key::{ClusterKey, Keyring};

/// Returns a keyring of a cluster whose keys are these bytes, 32 times each.
pub fn keyring(bytes: &[u8]) -> Keyring {
    Keyring::of_cluster(bytes.iter().map(|byte| ClusterKey::from([*byte; 32])).collect())
}
