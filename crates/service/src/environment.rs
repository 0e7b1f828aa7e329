//! What a program uses from outside itself besides its arguments: network, randomness and time.

use std::io;

use chrono::Utc;
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;

use crate::net::Sockets;

/// The network, the randomness and the time of a program. They are real, or belong to a simulation that a seed repeats
/// exactly.
#[derive(Debug, Clone)]
pub struct Environment<N> {
    /// The network that the program uses.
    pub network: N,
    /// The seed of all random choices.
    pub seed: u64,
    /// Whether this is a simulation. Its time stands still while the program works, and it has no control over threads.
    pub simulated: bool,
}

impl Environment<Sockets> {
    /// Returns the operating system's network and time, with `seed` for randomness.
    #[must_use]
    pub fn real(seed: u64) -> Self {
        Self { network: Sockets, seed, simulated: false }
    }
}

impl<N> Environment<N> {
    /// Runs `future` beside the program until the guard is dropped. The future gets its own thread and runtime, so it
    /// continues while the program's thread is busy. In a simulation, whose time stands still while the program works,
    /// it runs on the present runtime.
    ///
    /// # Errors
    /// Fails if the operating system refuses the thread.
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

/// Returns a ULID (<https://github.com/ulid/spec>) of the present time: the identifier of a new message, or of a run of
/// a program. The lowest 80 bits of `random` are used. If the clock stands before 1970, identifiers are still valid,
/// but they do not sort by time.
#[must_use]
pub fn new_ulid(random: u128) -> Ulid {
    Ulid::from_parts(u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0), random)
}
