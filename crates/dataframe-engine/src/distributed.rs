//! Plans that are cut into tasks.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use dataframe_jobs::message::FileRange;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, displayable, replace_children_if_necessary};

use crate::codec::{self, PlanHeader};
use crate::csv::{CsvPartition, scan_of_partition, scan_partitions};
use crate::error::FrameError;
use crate::in_order::InOrderExec;
use crate::position::{PositionExec, as_position};
use crate::results::{ResultsExec, TaskResults};

/// What decides into how many tasks a plan is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSizing {
    /// How many tasks the cluster runs at a time. A plan has about two tasks for each.
    pub slots: usize,
}

/// One piece of work for one worker.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// A plan for [`Engine::run_task`](crate::engine::Engine::run_task).
    pub plan: Bytes,
    /// What the task reads.
    pub files: Vec<FileRange>,
    /// The only worker that has the files, where there is one.
    pub worker: Option<String>,
    /// The schema of the task's rows.
    pub schema: SchemaRef,
}

/// A plan that is cut into tasks, and what is left to do with their results.
pub struct DistributedPlan {
    rest: Arc<dyn ExecutionPlan>,
    tasks: Vec<PlannedTask>,
    parts: Vec<String>,
    results: Arc<TaskResults>,
    context: Arc<TaskContext>,
}

impl DistributedPlan {
    /// Cuts a plan at its first exchanges.
    pub(crate) fn new(
        plan: &Arc<dyn ExecutionPlan>,
        expressions: Vec<String>,
        context: Arc<TaskContext>,
    ) -> Result<Self, FrameError> {
        let mut cutter = PlanCutter {
            header: PlanHeader::new(expressions),
            results: Arc::default(),
            tasks: Vec::new(),
            parts: Vec::new(),
        };
        let rest = cutter.cut(plan)?;
        Ok(Self { rest, tasks: cutter.tasks, parts: cutter.parts, results: cutter.results, context })
    }

    /// The schema of the result.
    pub fn schema(&self) -> SchemaRef {
        self.rest.schema()
    }

    /// The tasks. Their order is that of the streams for [`DistributedPlan::finish`].
    pub fn tasks(&self) -> &[PlannedTask] {
        &self.tasks
    }

    /// The rest of the plan and the part that tasks run, for people.
    pub fn explain(&self) -> String {
        let mut text = format!("{} tasks\n", self.tasks.len());
        text.push_str("Where the job is planned:\n");
        text.push_str(&displayable(self.rest.as_ref()).indent(false).to_string());
        for part in &self.parts {
            text.push_str("In tasks:\n");
            text.push_str(part);
        }
        text
    }

    /// Runs the rest of the plan on the results of the tasks, one stream for each task, in order. Each stream has the schema
    /// with which the task's stream began.
    ///
    /// The stream's errors are turned into a [`FrameError`] by [`Engine::explain_error`](crate::engine::Engine::explain_error).
    ///
    /// # Errors
    /// Fails if there are more or fewer streams than tasks.
    pub async fn finish(
        self,
        results: Vec<SendableRecordBatchStream>,
    ) -> Result<SendableRecordBatchStream, FrameError> {
        if results.len() != self.tasks.len() {
            return Err(FrameError::Internal(format!(
                "there are {} results for {} tasks",
                results.len(),
                self.tasks.len()
            )));
        }
        self.results.put(results);
        let rest: Arc<dyn ExecutionPlan> = Arc::new(InOrderExec::new(self.rest, None));
        rest.execute(0, self.context)
            .map_err(|error| FrameError::Internal(format!("the rest of the plan does not start: {error}")))
    }
}

/// Takes the parts out of a plan that tasks can run.
struct PlanCutter {
    header: PlanHeader,
    results: Arc<TaskResults>,
    tasks: Vec<PlannedTask>,
    parts: Vec<String>,
}

impl PlanCutter {
    fn cut(&mut self, node: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, FrameError> {
        if let Some(partitions) = task_partitions(node) {
            return self.cut_off(node, partitions);
        }
        let children =
            node.children().into_iter().map(|child| self.cut(child)).collect::<Result<Vec<_>, _>>()?;
        replace_children_if_necessary(node.clone(), children).map_err(|error| internal(&error))
    }

    fn cut_off(
        &mut self,
        part: &Arc<dyn ExecutionPlan>,
        partitions: Vec<CsvPartition>,
    ) -> Result<Arc<dyn ExecutionPlan>, FrameError> {
        let first_task = self.tasks.len();
        self.parts.push(displayable(part.as_ref()).indent(false).to_string());
        for (index, partition) in partitions.into_iter().enumerate() {
            let task = of_partition(part, index).map_err(|error| internal(&error))?;
            let plan = codec::encode(&self.header, task)?;
            let (files, worker, schema) = (partition.files, partition.worker, part.schema());
            self.tasks.push(PlannedTask { plan, files, worker, schema });
        }
        Ok(Arc::new(ResultsExec::new(part, self.results.clone(), first_task)))
    }
}

/// What the partitions of a node read, if each of them can be a task: the node and all below it work on one partition at a time.
fn task_partitions(node: &Arc<dyn ExecutionPlan>) -> Option<Vec<CsvPartition>> {
    if let Some(partitions) = scan_partitions(node.as_ref()) {
        return Some(partitions);
    }
    let children = node.children();
    let [child] = children.as_slice() else { return None };
    let partitions = task_partitions(child)?;
    let count = node.properties().output_partitioning().partition_count();
    let exchanges = matches!(
        node.name(),
        "RepartitionExec" | "CoalescePartitionsExec" | "SortPreservingMergeExec" | "InOrderExec"
    );
    (!exchanges && count == partitions.len()).then_some(partitions)
}

/// The part of a plan with one partition of its scan alone.
fn of_partition(part: &Arc<dyn ExecutionPlan>, partition: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let one = part.clone().transform_up(|node| {
        if scan_partitions(node.as_ref()).is_some() {
            let one = scan_of_partition(node.as_ref(), partition);
            return Ok(Transformed::yes(
                one.ok_or_else(|| internal_datafusion_err!("the scan has no partition {partition}"))?,
            ));
        }
        if as_position(&node).is_some() {
            let input = node.children()[0].clone();
            return Ok(Transformed::yes(Arc::new(PositionExec::new(input, partition as u64)) as _));
        }
        Ok(Transformed::no(node))
    });
    one.data()
}

fn internal(error: &datafusion::error::DataFusionError) -> FrameError {
    FrameError::Internal(format!("the plan cannot be cut: {error}"))
}
