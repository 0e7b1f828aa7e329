//! Plans for a cluster of somebody else's: nothing in them but nodes and functions that every DataFusion of this version has, so that
//! the cluster needs no code of this crate.

mod rewrite;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use dataframe_jobs::operation::{self, Operation};
use dataframe_wasm::ModuleStore;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use crate::compute::Compute;
use crate::csv::{self, FileCut, Inspection, StockSource};
use crate::engine::scope_cut;
use crate::error::{FrameError, Widenings};
use crate::failures::{explain_error, expressions};
use crate::frame::Frame;
use crate::operations::{self, PlanContext, Scope, SourceTable};
use crate::position::POSITION;
use crate::session::{SessionLimits, session};
use crate::wasm::WasmHost;

/// A cluster that runs plans of stock DataFusion.
#[async_trait]
pub trait StockCluster: Send + Sync {
    /// Runs a plan to its end, and gives its rows in their order.
    ///
    /// # Errors
    /// Fails with what the cluster says.
    async fn run(&self, plan: LogicalPlan) -> Result<Vec<RecordBatch>, DataFusionError>;
}

/// Computes frames on a [`StockCluster`], which reads the same files by the same paths.
pub struct StockCompute<C> {
    state: SessionState,
    cluster: C,
}

/// One `read_csv`, after a look at its files.
struct InspectedRead {
    inspection: Inspection,
    scope: Scope,
}

impl<C: StockCluster> StockCompute<C> {
    /// Plans for this cluster.
    ///
    /// # Errors
    /// Fails if the planner cannot be set up.
    pub fn new(cluster: C) -> Result<Self, FrameError> {
        let limits = SessionLimits { threads: 1, memory_bytes: None, spill_folder: None };
        let session = session(limits)
            .map_err(|error| FrameError::Resources(format!("the planner cannot be set up: {error}")))?;
        Ok(Self { state: session.state(), cluster })
    }

    async fn inspected(&self, operations: &[Operation]) -> Result<Vec<InspectedRead>, FrameError> {
        if !operation::modules(operations).is_empty() {
            return Err(FrameError::BadJob(
                "apply: a stock cluster of DataFusion does not run functions of WebAssembly modules: \
                 use an expression in SQL, or a cluster of dataframe-master"
                    .into(),
            ));
        }
        let mut inspected = Vec::new();
        for read in operations::reads(operations)? {
            inspected.push(InspectedRead { inspection: csv::inspect(read.csv).await?, scope: read.scope });
        }
        Ok(inspected)
    }

    /// What is read of the files. Counting the records before a cut takes time, so it has a thread of its own.
    async fn sources(
        &self,
        reads: &[InspectedRead],
        widenings: &Widenings,
    ) -> Result<Vec<StockSource>, FrameError> {
        let mut sources = Vec::new();
        for read in reads {
            let (inspection, widenings) = (read.inspection.clone(), widenings.clone());
            // All of a file is read as one part.
            let cut = scope_cut(read.scope, inspection.options.blocksize, FileCut::WHOLE_FILES);
            let source = tokio::task::spawn_blocking(move || StockSource::new(&inspection, &widenings, cut));
            let source = source
                .await
                .map_err(|error| FrameError::Internal(format!("looking at files ended early: {error}")))?;
            sources.push(source?);
        }
        Ok(sources)
    }

    async fn plan(
        &self,
        operations: &[Operation],
        sources: &[StockSource],
    ) -> Result<LogicalPlan, FrameError> {
        let host = WasmHost { modules: ModuleStore::default(), budget: None, at: String::new() };
        let planned = |error: DataFusionError| explain_error(&error, &expressions(operations));
        let mut tables = Vec::new();
        for source in sources {
            let plan = source.rows(POSITION).map_err(planned)?;
            tables.push(SourceTable::Planned { plan, names: source.names() });
        }
        let plan =
            operations::plan(PlanContext { state: &self.state, host: &host }, operations, tables).await?;
        rewrite::with_stock_functions(plan).map_err(planned)
    }

    /// What the files have that their samples did not show, as the cluster finds it.
    async fn learn(
        &self,
        sources: &[StockSource],
        widenings: &mut Widenings,
        failure: &DataFusionError,
    ) -> Result<(), FrameError> {
        let mut learnt = false;
        for source in sources {
            let Some(question) = source.misfits().map_err(|error| explain_error(&error, &[]))? else {
                continue;
            };
            let answer = self.cluster.run(question).await.map_err(|error| explain_error(&error, &[]))?;
            for widening in source.widenings(&answer)? {
                learnt |= widenings.add(widening);
            }
        }
        if learnt { Ok(()) } else { Err(explain_error(failure, &[])) }
    }
}

/// Whether a field may not have fitted the type of its column. An expression of the user's may have done the same.
fn may_be_misfit(error: &DataFusionError) -> bool {
    error.to_string().contains("Cannot cast")
}

#[async_trait]
impl<C: StockCluster> Compute for StockCompute<C> {
    async fn compute(&self, operations: &[Operation]) -> Result<Frame, FrameError> {
        let reads = self.inspected(operations).await?;
        let mut widenings = Widenings::default();
        loop {
            let sources = self.sources(&reads, &widenings).await?;
            let plan = self.plan(operations, &sources).await?;
            let schema: SchemaRef = plan.schema().inner().clone();
            match self.cluster.run(plan).await {
                Ok(batches) => return Ok(frame(schema, batches)),
                Err(error) if may_be_misfit(&error) => self.learn(&sources, &mut widenings, &error).await?,
                Err(error) => return Err(explain_error(&error, &expressions(operations))),
            }
        }
    }

    async fn explain(&self, operations: &[Operation]) -> Result<String, FrameError> {
        let reads = self.inspected(operations).await?;
        let sources = self.sources(&reads, &Widenings::default()).await?;
        let plan = self.plan(operations, &sources).await?;
        let plan =
            self.state.optimize(&plan).map_err(|error| explain_error(&error, &expressions(operations)))?;
        Ok(plan.display_indent().to_string())
    }
}

/// The rows as a frame. The types are those of the rows, as the last step of the cluster's planner made them.
fn frame(planned: SchemaRef, batches: Vec<RecordBatch>) -> Frame {
    let schema = batches.first().map_or(planned, RecordBatch::schema);
    Frame { schema, batches: batches.into_iter().filter(|batch| batch.num_rows() > 0).collect() }
}
