//! An exact aggregate over many groups at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, UInt64Array};
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::moments::{ExactSum, Statistic};

/// The sum of one group. Its parts lie together, because groups are touched in any order.
#[derive(Debug, Clone, Copy, Default)]
struct GroupSum {
    count: u64,
    sum: ExactSum,
}

/// The sums of all groups.
#[derive(Debug)]
pub(crate) struct ManyGroups {
    statistic: Statistic,
    sums: Vec<GroupSum>,
    /// Empty where the statistic needs no squares.
    squares: Vec<ExactSum>,
}

impl ManyGroups {
    pub(crate) fn new(statistic: Statistic) -> Self {
        Self { statistic, sums: Vec::new(), squares: Vec::new() }
    }

    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups, GroupSum::default());
        if self.statistic.needs_squares() {
            self.squares.resize(groups, ExactSum::default());
        }
    }

    #[inline]
    fn add(&mut self, group: usize, value: f64) {
        let sums = &mut self.sums[group];
        sums.count += 1;
        sums.sum.add(value);
    }

    fn states(sums: &[GroupSum], squares: &[ExactSum], with_squares: bool) -> Vec<ArrayRef> {
        let mut state: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(sums.iter().map(|group| group.count))),
            Arc::new(Float64Array::from_iter_values(sums.iter().map(|group| group.sum.sum))),
            Arc::new(Float64Array::from_iter_values(sums.iter().map(|group| group.sum.error))),
        ];
        if with_squares {
            state.push(Arc::new(Float64Array::from_iter_values(squares.iter().map(|square| square.sum))));
            state.push(Arc::new(Float64Array::from_iter_values(squares.iter().map(|square| square.error))));
        }
        state
    }
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

impl GroupsAccumulator for ManyGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.grow(total_groups);
        let values = values[0].as_primitive::<Float64Type>();
        if values.null_count() == 0 && filter.is_none() {
            for (group, value) in groups.iter().zip(values.values()) {
                self.add(*group, *value);
            }
        } else {
            for (row, group) in groups.iter().enumerate() {
                if values.is_valid(row) && passes(filter, row) {
                    self.add(*group, values.value(row));
                }
            }
        }
        if self.statistic.needs_squares() {
            for (row, group) in groups.iter().enumerate() {
                if values.is_valid(row) && passes(filter, row) {
                    self.squares[*group].add_square(values.value(row));
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.grow(total_groups);
        let counts = values[0].as_primitive::<UInt64Type>();
        let part = |index: usize| values[index].as_primitive::<Float64Type>();
        for (row, group) in groups.iter().enumerate() {
            let sums = &mut self.sums[*group];
            sums.count += counts.value(row);
            sums.sum.merge(ExactSum { sum: part(1).value(row), error: part(2).value(row) });
            if self.statistic.needs_squares() {
                let squares = ExactSum { sum: part(3).value(row), error: part(4).value(row) };
                self.squares[*group].merge(squares);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let results: Float64Array = if self.statistic.needs_squares() {
            let squares = emit_to.take_needed(&mut self.squares);
            let pairs = sums.iter().zip(squares);
            pairs.map(|(group, squares)| self.statistic.of(group.count, group.sum, squares)).collect()
        } else {
            let none = ExactSum::default();
            sums.iter().map(|group| self.statistic.of(group.count, group.sum, none)).collect()
        };
        Ok(Arc::new(results))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let with_squares = self.statistic.needs_squares();
        let sums = emit_to.take_needed(&mut self.sums);
        let squares = if with_squares { emit_to.take_needed(&mut self.squares) } else { Vec::new() };
        Ok(Self::states(&sums, &squares, with_squares))
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Float64Type>();
        let mut sums = vec![GroupSum::default(); values.len()];
        let mut squares = vec![ExactSum::default(); values.len()];
        for row in 0..values.len() {
            if values.is_valid(row) && passes(filter, row) {
                sums[row].count = 1;
                sums[row].sum.add(values.value(row));
                squares[row].add_square(values.value(row));
            }
        }
        Ok(Self::states(&sums, &squares, self.statistic.needs_squares()))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<GroupSum>() + self.squares.capacity() * size_of::<ExactSum>()
    }
}
