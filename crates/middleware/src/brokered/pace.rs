//! How long to wait before the next try.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);

/// The pauses between tries at a broker that is away: short ones first, half a second in the end.
pub(crate) struct Pace {
    delays: ExponentialBackoff,
    deadline: Option<Instant>,
}

impl Pace {
    /// Goes on for ever.
    pub(crate) fn endless() -> Self {
        let delays = ExponentialBuilder::new().with_min_delay(SHORTEST).with_max_delay(LONGEST);
        Self { delays: delays.without_max_times().with_jitter().build(), deadline: None }
    }

    /// Gives up after `patience`.
    pub(crate) fn for_at_most(patience: Duration) -> Self {
        Self { deadline: Some(Instant::now() + patience), ..Self::endless() }
    }

    /// Waits before the next try. Returns false if there shall be none.
    pub(crate) async fn pause(&mut self) -> bool {
        let delay = self.delays.next().unwrap_or(LONGEST).min(LONGEST);
        if self.deadline.is_some_and(|deadline| Instant::now() + delay > deadline) {
            return false;
        }
        tokio::time::sleep(delay).await;
        true
    }
}
