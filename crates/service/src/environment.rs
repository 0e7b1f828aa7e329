//! What a program takes from outside itself besides its arguments.

use std::io;

use chrono::Utc;
use tokio_util::sync::{CancellationToken, DropGuard};
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

impl<N> Environment<N> {
    /// Runs `future` beside the program until the guard is dropped: on a thread of its own with a runtime of its own, so
    /// that nothing which holds up the program's thread holds up this. In a simulation, whose time stands still
    /// meanwhile, it runs on the present runtime.
    ///
    /// # Errors
    /// If the system refuses the thread.
    pub fn run_beside(
        &self,
        name: &str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<DropGuard> {
        let cancelled = CancellationToken::new();
        let guard = cancelled.clone().drop_guard();
        let until_cancelled = async move {
            cancelled.run_until_cancelled(future).await;
        };
        if self.simulated {
            tokio::spawn(until_cancelled);
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || runtime.block_on(until_cancelled))?;
        }
        Ok(guard)
    }
}

/// Returns a ULID (<https://github.com/ulid/spec>) of this moment: the identifier of a new message, or of a run of a program.
/// The lowest 80 bits of `random` are used. Of a clock before 1970 only the order of the identifiers suffers.
#[must_use]
pub fn new_ulid(random: u128) -> Ulid {
    Ulid::from_parts(u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0), random)
}
