//! A histogram of durations. Recording takes a few nanoseconds and no lock, so that it may stand on the path of each
//! message.
//!
//! Each doubling of the duration has four buckets, so that a quantile is known to 12%. `HdrHistogram` has the same layout
//! with more digits. The text for monitors has one bucket for each doubling.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Buckets for each doubling.
const STEPS: usize = 4;
/// The first `2 * STEPS` buckets have one microsecond each; the last one begins at about 60 s.
const BUCKETS: usize = STEPS * 25;
/// The doublings of a microsecond that the text has a bucket for: 64 µs to 34 s.
const BOUNDS: std::ops::RangeInclusive<u32> = 6..=25;

/// A histogram of durations. Clones share the same counts.
#[derive(Debug, Clone, Default)]
pub struct Latency(Arc<BucketCounts>);

#[derive(Debug)]
struct BucketCounts {
    buckets: [AtomicU64; BUCKETS],
    microseconds: AtomicU64,
}

impl Default for BucketCounts {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), microseconds: AtomicU64::new(0) }
    }
}

impl Latency {
    /// Adds one duration.
    pub fn record(&self, duration: Duration) {
        self.record_many(duration, 1);
    }

    /// Adds the same duration `count` times.
    pub fn record_many(&self, duration: Duration, count: u64) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.buckets[bucket(microseconds)].fetch_add(count, Ordering::Relaxed);
        self.0.microseconds.fetch_add(microseconds.saturating_mul(count), Ordering::Relaxed);
    }

    /// Returns the counts at this moment.
    #[must_use]
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot(self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }
}

/// Returns the bucket of a duration.
fn bucket(microseconds: u64) -> usize {
    let value = microseconds.max(1);
    let doubling = value.ilog2() as usize;
    let index = match doubling.checked_sub(STEPS.ilog2() as usize) {
        // The two bits behind the highest one tell the step.
        Some(shift) => STEPS * shift + (value >> shift) as usize,
        None => usize::try_from(value).unwrap_or(0),
    };
    index.min(BUCKETS - 1)
}

/// Returns the lowest duration in a bucket, in microseconds.
fn lower_bound(bucket: usize) -> u64 {
    if bucket < 2 * STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS) as u64) << shift
}

/// The counts of a [`Latency`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencySnapshot(Vec<u64>);

impl LatencySnapshot {
    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns what was recorded since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let earlier = earlier.0.iter().copied().chain(std::iter::repeat(0));
        Self(self.0.iter().zip(earlier).map(|(now, then)| now.saturating_sub(then)).collect())
    }

    /// Returns the duration in microseconds that `share` of the durations do not exceed, such as 0.99, or `None` if there
    /// are none. It is the middle of a bucket.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank within a count"
        )]
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut counted = 0;
        let found = self.0.iter().position(|count| {
            counted += count;
            counted >= rank.max(1)
        })?;
        Some(u64::midpoint(lower_bound(found), lower_bound(found + 1)))
    }
}

/// The durations of the last ten to fifteen seconds of a [`Latency`], if it is rolled on every five seconds.
#[derive(Debug, Clone)]
pub struct LatencyWindow {
    latency: Latency,
    /// The counts at the last three times when it was rolled on.
    earlier: VecDeque<LatencySnapshot>,
}

impl LatencyWindow {
    /// Returns a window on `latency` that begins now.
    #[must_use]
    pub fn new(latency: Latency) -> Self {
        let earlier = VecDeque::from([latency.snapshot()]);
        Self { latency, earlier }
    }

    /// Forgets the oldest third of the window.
    pub fn roll(&mut self) {
        if self.earlier.len() == 3 {
            self.earlier.pop_front();
        }
        self.earlier.push_back(self.latency.snapshot());
    }

    /// Returns what was recorded within the window.
    #[must_use]
    pub fn recent(&self) -> LatencySnapshot {
        let earliest = self.earlier.front();
        earliest.map_or_else(|| self.latency.snapshot(), |earlier| self.latency.snapshot().since(earlier))
    }

    /// Returns the number of durations since the program started.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.latency.snapshot().count()
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.snapshot();
        let mut buckets = Vec::new();
        let mut from = 0;
        for doubling in BOUNDS {
            let to = bucket(1 << doubling);
            #[expect(clippy::cast_precision_loss, reason = "at most 34 s in microseconds")]
            let bound = (1_u64 << doubling) as f64 / 1e6;
            buckets.push((bound, counts.0[from..to].iter().sum::<u64>()));
            from = to;
        }
        buckets.push((f64::INFINITY, counts.0[from..].iter().sum()));
        #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
        let seconds = self.0.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(seconds, counts.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for index in 1..BUCKETS - 1 {
            let (lower, upper) = (lower_bound(index), lower_bound(index + 1));
            assert_eq!((bucket(lower), bucket(upper - 1), bucket(upper)), (index, index, index + 1));
            assert!(index < 2 * STEPS || (upper - lower) * 4 <= lower, "bucket {index} is narrow");
        }
        assert_eq!(bucket(0), 1, "nothing is shorter than a microsecond");
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(lower_bound(BUCKETS - 1) > 40_000_000, "{}", lower_bound(BUCKETS - 1));
    }

    #[test]
    fn a_window_forgets() {
        let latency = Latency::default();
        latency.record(Duration::from_millis(1));
        let mut window = LatencyWindow::new(latency.clone());
        latency.record(Duration::from_millis(1));
        for _ in 0..2 {
            window.roll();
            assert_eq!((window.recent().count(), window.total()), (1, 2));
        }
        window.roll();
        assert_eq!((window.recent().count(), window.total()), (0, 2));
    }

    #[test]
    fn quantiles_are_of_what_was_recorded_since() {
        let latency = Latency::default();
        assert_eq!(latency.snapshot().quantile(0.5), None);
        latency.record_many(Duration::from_millis(100), 50);
        let before = latency.snapshot();
        latency.record_many(Duration::from_micros(200), 99);
        latency.record(Duration::from_secs(1));
        let since = latency.snapshot().since(&before);
        assert_eq!(since.count(), 100);
        let near = |seen: Option<u64>, meant: u64| seen.is_some_and(|seen| seen.abs_diff(meant) * 8 <= meant);
        assert!(near(since.quantile(0.5), 200) && near(since.quantile(0.99), 200), "{since:?}");
        assert!(near(since.quantile(1.0), 1_000_000), "{since:?}");
        assert_eq!(latency.snapshot().since(&LatencySnapshot::default()).count(), 150);
    }
}
