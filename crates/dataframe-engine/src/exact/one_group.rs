//! An exact aggregate over all rows.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::moments::{ExactSum, Statistic};

/// The sums over all rows.
#[derive(Debug)]
pub(crate) struct OneGroup {
    statistic: Statistic,
    count: u64,
    sum: ExactSum,
    squares: ExactSum,
}

impl OneGroup {
    pub(crate) fn new(statistic: Statistic) -> Self {
        Self { statistic, count: 0, sum: ExactSum::default(), squares: ExactSum::default() }
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Float64Type>();
        self.count += (values.len() - values.null_count()) as u64;
        if values.null_count() == 0 {
            self.sum.add_all(values.values());
        } else {
            values.iter().flatten().for_each(|value| self.sum.add(value));
        }
        if self.statistic.needs_squares() {
            values.iter().flatten().for_each(|value| self.squares.add_square(value));
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>();
        let part = |index: usize| states[index].as_primitive::<Float64Type>();
        for row in 0..counts.len() {
            self.count += counts.value(row);
            self.sum.merge(ExactSum { sum: part(1).value(row), error: part(2).value(row) });
            if self.statistic.needs_squares() {
                self.squares.merge(ExactSum { sum: part(3).value(row), error: part(4).value(row) });
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = vec![self.count.into(), self.sum.sum.into(), self.sum.error.into()];
        if self.statistic.needs_squares() {
            state.extend([self.squares.sum.into(), self.squares.error.into()]);
        }
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.statistic.of(self.count, self.sum, self.squares)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}
