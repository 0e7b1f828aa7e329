//! What a program uses from outside itself besides its arguments: network, disk, randomness and time.

use std::fmt;
use std::io;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;

use crate::net::Sockets;

/// The network, the disk, the randomness and the time of a program. They are real, or belong to a simulation that a seed
/// repeats exactly.
#[derive(Debug, Clone)]
pub struct Environment<N, D> {
    /// The network that the program uses.
    pub network: N,
    /// The disk that the program uses. This crate does not touch it.
    pub disk: D,
    /// The clock that tells the date. Durations are measured with tokio's clock, which never jumps.
    pub clock: WallClock,
    /// The seed of all random choices.
    pub seed: u64,
    /// Whether this is a simulation. Its time stands still while the program works, and it has no control over threads.
    pub simulated: bool,
}

impl<D: Default> Environment<Sockets, D> {
    /// Returns the operating system's network, disk and time, with `seed` for randomness.
    #[must_use]
    pub fn real(seed: u64) -> Self {
        Self { network: Sockets, disk: D::default(), clock: WallClock::default(), seed, simulated: false }
    }
}

impl<N, D> Environment<N, D> {
    /// Returns the same environment with the network that `wrap` makes of its own.
    #[must_use]
    pub fn with_network<M>(self, wrap: impl FnOnce(N) -> M) -> Environment<M, D> {
        let Self { network, disk, clock, seed, simulated } = self;
        Environment { network: wrap(network), disk, clock, seed, simulated }
    }
}

/// Tells the date and time, which may jump in both directions. Clones are the same clock.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.now()).finish()
    }
}

impl Default for WallClock {
    /// Returns the clock of the operating system.
    fn default() -> Self {
        Self::new(Utc::now)
    }
}

impl WallClock {
    /// Returns a clock that tells what `now` returns.
    #[must_use]
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the present date and time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }

    /// Returns a ULID (<https://github.com/ulid/spec>) of the present time: the identifier of a new message, or of a run
    /// of a program. The lowest 80 bits of `random` are used. If the clock stands before 1970, identifiers are still
    /// valid, but they do not sort by time.
    #[must_use]
    pub fn new_ulid(&self, random: u128) -> Ulid {
        Ulid::from_parts(u64::try_from(self.now().timestamp_millis()).unwrap_or(0), random)
    }
}

impl<N, D> Environment<N, D> {
    /// Runs `future` beside the program until the guard is dropped, as [`run_beside`] does. In a simulation, whose time
    /// stands still while the program works, it runs on the present runtime.
    ///
    /// # Errors
    /// Fails if the operating system refuses the thread.
    pub fn run_beside(
        &self,
        name: &str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<DropGuard> {
        if !self.simulated {
            return run_beside(name, future);
        }
        let (guard, until_dropped) = guarded(future);
        tokio::spawn(until_dropped);
        Ok(guard)
    }
}

/// Runs `future` beside the program until the guard is dropped. The future gets its own thread and runtime, so it continues
/// while the program's thread is busy.
///
/// # Errors
/// Fails if the operating system refuses the thread.
pub fn run_beside(name: &str, future: impl Future<Output = ()> + Send + 'static) -> io::Result<DropGuard> {
    let (guard, until_dropped) = guarded(future);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || runtime.block_on(until_dropped))?;
    Ok(guard)
}

/// Returns a future that runs `future` until the guard is dropped.
fn guarded(future: impl Future<Output = ()> + Send) -> (DropGuard, impl Future<Output = ()> + Send) {
    let dropped = CancellationToken::new();
    let guard = dropped.clone().drop_guard();
    let until_dropped = async move {
        dropped.run_until_cancelled(future).await;
    };
    (guard, until_dropped)
}

/// Returns a ULID of the time that the operating system tells; see [`WallClock::new_ulid`].
#[must_use]
pub fn new_ulid(random: u128) -> Ulid {
    WallClock::default().new_ulid(random)
}
