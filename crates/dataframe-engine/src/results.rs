//! A source of rows that tasks have made: what stands in a plan in place of the part that was cut off.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// The streams of all tasks of a plan. Each is taken once.
#[derive(Default)]
pub(crate) struct TaskResults {
    streams: Mutex<Vec<Option<SendableRecordBatchStream>>>,
}

impl fmt::Debug for TaskResults {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("TaskResults")
    }
}

impl TaskResults {
    pub(crate) fn put(&self, streams: Vec<SendableRecordBatchStream>) {
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) =
            streams.into_iter().map(Some).collect();
    }

    fn take(&self, task: usize) -> Result<SendableRecordBatchStream> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.get_mut(task).and_then(Option::take);
        stream.ok_or_else(|| {
            internal_datafusion_err!("the result of task {task} is not there, or is read twice")
        })
    }
}

/// Gives the rows of some tasks, one partition for each.
#[derive(Debug)]
pub(crate) struct ResultsExec {
    results: Arc<TaskResults>,
    first_task: usize,
    properties: Arc<PlanProperties>,
}

impl ResultsExec {
    /// Stands in place of `cut`, whose partitions are the tasks that begin with `first_task`.
    pub(crate) fn new(cut: &Arc<dyn ExecutionPlan>, results: Arc<TaskResults>, first_task: usize) -> Self {
        Self { results, first_task, properties: cut.properties().clone() }
    }

    pub(crate) fn first_task(&self) -> usize {
        self.first_task
    }
}

impl DisplayAs for ResultsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let partitions = self.properties.output_partitioning().partition_count();
        write!(f, "ResultsExec: tasks={}..{}", self.first_task, self.first_task + partitions)
    }
}

impl ExecutionPlan for ResultsExec {
    fn name(&self) -> &'static str {
        "ResultsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("ResultsExec has no input") }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.results.take(self.first_task + partition)
    }
}
