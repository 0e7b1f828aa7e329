//! The rest of a plan, when results of tasks have been shuffled.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_datafusion_err};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::cutter::PlannedExchange;
use crate::results::ResultsExec;
use crate::shuffle::{HashExchange, ShuffleExec, as_shuffle};

/// What is known of the shuffles of a stage.
pub(super) struct Shuffled<'a> {
    /// The exchanges of the stage.
    pub(super) exchanges: &'a [PlannedExchange],
    /// The bytes of the largest partition of each.
    pub(super) largest: &'a [u64],
    /// The number of the first shuffle.
    pub(super) first: u32,
    /// How many partitions exchanges have.
    pub(super) partitions: u32,
    /// A join whose smaller side has larger partitions sorts both sides, because that can be spilled.
    pub(super) hashed_side: u64,
}

impl Shuffled<'_> {
    /// The plan with shuffles in place of the exchanges of the stage, and as many partitions in all later exchanges.
    pub(super) fn rewrite(&self, rest: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let shuffled = rest.transform_up(|node| {
            let Some((exchange, input)) = HashExchange::of(&node) else { return Ok(Transformed::no(node)) };
            let exchange = exchange.with_partitions(self.partitions);
            Ok(Transformed::yes(match self.shuffle_of(&input) {
                Some((shuffle, largest)) => Arc::new(ShuffleExec::new(shuffle, &exchange, largest)) as _,
                None => exchange.over(input)?,
            }))
        });
        let joined = shuffled.data()?.transform_up(|node| match self.sorted_join(&node)? {
            Some(join) => Ok(Transformed::yes(join)),
            None => Ok(Transformed::no(node)),
        });
        joined.data()
    }

    fn shuffle_of(&self, input: &Arc<dyn ExecutionPlan>) -> Option<(u32, u64)> {
        let any: &dyn Any = input.as_ref();
        let results = any.downcast_ref::<ResultsExec>()?;
        let place =
            self.exchanges.iter().position(|exchange| exchange.tasks.start == results.first_task())?;
        Some((self.first + u32::try_from(place).ok()?, *self.largest.get(place)?))
    }

    /// A hash join keeps its left side in memory. A large one becomes a join of sorted rows, which spills.
    fn sorted_join(&self, node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let any: &dyn Any = node.as_ref();
        let Some(join) = any.downcast_ref::<HashJoinExec>() else { return Ok(None) };
        let is_small = largest_below(join.left())? <= self.hashed_side;
        if is_small || *join.partition_mode() != PartitionMode::Partitioned || join.null_aware {
            return Ok(None);
        }
        let (left_keys, right_keys): (Vec<_>, Vec<_>) = join.on().iter().cloned().unzip();
        let sorted: Arc<dyn ExecutionPlan> = Arc::new(SortMergeJoinExec::try_new(
            sorted_by(join.left(), left_keys)?,
            sorted_by(join.right(), right_keys)?,
            join.on().to_vec(),
            join.filter().cloned(),
            *join.join_type(),
            vec![SORT; join.on().len()],
            join.null_equality(),
        )?);
        let Some(projection) = &join.projection else { return Ok(Some(sorted)) };
        let schema = sorted.schema();
        let columns: Vec<(Arc<dyn PhysicalExpr>, String)> = projection
            .iter()
            .map(|index| {
                let name = schema.field(*index).name();
                (Arc::new(Column::new(name, *index)) as _, name.clone())
            })
            .collect();
        Ok(Some(Arc::new(ProjectionExec::try_new(columns, sorted)?)))
    }
}

/// How joins sort: the direction does not matter, as long as it is the same on both sides.
const SORT: SortOptions = SortOptions { descending: false, nulls_first: true };

fn sorted_by(
    input: &Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let keys = keys.into_iter().map(|key| PhysicalSortExpr::new(key, SORT));
    let order = LexOrdering::new(keys).ok_or_else(|| plan_datafusion_err!("a join has no keys"))?;
    Ok(Arc::new(SortExec::new(order, input.clone()).with_preserve_partitioning(true)))
}

/// The bytes of the largest partitions of all shuffles below a node.
fn largest_below(node: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let mut bytes = 0_u64;
    node.apply(|node| {
        bytes = bytes.saturating_add(as_shuffle(node).map_or(0, ShuffleExec::largest));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes)
}

/// The shuffles that a plan reads.
pub(super) fn shuffles_of(plan: &Arc<dyn ExecutionPlan>) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    plan.apply(|node| {
        found.extend(as_shuffle(node).map(ShuffleExec::shuffle));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
