//! What a program takes from outside itself besides its arguments.

use crate::net::Sockets;

/// Network, randomness and the passing of time: the real ones, or those of a simulation that a seed replays.
#[derive(Debug, Clone)]
pub struct Environment<N> {
    /// The network.
    pub network: N,
    /// Where randomness starts from.
    pub seed: u64,
    /// Time stands still while the program works, and threads would run outside of it.
    pub simulated: bool,
}

impl Environment<Sockets> {
    /// The system's network and time, with this seed.
    #[must_use]
    pub fn real(seed: u64) -> Self {
        Self { network: Sockets, seed, simulated: false }
    }
}
