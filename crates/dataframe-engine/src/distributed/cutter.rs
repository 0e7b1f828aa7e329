//! Takes the parts out of a plan that tasks can run.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use dataframe_jobs::message::FileRange;
use dataframe_wasm::WasmModule;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::{ExecutionPlan, displayable, replace_children_if_necessary};

use crate::codec::{self, PlanHeader};
use crate::csv::{CsvPartition, scan_of_partition, scan_partitions};
use crate::error::FrameError;
use crate::position::{PositionExec, as_position};
use crate::results::{ResultsExec, TaskResults};
use crate::shuffle::{HashExchange, as_shuffle};
use crate::wasm::modules_of;

/// One piece of work for one worker.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// A plan for [`Engine::run_task`](crate::engine::Engine::run_task).
    pub plan: Bytes,
    /// What the task reads.
    pub files: Vec<FileRange>,
    /// The only worker that has the files, where there is one.
    pub worker: Option<String>,
    /// The WebAssembly modules that the plan calls.
    pub modules: Vec<Arc<WasmModule>>,
    /// The schema of the task's rows.
    pub schema: SchemaRef,
    /// Into how many partitions the task may split its rows; 0 where they go into no exchange.
    pub partitions: u32,
}

/// Tasks whose rows meet in an exchange.
#[derive(Debug, Clone)]
pub struct PlannedExchange {
    /// Which tasks they are, among those of all stages.
    pub tasks: Range<usize>,
    /// How their rows are split.
    pub exchange: HashExchange,
}

/// A part of a plan that tasks run, for people.
pub(super) struct ExplainedPart {
    pub(super) tasks: usize,
    /// Whether the rows go into an exchange.
    pub(super) is_exchanged: bool,
    pub(super) plan: String,
}

/// Takes the parts out of a plan that tasks can run.
pub(super) struct PlanCutter {
    pub(super) header: PlanHeader,
    pub(super) results: Arc<TaskResults>,
    /// How many tasks earlier stages have.
    pub(super) earlier: usize,
    /// Into how many partitions an exchange splits.
    pub(super) partitions: u32,
    pub(super) tasks: Vec<PlannedTask>,
    pub(super) exchanges: Vec<PlannedExchange>,
    pub(super) parts: Vec<ExplainedPart>,
}

impl PlanCutter {
    /// Cuts the parts off that lie below the first exchanges. What is left reads the results of the tasks.
    pub(super) fn cut(
        &mut self,
        node: &Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>, FrameError> {
        if let Some(inputs) = task_inputs(node) {
            // Whoever reads the rest can read a shuffle itself.
            let is_bare = as_shuffle(node).is_some();
            return if is_bare { Ok(node.clone()) } else { self.cut_off(node, inputs, None) };
        }
        if let Some((exchange, input)) = HashExchange::of(node)
            && let Some(inputs) = task_inputs(&input)
        {
            let exchange = exchange.with_partitions(self.partitions);
            let results = self.cut_off(&input, inputs, Some(exchange))?;
            return replace_children_if_necessary(node.clone(), vec![results])
                .map_err(|error| internal(&error));
        }
        let children =
            node.children().into_iter().map(|child| self.cut(child)).collect::<Result<Vec<_>, _>>()?;
        replace_children_if_necessary(node.clone(), children).map_err(|error| internal(&error))
    }

    fn cut_off(
        &mut self,
        part: &Arc<dyn ExecutionPlan>,
        inputs: Vec<TaskInput>,
        exchange: Option<HashExchange>,
    ) -> Result<Arc<dyn ExecutionPlan>, FrameError> {
        let first = self.earlier + self.tasks.len();
        let text = displayable(part.as_ref()).indent(false).to_string();
        self.parts.push(ExplainedPart { tasks: inputs.len(), is_exchanged: exchange.is_some(), plan: text });
        let (count, partitions) = (inputs.len(), exchange.as_ref().map_or(0, HashExchange::partitions));
        for (index, input) in inputs.into_iter().enumerate() {
            let mut task = of_partition(part, index).map_err(|error| internal(&error))?;
            if let Some(exchange) = &exchange {
                task = exchange.over(task).map_err(|error| internal(&error))?;
            }
            let modules = modules_of(&task).map_err(|error| internal(&error))?.into_values().collect();
            let plan = codec::encode(&self.header, task)?;
            let (files, worker) = match input {
                TaskInput::Files(partition) => (partition.files, partition.worker),
                TaskInput::Shuffled => (Vec::new(), None),
            };
            self.tasks.push(PlannedTask { plan, files, worker, modules, schema: part.schema(), partitions });
        }
        if let Some(exchange) = exchange {
            self.exchanges.push(PlannedExchange { tasks: first..first + count, exchange });
        }
        Ok(Arc::new(ResultsExec::new(part, self.results.clone(), first)))
    }
}

/// What one partition of a part reads.
enum TaskInput {
    Files(CsvPartition),
    Shuffled,
}

/// What the partitions of a node read, if each of them can be a task: the node and all below it work on one partition at a time.
fn task_inputs(node: &Arc<dyn ExecutionPlan>) -> Option<Vec<TaskInput>> {
    if let Some(partitions) = scan_partitions(node.as_ref()) {
        return Some(partitions.into_iter().map(TaskInput::Files).collect());
    }
    let count = node.properties().output_partitioning().partition_count();
    if as_shuffle(node).is_some() {
        return Some((0..count).map(|_| TaskInput::Shuffled).collect());
    }
    match node.children().as_slice() {
        [child] => {
            let inputs = task_inputs(child)?;
            let exchanges = matches!(
                node.name(),
                "RepartitionExec" | "CoalescePartitionsExec" | "SortPreservingMergeExec" | "InOrderExec"
            );
            (!exchanges && count == inputs.len()).then_some(inputs)
        }
        // Equal keys of both sides are in partitions of the same number.
        [left, right] if joins_by_partition(node.as_ref()) => {
            let (left, right) = (task_inputs(left)?, task_inputs(right)?);
            let are_shuffled = left.iter().chain(&right).all(|input| matches!(input, TaskInput::Shuffled));
            (are_shuffled && left.len() == right.len() && count == left.len()).then_some(left)
        }
        _ => None,
    }
}

fn joins_by_partition(node: &dyn ExecutionPlan) -> bool {
    let any: &dyn Any = node;
    any.is::<SortMergeJoinExec>()
        || any
            .downcast_ref::<HashJoinExec>()
            .is_some_and(|join| *join.partition_mode() == PartitionMode::Partitioned)
}

/// The part of a plan with one partition of what it reads alone.
fn of_partition(part: &Arc<dyn ExecutionPlan>, partition: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let missing = || internal_datafusion_err!("the part of the plan has no partition {partition}");
    let number = u32::try_from(partition).map_err(|_| missing())?;
    let one = part.clone().transform_up(|node| {
        if scan_partitions(node.as_ref()).is_some() {
            let one = scan_of_partition(node.as_ref(), partition);
            return Ok(Transformed::yes(one.ok_or_else(missing)?));
        }
        if let Some(shuffle) = as_shuffle(&node) {
            return Ok(Transformed::yes(Arc::new(shuffle.of_partition(number)) as _));
        }
        if as_position(&node).is_some() {
            let input = node.children()[0].clone();
            return Ok(Transformed::yes(Arc::new(PositionExec::new(input, partition as u64)) as _));
        }
        Ok(Transformed::no(node))
    });
    one.data()
}

pub(super) fn internal(error: &datafusion::error::DataFusionError) -> FrameError {
    FrameError::Internal(format!("the plan cannot be cut: {error}"))
}
