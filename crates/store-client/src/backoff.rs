//! The pauses between two attempts.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// Returns the pauses between attempts. They double from 50 ms up to 2 s. Each is lengthened at random, at most to twice its
/// length, so that many clients of a headnode that comes back do not all come at once.
pub fn pauses(rng: &mut StdRng) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_factor(2.0)
        .with_jitter()
        .with_jitter_seed(rng.random())
        .without_max_times()
        .build()
}

/// Returns the next of `pauses`.
pub fn next_pause(pauses: &mut ExponentialBackoff) -> Duration {
    pauses.next().expect("the number of pauses is not limited")
}
