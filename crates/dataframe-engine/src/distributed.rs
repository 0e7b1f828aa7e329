//! Plans that are cut into tasks.
//!
//! What lies below the first exchanges of a plan is its first *stage*: tasks that read files. If the rows that come of it are
//! many, they are shuffled: a `ShuffleExec` takes the place of each exchange, and the plan is cut
//! again, into tasks of which each reads one partition. What no task can do is done where the job is planned.

mod cutter;
mod rewrite;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use dataframe_wasm::{StopOnDrop, TaskBudget};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, displayable};

use self::cutter::{ExplainedPart, PlanCutter, internal};
pub use self::cutter::{PlannedExchange, PlannedTask};
use self::rewrite::{Shuffled, shuffles_of};
use crate::codec::PlanHeader;
use crate::csv::scan_partitions;
use crate::error::FrameError;
use crate::in_order::InOrderExec;
use crate::results::TaskResults;
use crate::shuffle::{ShuffleSource, with_source};
use crate::wasm::modules_of;

/// What decides into how many tasks a plan is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSizing {
    /// How many tasks the cluster runs at a time. A plan has about two tasks for each.
    pub slots: usize,
}

/// When rows are shuffled among tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShuffleSettings {
    /// A task whose rows take more bytes in memory splits them, so that the next stage can run in tasks.
    pub above: u64,
    /// A join whose left side has a partition of more bytes sorts both sides, which can be spilled, in place of hashing.
    pub hashed_side: u64,
}

impl Default for ShuffleSettings {
    fn default() -> Self {
        Self { above: 8 << 20, hashed_side: 64 << 20 }
    }
}

/// So much of the files for each partition of an exchange.
const PARTITION_BYTES: u64 = 32 << 20;

/// The fewest and the most partitions of an exchange.
const PARTITIONS: (u64, u64) = (16, 256);

/// A plan that is cut into tasks, and what is left to do with their results.
pub struct DistributedPlan {
    rest: Arc<dyn ExecutionPlan>,
    header: PlanHeader,
    settings: ShuffleSettings,
    partitions: u32,
    /// How many tasks earlier stages had.
    earlier: usize,
    /// How many shuffles earlier stages had.
    shuffles: u32,
    tasks: Vec<PlannedTask>,
    exchanges: Vec<PlannedExchange>,
    /// What the tasks of this stage run, for people.
    parts: Vec<ExplainedPart>,
    /// What those of each earlier stage ran.
    earlier_stages: Vec<String>,
    results: Arc<TaskResults>,
    context: Arc<TaskContext>,
    /// What calls of modules in the rest may use, if this process runs any.
    budget: Option<TaskBudget>,
}

impl DistributedPlan {
    /// Cuts a plan at its first exchanges. The budget is that of calls of modules in the rest, if this process runs any.
    pub(crate) fn new(
        plan: &Arc<dyn ExecutionPlan>,
        expressions: Vec<String>,
        context: Arc<TaskContext>,
        settings: ShuffleSettings,
        budget: Option<TaskBudget>,
    ) -> Result<Self, FrameError> {
        let first = Self {
            rest: plan.clone(),
            header: PlanHeader::new(expressions, settings.above),
            settings,
            partitions: partitions_for(plan)?,
            earlier: 0,
            shuffles: 0,
            tasks: Vec::new(),
            exchanges: Vec::new(),
            parts: Vec::new(),
            earlier_stages: Vec::new(),
            results: Arc::default(),
            context,
            budget,
        };
        let cut = first.cut()?;
        cut.check_rest()?;
        Ok(cut)
    }

    /// What is left may run in this process, so its modules must be allowed to. Whether later stages run in tasks is known only when
    /// the rows of this one are there.
    fn check_rest(&self) -> Result<(), FrameError> {
        let modules = modules_of(&self.rest).map_err(|error| internal(&error))?;
        let (Some(module), None) = (modules.keys().next(), &self.budget) else { return Ok(()) };
        Err(FrameError::BadJob(format!(
            "apply: the module {module} is called on rows that several tasks have put together, such as groups or sorted rows. \
             The master computes with them itself, and runs modules only if it is started with --allow-wasm. A call that stands before groupby, \
             head or sort_values runs on workers"
        )))
    }

    fn cut(self) -> Result<Self, FrameError> {
        let mut cutter = PlanCutter {
            header: self.header.clone(),
            results: self.results.clone(),
            earlier: self.earlier,
            partitions: self.partitions,
            tasks: Vec::new(),
            exchanges: Vec::new(),
            parts: Vec::new(),
        };
        let rest = cutter.cut(&self.rest)?;
        Ok(Self { rest, tasks: cutter.tasks, exchanges: cutter.exchanges, parts: cutter.parts, ..self })
    }

    /// The plan of the next stage, when the rows of all exchanges of this stage have been shuffled. `largest` tells the bytes of the
    /// largest partition of each of them, in their order.
    ///
    /// # Errors
    /// Fails if the plan cannot be cut.
    pub fn next_stage(mut self, largest: &[u64]) -> Result<Self, FrameError> {
        let shuffled = Shuffled {
            exchanges: &self.exchanges,
            largest,
            first: self.shuffles,
            partitions: self.partitions,
            hashed_side: self.settings.hashed_side,
        };
        self.rest = shuffled.rewrite(self.rest.clone()).map_err(|error| internal(&error))?;
        self.shuffles += u32::try_from(self.exchanges.len()).unwrap_or(u32::MAX);
        self.earlier += self.tasks.len();
        self.earlier_stages.push(self.explain_stage(true));
        self.cut()
    }

    /// Stops calls of modules in the rest of the plan when it is dropped. Such a call cannot be dropped while it runs.
    pub fn stop_on_drop(&self) -> Option<StopOnDrop> {
        self.budget.as_ref().map(TaskBudget::stop_on_drop)
    }

    /// The schema of the result.
    pub fn schema(&self) -> SchemaRef {
        self.rest.schema()
    }

    /// The tasks of this stage. Their order is that of the streams for [`DistributedPlan::finish`], where those of earlier stages
    /// come first.
    pub fn tasks(&self) -> &[PlannedTask] {
        &self.tasks
    }

    /// How many tasks earlier stages had.
    pub fn earlier_tasks(&self) -> usize {
        self.earlier
    }

    /// The exchanges that the rows of this stage go into. Where there is one, a task may give its rows in partitions.
    pub fn exchanges(&self) -> &[PlannedExchange] {
        &self.exchanges
    }

    /// The number of the shuffle that the first of [`DistributedPlan::exchanges`] becomes; the others follow.
    pub fn first_shuffle(&self) -> u32 {
        self.shuffles
    }

    /// The shuffles that are still read when the tasks of this stage have ended.
    ///
    /// # Errors
    /// Fails if the plan cannot be looked through.
    pub fn later_shuffles(&self) -> Result<std::collections::BTreeSet<u32>, FrameError> {
        shuffles_of(&self.rest).map_err(|error| internal(&error))
    }

    /// What the tasks of each stage run, and the rest of the plan, for people.
    pub fn explain(&self) -> String {
        let mut text = format!("{} tasks\n", self.earlier + self.tasks.len());
        self.earlier_stages.iter().for_each(|stage| text.push_str(stage));
        text.push_str(&self.explain_stage(false));
        text.push_str("The master, with the results of the tasks:\n");
        text.push_str(&displayable(self.rest.as_ref()).indent(false).to_string());
        text
    }

    fn explain_stage(&self, is_shuffled: bool) -> String {
        let number = self.earlier_stages.len() + 1;
        let explained = |part: &ExplainedPart| {
            let ExplainedPart { tasks, is_exchanged, plan } = part;
            let count = if *tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
            let shuffled = if is_shuffled && *is_exchanged { ", whose rows are shuffled" } else { "" };
            format!("Stage {number}, {count}{shuffled}:\n{plan}")
        };
        self.parts.iter().map(explained).collect()
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
        self.finish_in(results, None)
    }

    /// As [`DistributedPlan::finish`], after stages whose results were shuffled. The streams of shuffled results are not read.
    ///
    /// # Errors
    /// As those of [`DistributedPlan::finish`].
    pub async fn finish_shuffled(
        self,
        results: Vec<SendableRecordBatchStream>,
        source: Arc<dyn ShuffleSource>,
    ) -> Result<SendableRecordBatchStream, FrameError> {
        self.finish_in(results, Some(source))
    }

    fn finish_in(
        self,
        results: Vec<SendableRecordBatchStream>,
        source: Option<Arc<dyn ShuffleSource>>,
    ) -> Result<SendableRecordBatchStream, FrameError> {
        let tasks = self.earlier + self.tasks.len();
        if results.len() != tasks {
            return Err(FrameError::Internal(format!(
                "there are {} results for {tasks} tasks",
                results.len(),
            )));
        }
        self.results.put(results);
        let context = match source {
            Some(source) => with_source(&self.context, source),
            None => self.context,
        };
        let rest: Arc<dyn ExecutionPlan> = Arc::new(InOrderExec::new(self.rest, None));
        rest.execute(0, context)
            .map_err(|error| FrameError::Internal(format!("the rest of the plan does not start: {error}")))
    }
}

/// Into how many partitions exchanges split, by the size of the files.
fn partitions_for(plan: &Arc<dyn ExecutionPlan>) -> Result<u32, FrameError> {
    let mut bytes = 0_u64;
    plan.apply(|node| {
        let partitions = scan_partitions(node.as_ref()).unwrap_or_default();
        let files = partitions.iter().flat_map(|partition| &partition.files);
        bytes += files.map(|file| file.end.saturating_sub(file.start)).sum::<u64>();
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|error| internal(&error))?;
    let partitions = (bytes / PARTITION_BYTES).clamp(PARTITIONS.0, PARTITIONS.1);
    Ok(u32::try_from(partitions).expect("it is at most 256"))
}
