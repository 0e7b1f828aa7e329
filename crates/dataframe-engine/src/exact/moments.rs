//! A sum with its rounding error, and what is made of sums.

/// What is made of the sums of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Statistic {
    Sum,
    Mean,
    /// With n − 1.
    Variance,
    /// With n − 1.
    Deviation,
}

impl Statistic {
    pub(crate) fn needs_squares(self) -> bool {
        matches!(self, Self::Variance | Self::Deviation)
    }

    /// The statistic, or `None` where there are too few values for it.
    pub(crate) fn of(self, count: u64, sum: ExactSum, squares: ExactSum) -> Option<f64> {
        match self {
            Self::Sum => (count > 0).then(|| sum.value()),
            Self::Mean => (count > 0).then(|| sum.value() / as_float(count)),
            Self::Variance => (count > 1).then(|| variance(count, sum, squares)),
            Self::Deviation => (count > 1).then(|| variance(count, sum, squares).sqrt()),
        }
    }
}

/// A sum in `f64`, and the sum of the errors that rounding made on the way.
///
/// `sum` is what adding one after the other gives. Once it is infinite or no number, so is the result, and `error` means nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ExactSum {
    pub(crate) sum: f64,
    pub(crate) error: f64,
}

impl ExactSum {
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let (sum, error) = two_sum(self.sum, value);
        self.sum = sum;
        self.error += error;
    }

    pub(crate) fn add_square(&mut self, value: f64) {
        let (square, error) = two_product(value, value);
        self.add(square);
        self.error += error;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.error += other.error;
    }

    pub(crate) fn value(self) -> f64 {
        if self.sum.is_finite() { self.sum + self.error } else { self.sum }
    }

    /// Sums many values. Eight sums side by side keep the processor busy.
    pub(crate) fn add_all(&mut self, values: &[f64]) {
        const LANES: usize = 8;
        let mut lanes = [Self::default(); LANES];
        let mut chunks = values.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                lane.add(*value);
            }
        }
        for lane in lanes {
            self.merge(lane);
        }
        for value in chunks.remainder() {
            self.add(*value);
        }
    }
}

/// The rounded sum, and what rounding took away.
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// The rounded product, and what rounding took away. Dekker's way, because not every processor multiplies and adds at once.
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    let ((a_high, a_low), (b_high, b_low)) = (split(a), split(b));
    let error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    (product, if error.is_finite() { error } else { 0.0 })
}

fn split(a: f64) -> (f64, f64) {
    let scaled = 134_217_729.0 * a; // 2^27 + 1
    let high = scaled - (scaled - a);
    (high, a - high)
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// (Σx² − (Σx)² / n) / (n − 1), with twice the digits until the end.
fn variance(count: u64, sum: ExactSum, squares: ExactSum) -> f64 {
    let n = as_float(count);
    let total = squares.value();
    let (square, square_error) = two_product(sum.sum, sum.sum);
    let square_error = square_error + 2.0 * sum.sum * sum.error + sum.error * sum.error;
    let quotient = square / n;
    let (back, back_error) = two_product(quotient, n);
    let quotient_error = ((square - back) - back_error + square_error) / n;
    let (difference, error) = two_sum(squares.sum, -quotient);
    let spread = difference + (error + squares.error - quotient_error);
    // Values that are all equal have no spread. What is left of it is smaller than the digits that were carried along.
    if spread <= total * f64::EPSILON * f64::EPSILON * (64.0 + 8.0 * n) { 0.0 } else { spread / (n - 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moments(values: &[f64]) -> (u64, ExactSum, ExactSum) {
        let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
        for value in values {
            sum.add(*value);
            squares.add_square(*value);
        }
        (values.len() as u64, sum, squares)
    }

    #[test]
    fn equal_values_have_no_spread() {
        let (count, sum, squares) = moments(&[0.1; 1000]);
        assert_eq!(Statistic::Deviation.of(count, sum, squares), Some(0.0));
        assert_eq!(Statistic::Mean.of(count, sum, squares), Some(0.1));
    }

    #[test]
    fn small_spread_far_from_zero_is_seen() {
        let (count, sum, squares) = moments(&[1e9, 1e9 + 1.0, 1e9 + 2.0]);
        assert_eq!(Statistic::Variance.of(count, sum, squares), Some(1.0));
    }

    #[test]
    fn infinity_is_kept() {
        let mut sum = ExactSum::default();
        sum.add_all(&[1.0, f64::INFINITY, 2.0]);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.value().is_nan());
    }

    proptest! {
        #[test]
        fn the_order_of_the_rows_does_not_matter(values in prop::collection::vec(-1e12..1e12, 2..300), cut in 0_usize..300) {
            let cut = cut.min(values.len());
            let mut forward = ExactSum::default();
            forward.add_all(&values);
            let (mut left, mut right) = (ExactSum::default(), ExactSum::default());
            for value in values[..cut].iter().rev() {
                left.add(*value);
            }
            right.add_all(&values[cut..]);
            right.merge(left);
            prop_assert_eq!(forward.value().to_bits(), right.value().to_bits());
        }
    }
}
