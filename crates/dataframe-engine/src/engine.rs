//! One process' memory, threads and functions.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::{Operation, ReadCsv};
use dataframe_wasm::{ModuleStore, TaskBudget, WasmLimits};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned, displayable};
use datafusion::prelude::SessionContext;
use futures_util::TryStreamExt;

use crate::codec;
use crate::compute::Compute;
use crate::csv::{self, CsvTable, FileCut, Inspection, KeptBlocks};
use crate::distributed::{DistributedPlan, ShuffleSettings, TaskSizing};
use crate::error::{FrameError, Widenings};
use crate::failures::{explain_error, expressions};
use crate::frame::Frame;
use crate::functions;
use crate::in_order::in_order_plan;
use crate::inspector::Inspector;
use crate::operations::{self, PlanContext, Scope, SourceTable};
use crate::session::{SessionLimits, session};
use crate::shuffle::{HashExchange, ShuffleSource, with_source};
use crate::sql_text;
use crate::wasm::{WasmHost, place_of};

/// A part of the files that is worth a thread of its own.
const MIN_PARTITION_BYTES: u64 = 1 << 20;
/// A task is not smaller, so that the cost of sending it does not show.
const MIN_TASK_BYTES: u64 = 16 << 20;
/// A task is not larger, so that a lost one is soon done again.
const MAX_TASK_BYTES: u64 = 512 << 20;
/// Tasks for each place, so that fast workers can take more than slow ones.
const TASKS_PER_SLOT: usize = 2;
/// Rows are exchanged by hash only in plans of several partitions, and a stage that is shuffled needs such an exchange.
const MIN_EXCHANGED_PARTITIONS: usize = 2;

/// Where a plan is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlanPlace {
    /// In this process.
    Here,
    /// In tasks, and what is left of it here.
    Tasks,
}

/// How much of the machine an [`Engine`] may use.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// How many partitions are worked on at a time. 0 means as many as there are processors.
    pub threads: usize,
    /// The most memory for sorting, joining and grouping, in bytes. No limit if absent.
    pub memory_bytes: Option<u64>,
    /// Where sorting, joining and grouping put what does not fit in memory; the system's temporary folder if absent.
    pub spill_folder: Option<PathBuf>,
    /// What WebAssembly modules may use; none runs if absent.
    pub wasm: Option<WasmLimits>,
}

/// Plans and runs operations. Clones share memory, threads and functions.
#[derive(Clone)]
pub struct Engine {
    session: SessionContext,
    threads: usize,
    shuffles: ShuffleSettings,
    modules: ModuleStore,
    wasm: Option<WasmLimits>,
}

/// A task that runs.
pub struct TaskRun {
    /// Its rows. Errors come as a [`FrameError`] inside an error of DataFusion; [`Engine::explain_error`] takes it out.
    pub rows: SendableRecordBatchStream,
    /// How the rows are split if they take more than so many bytes in memory, where they go into an exchange.
    pub exchange: Option<(HashExchange, u64)>,
    /// What has been spilled so far.
    pub spilling: SpillMeter,
}

/// Tells what a running task has written to disk because it did not fit in memory.
#[derive(Clone)]
pub struct SpillMeter(Arc<dyn ExecutionPlan>);

impl SpillMeter {
    /// The bytes that have been written so far.
    pub fn bytes(&self) -> usize {
        let mut bytes = 0;
        // The closure does not fail.
        let _ = self.0.apply(|node| {
            bytes += node.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or(0);
            Ok(TreeNodeRecursion::Continue)
        });
        bytes
    }
}

impl Engine {
    /// Sets an engine up.
    ///
    /// # Errors
    /// Fails if the spill folder cannot be used.
    pub fn new(config: EngineConfig) -> Result<Self, FrameError> {
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            told => told,
        };
        let limits =
            SessionLimits { threads, memory_bytes: config.memory_bytes, spill_folder: config.spill_folder };
        let session = session(limits)
            .map_err(|error| FrameError::Resources(format!("the engine cannot be set up: {error}")))?;
        let modules = ModuleStore::default();
        Ok(Self { session, threads, shuffles: ShuffleSettings::default(), modules, wasm: config.wasm })
    }

    /// Plans with these settings from now on.
    #[must_use]
    pub fn with_shuffles(self, shuffles: ShuffleSettings) -> Self {
        Self { shuffles, ..self }
    }

    /// The WebAssembly modules that operations can name. Whether they run is another question.
    pub fn modules(&self) -> &ModuleStore {
        &self.modules
    }

    /// What the calls of modules in one task may use; `None` if this engine runs none.
    pub fn task_budget(&self) -> Option<TaskBudget> {
        self.wasm.map(TaskBudget::new)
    }

    fn host(&self, budget: Option<&TaskBudget>, at: String) -> WasmHost {
        WasmHost { modules: self.modules.clone(), budget: budget.cloned(), at }
    }

    /// The names of the functions for `apply`, in alphabetical order.
    pub fn function_names(&self) -> Vec<String> {
        functions::names()
    }

    /// Computes a frame in this process, on all threads. Widens types where a value does not fit.
    ///
    /// # Errors
    /// Fails if the operations are wrong, or if the data cannot be read with them.
    pub async fn compute(&self, operations: &[Operation]) -> Result<Frame, FrameError> {
        let mut widenings = Widenings::default();
        loop {
            match self.compute_once(operations, &widenings).await {
                Err(FrameError::Widen(widening)) => {
                    if !widenings.add(widening.clone()) {
                        return Err(FrameError::Internal(format!("a type is widened twice: {widening}")));
                    }
                }
                computed => return computed,
            }
        }
    }

    async fn compute_once(
        &self,
        operations: &[Operation],
        widenings: &Widenings,
    ) -> Result<Frame, FrameError> {
        let cut = self.local_cut();
        let budget = self.task_budget();
        let _stop = budget.as_ref().map(TaskBudget::stop_on_drop);
        let place = PlanPlace::Here;
        let plan = self.physical_plan(operations, self, widenings, cut, place, budget.as_ref()).await?;
        let schema = plan.schema();
        let partitions = collect_partitioned(plan, self.session.task_ctx())
            .await
            .map_err(|error| explain_error(&error, &expressions(operations)))?;
        let batches = partitions.into_iter().flatten().filter(|batch| batch.num_rows() > 0).collect();
        Ok(Frame { schema, batches })
    }

    /// Tells how the operations would be computed in this process.
    ///
    /// # Errors
    /// Fails if the operations are wrong.
    pub async fn explain(&self, operations: &[Operation]) -> Result<String, FrameError> {
        let (widenings, cut) = (Widenings::default(), self.local_cut());
        let plan = self.physical_plan(operations, self, &widenings, cut, PlanPlace::Here, None).await?;
        Ok(displayable(plan.as_ref()).indent(false).to_string())
    }

    /// The operations of a query in SQL whose tables are paths in double quotes, such as `select * from "data/*.csv"`.
    ///
    /// # Errors
    /// Fails if the text is not one query, or if a table is no path.
    pub fn operations_of(&self, query: &str) -> Result<Vec<Operation>, FrameError> {
        sql_text::operations_of(&self.session.state(), query)
    }

    /// Finds the files of a source and infers their types.
    ///
    /// # Errors
    /// Fails if there is no file, or if one cannot be read.
    pub async fn inspect(&self, read: &ReadCsv) -> Result<Inspection, FrameError> {
        csv::inspect(read).await
    }

    /// Plans operations, and cuts the plan into tasks.
    ///
    /// # Errors
    /// Fails if the operations are wrong, or if the inspector fails.
    pub async fn plan(
        &self,
        operations: &[Operation],
        inspector: &dyn Inspector,
        widenings: &Widenings,
        sizing: TaskSizing,
    ) -> Result<DistributedPlan, FrameError> {
        let cut = FileCut::Even {
            partitions: sizing.slots.max(1) * TASKS_PER_SLOT,
            min_bytes: MIN_TASK_BYTES,
            max_bytes: MAX_TASK_BYTES,
        };
        self.plan_cut(operations, inspector, widenings, cut).await
    }

    /// As [`Engine::plan`], with the files cut in a given way.
    ///
    /// # Errors
    /// As those of [`Engine::plan`].
    pub async fn plan_cut(
        &self,
        operations: &[Operation],
        inspector: &dyn Inspector,
        widenings: &Widenings,
        cut: FileCut,
    ) -> Result<DistributedPlan, FrameError> {
        let (place, budget) = (PlanPlace::Tasks, self.task_budget());
        let plan = self.physical_plan(operations, inspector, widenings, cut, place, budget.as_ref()).await?;
        DistributedPlan::new(&plan, expressions(operations), self.session.task_ctx(), self.shuffles, budget)
    }

    /// Runs a task at a worker. The modules that it calls are in the [`ModuleStore`] already, and use the budget.
    ///
    /// # Errors
    /// Fails if a file has changed, or if the plan cannot be decoded. Errors of the data come through the stream, as a
    /// [`FrameError`] inside an error of DataFusion; [`Engine::explain_error`] takes it out.
    pub fn run_task(
        &self,
        plan: &Bytes,
        files: &[FileRange],
        budget: Option<&TaskBudget>,
    ) -> Result<SendableRecordBatchStream, FrameError> {
        Ok(self.run(plan, files, self.session.task_ctx(), budget)?.rows)
    }

    /// As [`Engine::run_task`], for a task that may read shuffles, and whose rows may go into an exchange.
    ///
    /// # Errors
    /// As those of [`Engine::run_task`].
    pub fn run_shuffling_task(
        &self,
        plan: &Bytes,
        files: &[FileRange],
        source: Arc<dyn ShuffleSource>,
        budget: Option<&TaskBudget>,
    ) -> Result<TaskRun, FrameError> {
        self.run(plan, files, with_source(&self.session.task_ctx(), source), budget)
    }

    fn run(
        &self,
        plan: &Bytes,
        files: &[FileRange],
        context: Arc<TaskContext>,
        budget: Option<&TaskBudget>,
    ) -> Result<TaskRun, FrameError> {
        csv::check_unchanged(files)?;
        let (header, plan) = codec::decode(plan, &context, &self.host(budget, place_of(files)))?;
        let (exchange, plan) = match HashExchange::of(&plan) {
            Some((exchange, input)) => (Some((exchange, header.split_above)), input),
            None => (None, plan),
        };
        let expressions = header.expressions;
        let rows = plan.execute(0, context).map_err(|error| explain_error(&error, &expressions))?;
        let (schema, spilling) = (rows.schema(), SpillMeter(plan));
        let explained = rows
            .map_err(move |error| DataFusionError::External(Box::new(explain_error(&error, &expressions))));
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, explained));
        Ok(TaskRun { rows, exchange, spilling })
    }

    /// Classifies an error that came through a stream of [`Engine::run_task`] or [`DistributedPlan::finish`].
    pub fn explain_error(&self, error: &DataFusionError, files: &[FileRange]) -> FrameError {
        match (explain_error(error, &[]), files) {
            // An error of the operating system does not name its file.
            (FrameError::File(message), [only]) if !message.contains(&only.path) => {
                FrameError::File(format!("{}: {message}", only.path))
            }
            (explained, _) => explained,
        }
    }

    fn local_cut(&self) -> FileCut {
        FileCut::Even { partitions: self.threads, min_bytes: MIN_PARTITION_BYTES, max_bytes: u64::MAX }
    }

    async fn physical_plan(
        &self,
        operations: &[Operation],
        inspector: &dyn Inspector,
        widenings: &Widenings,
        cut: FileCut,
        place: PlanPlace,
        budget: Option<&TaskBudget>,
    ) -> Result<Arc<dyn ExecutionPlan>, FrameError> {
        let mut tables = Vec::new();
        for read in operations::reads(operations)? {
            let inspection = inspector.inspect(read.csv).await?;
            let cut = scope_cut(read.scope, read.csv.options.blocksize, cut);
            // Files with quotes are read to find where records begin, which takes time.
            let widenings = widenings.clone();
            let table =
                tokio::task::spawn_blocking(move || CsvTable::new(&inspection, &widenings, cut)).await;
            let table =
                table.map_err(|error| FrameError::Internal(format!("cutting files ended early: {error}")))?;
            let rows = Arc::new(table?);
            let single = rows.partitions().len() == 1;
            tables.push(SourceTable::Table { rows, single });
        }
        let mut state = self.session.state();
        if place == PlanPlace::Tasks {
            let options = state.config_mut().options_mut();
            options.execution.target_partitions = self.threads.max(MIN_EXCHANGED_PARTITIONS);
            // Both sides of a join are exchanged, so that tasks can join them. A side that is kept whole is kept in one process.
            options.optimizer.hash_join_single_partition_threshold = 0;
            options.optimizer.hash_join_single_partition_threshold_rows = 0;
        }
        let host = self.host(budget, String::new());
        let plan = operations::plan(PlanContext { state: &state, host: &host }, operations, tables).await?;
        let planned = state
            .create_physical_plan(&plan)
            .await
            .and_then(in_order_plan)
            .map_err(|error| explain_error(&error, &expressions(operations)))?;
        Ok(planned)
    }
}

/// How the files of one `read_csv` are cut, if `all` is how all of them are cut.
pub(crate) fn scope_cut(scope: Scope, bytes: u64, all: FileCut) -> FileCut {
    match scope {
        Scope::All => all,
        Scope::FromStart => FileCut::WHOLE_FILES,
        Scope::First(blocks) => {
            let keep = KeptBlocks::First(usize::try_from(blocks).unwrap_or(usize::MAX));
            FileCut::Blocks { bytes, keep }
        }
        Scope::Last => FileCut::Blocks { bytes, keep: KeptBlocks::Last(1) },
    }
}

#[async_trait]
impl Compute for Engine {
    async fn compute(&self, operations: &[Operation]) -> Result<Frame, FrameError> {
        Self::compute(self, operations).await
    }

    async fn explain(&self, operations: &[Operation]) -> Result<String, FrameError> {
        Self::explain(self, operations).await
    }
}

#[async_trait]
impl Inspector for Engine {
    async fn inspect(&self, read: &ReadCsv) -> Result<Inspection, FrameError> {
        Self::inspect(self, read).await
    }
}
