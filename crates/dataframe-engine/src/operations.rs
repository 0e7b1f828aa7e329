//! Operations → a logical plan of DataFusion, with the meaning of Dask and pandas.

mod aggregates;
mod columns;
mod distinct;
mod expressions;
mod frame_plan;
mod groups;
mod joins;
mod queries;
mod reductions;
mod rows;
mod scope;
mod types;

use std::collections::VecDeque;
use std::sync::Arc;

use dataframe_jobs::operation::Operation;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures_util::future::BoxFuture;

use self::aggregates::Aggregate;
use self::frame_plan::{FramePlan, OrderKey, build};
pub(crate) use self::scope::{Scope, reads};
pub use self::types::dtype_of;
use crate::error::FrameError;
use crate::position::{POSITION, PositionedTable};
use crate::wasm::WasmHost;

/// Where plans find what they name: functions of DataFusion, and functions of modules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanContext<'a> {
    pub(crate) state: &'a SessionState,
    pub(crate) host: &'a WasmHost,
}

/// What a `read_csv` has become.
pub(crate) enum SourceTable {
    /// A table whose partitions hold the rows in their order. It is told whether it has one partition.
    Table { rows: Arc<dyn TableProvider>, single: bool },
    /// A plan whose rows come in any order. Beside the named columns it has [`POSITION`].
    Planned { plan: LogicalPlan, names: Vec<String> },
}

/// The plan of a list of operations. The tables stand in the order of [`reads`].
///
/// # Errors
/// Fails if an operation is wrong: a missing column, an expression, a type.
pub(crate) async fn plan(
    context: PlanContext<'_>,
    operations: &[Operation],
    tables: Vec<SourceTable>,
) -> Result<LogicalPlan, FrameError> {
    let mut tables = VecDeque::from(tables);
    frame(context, operations, &mut tables).await?.finish()
}

fn frame<'a>(
    context: PlanContext<'a>,
    operations: &'a [Operation],
    tables: &'a mut VecDeque<SourceTable>,
) -> BoxFuture<'a, Result<FramePlan, FrameError>> {
    Box::pin(async move {
        let table = tables.pop_front().expect("there is a table for each list of operations");
        let mut frame = source(table)?;
        for operation in operations.iter().skip(1) {
            frame = match operation {
                Operation::Merge { right, how, left_on, right_on } => {
                    let right = self::frame(context, right, tables).await?;
                    joins::merge(frame, right, *how, left_on, right_on)?
                }
                Operation::Sql { query, name, tables: others } => {
                    let mut named = vec![(name.as_str(), frame)];
                    for (other, list) in others {
                        named.push((other, self::frame(context, list, tables).await?));
                    }
                    queries::sql(context.state, named, query).await?
                }
                Operation::ReadCsv(_) => {
                    return Err(FrameError::BadJob(
                        "read_csv is the first operation of a list, and no later one".into(),
                    ));
                }
                other => step(context, frame, other)?,
            };
        }
        Ok(frame)
    })
}

fn source(table: SourceTable) -> Result<FramePlan, FrameError> {
    let order = vec![OrderKey::ascending(POSITION)];
    let (rows, single) = match table {
        SourceTable::Table { rows, single } => (rows, single),
        SourceTable::Planned { plan, names } => {
            frame_plan::check_unique(&names)?;
            return Ok(FramePlan::new(plan, names, order, false));
        }
    };
    let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    frame_plan::check_unique(&names)?;
    let positioned = Arc::new(PositionedTable::new(rows));
    let plan = build(LogicalPlanBuilder::scan("df", provider_as_source(positioned), None))?;
    let mut frame = FramePlan::new(plan, names, order, true);
    frame.single = single;
    Ok(frame)
}

fn step(context: PlanContext<'_>, frame: FramePlan, operation: &Operation) -> Result<FramePlan, FrameError> {
    match operation {
        Operation::Apply(apply) => rows::apply(context, frame, apply),
        Operation::Assign { columns } => rows::assign(context.state, frame, columns),
        Operation::Query { predicate } => rows::query(context.state, frame, predicate),
        Operation::Isin { values, column } => rows::isin(frame, values, column.as_ref()),
        Operation::Fillna { value, columns } => rows::fillna(frame, value, columns),
        Operation::Dropna { how, subset } => rows::dropna(frame, *how, subset),
        Operation::Head { n, .. } => frame.first(whole(*n)),
        Operation::Tail { n } => frame.last(whole(*n)),
        Operation::Select { columns } => columns::select(frame, columns),
        Operation::Drop { columns } => columns::drop(frame, columns),
        Operation::Rename { columns } => columns::rename(frame, columns),
        Operation::Columns {} => columns::columns(&frame),
        Operation::Dtypes {} => columns::dtypes(&frame),
        Operation::Groupby { by, agg } => groups::groupby(frame, by, agg),
        Operation::ValueCounts { column } => groups::value_counts(frame, column),
        Operation::Unique { column } => groups::unique(frame, column),
        Operation::SortValues { by, ascending } => groups::sort_values(frame, by, ascending),
        Operation::Len {} => reductions::len(frame),
        Operation::Max(columns) => reductions::reduce(frame, Aggregate::Max, columns),
        Operation::Min(columns) => reductions::reduce(frame, Aggregate::Min, columns),
        Operation::Sum(columns) => reductions::reduce(frame, Aggregate::Sum, columns),
        Operation::Mean(columns) => reductions::reduce(frame, Aggregate::Mean, columns),
        Operation::Count(columns) => reductions::reduce(frame, Aggregate::Count, columns),
        Operation::Std(columns) => reductions::reduce(frame, Aggregate::Std, columns),
        Operation::Var(columns) => reductions::reduce(frame, Aggregate::Var, columns),
        Operation::Nunique(columns) => reductions::reduce(frame, Aggregate::Nunique, columns),
        Operation::Describe(columns) => reductions::describe(frame, columns),
        // The pairs of `items` are the columns of the frame, in order: whoever shows them takes the frame apart.
        Operation::Items {} | Operation::Persist {} => Ok(frame),
        Operation::ReadCsv(_) | Operation::Merge { .. } | Operation::Sql { .. } => {
            Err(FrameError::Internal("sources and joins are planned by their caller".into()))
        }
    }
}

fn whole(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
