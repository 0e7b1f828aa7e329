//! What a program takes from outside itself besides its arguments.

use chrono::Utc;
use ulid::Ulid;

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

/// Returns a ULID (<https://github.com/ulid/spec>) of this moment: the identifier of a new message, or of a run of a program.
/// The lowest 80 bits of `random` are used. Of a clock before 1970 only the order of the identifiers suffers.
#[must_use]
pub fn new_ulid(random: u128) -> Ulid {
    Ulid::from_parts(u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0), random)
}
