//! Aggregates over whole columns.

use arrow::datatypes::DataType;
use dataframe_jobs::operation::Reduction;
use datafusion::logical_expr::conditional_expressions::CaseBuilder;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit};

use super::aggregates::{Aggregate, percentile};
use super::distinct::{WantedAggregate, aggregated};
use super::frame_plan::{FramePlan, OrderKey, build, column, planning};
use super::types::{is_number, is_ordered};
use crate::error::FrameError;
use crate::functions::nan_to_null;

/// `max`, `min`, `sum`, `mean`, `count`, `std`, `var`, `nunique`: one row.
pub(crate) fn reduce(
    frame: FramePlan,
    aggregate: Aggregate,
    reduction: &Reduction,
) -> Result<FramePlan, FrameError> {
    let name = aggregate.name();
    let chosen = if aggregate.takes_numbers_only() {
        frame.chosen(name, &reduction.columns, is_number)?
    } else {
        frame.chosen(name, &reduction.columns, is_ordered)?
    };
    if chosen.is_empty() {
        return Err(FrameError::BadJob(format!(
            "{name}: the frame has no column of which there is a {name}"
        )));
    }
    let mut columns = Vec::new();
    for name in chosen {
        let expr = aggregate.of(&frame, &name)?;
        columns.push((name, expr));
    }
    one_row(frame, aggregate, &columns)
}

/// `len`: the number of rows.
pub(crate) fn len(frame: FramePlan) -> Result<FramePlan, FrameError> {
    one_row(frame, Aggregate::Size, &[("len".into(), Aggregate::Size.over(lit(1_i64)))])
}

/// A frame of one row from aggregates over all rows.
fn one_row(
    frame: FramePlan,
    aggregate: Aggregate,
    columns: &[(String, Expr)],
) -> Result<FramePlan, FrameError> {
    let wanted = columns.iter().map(|(name, expr)| WantedAggregate {
        aggregate,
        column: Some(name.clone()),
        expr: expr.clone(),
        alias: inner(name),
    });
    let plan = aggregated(frame.plan, &[], wanted.collect())?;
    let mut results = Vec::new();
    for (name, _) in columns {
        let value = column(&inner(name));
        let data_type = value.get_type(plan.schema()).map_err(planning)?;
        results.push(aggregate.finished(value, &data_type).alias(name));
    }
    let plan = build(LogicalPlanBuilder::from(plan).project(results))?;
    let names = columns.iter().map(|(name, _)| name.clone()).collect();
    Ok(FramePlan::new(plan, names, Vec::new(), true))
}

fn inner(name: &str) -> String {
    format!("__dataframe_of_{name}")
}

/// `describe`: count, mean, std, min, quartiles and max, one row for each.
pub(crate) fn describe(frame: FramePlan, reduction: &Reduction) -> Result<FramePlan, FrameError> {
    let names = frame.chosen("describe", &reduction.columns, is_number)?;
    if names.is_empty() {
        return Err(FrameError::BadJob("describe: the frame has no column of numbers".into()));
    }
    let mut aggregates = Vec::new();
    for name in &names {
        let number = cast(column(name), DataType::Float64);
        let mut add = |statistic: &str, expr: Expr| aggregates.push((format!("{statistic} {name}"), expr));
        add("count", Aggregate::Count.over(number.clone()));
        for (aggregate, statistic) in [
            (Aggregate::Mean, "mean"),
            (Aggregate::Std, "std"),
            (Aggregate::Min, "min"),
            (Aggregate::Max, "max"),
        ] {
            add(statistic, aggregate.over(number.clone()));
        }
        for (statistic, fraction) in QUARTILES {
            add(statistic, percentile(number.clone(), *fraction));
        }
    }
    let exprs = aggregates.iter().map(|(name, expr)| expr.clone().alias(inner(name)));
    let none: [Expr; 0] = [];
    let plan = build(LogicalPlanBuilder::from(frame.plan).aggregate(none, exprs))?;
    let floats: Vec<Expr> = aggregates
        .iter()
        .map(|(name, _)| nan_to_null(cast(column(&inner(name)), DataType::Float64)).alias(name))
        .collect();
    unpivot(build(LogicalPlanBuilder::from(plan).project(floats))?, &names)
}

const QUARTILES: &[(&str, f64)] = &[("25%", 0.25), ("50%", 0.5), ("75%", 0.75)];

const STATISTICS: &[&str] = &["count", "mean", "std", "min", "25%", "50%", "75%", "max"];

/// One row for each statistic from one row of all.
fn unpivot(row: LogicalPlan, names: &[String]) -> Result<FramePlan, FrameError> {
    let rows = STATISTICS.iter().enumerate().map(|(place, name)| vec![lit(place as u64), lit(*name)]);
    let place = "__dataframe_row";
    let statistics = LogicalPlanBuilder::values(rows.collect())
        .and_then(|values| {
            values.project([column("column1").alias(place), column("column2").alias("statistic")])
        })
        .map_err(planning)?;
    let joined = statistics.cross_join(row).map_err(planning)?;
    let mut exprs = vec![column(place), column("statistic")];
    for name in names {
        let mut choice = CaseBuilder::new(Some(Box::new(column(place))), Vec::new(), Vec::new(), None);
        for (index, statistic) in STATISTICS.iter().enumerate() {
            choice = choice.when(lit(index as u64), column(&format!("{statistic} {name}")));
        }
        exprs.push(choice.end().map_err(planning)?.alias(name));
    }
    let plan = build(joined.project(exprs))?;
    let names = std::iter::once("statistic".to_owned()).chain(names.iter().cloned()).collect();
    Ok(FramePlan::new(plan, names, vec![OrderKey::ascending(place)], false))
}
