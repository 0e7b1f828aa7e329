//! How often a bucket is looked at, which tells nobody that something has come.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);

/// The pauses between looks: short ones after something has come, longer ones while nothing does.
pub(crate) struct PollPace(Duration);

impl Default for PollPace {
    fn default() -> Self {
        Self(SHORTEST)
    }
}

impl PollPace {
    /// Something has come: more may follow.
    pub(crate) fn quicken(&mut self) {
        self.0 = SHORTEST;
    }

    /// Waits before the next look. Each pause is a quarter longer than the one before, so that what takes long is noticed by a
    /// fifth later at most.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 5 / 4).min(LONGEST);
    }
}
