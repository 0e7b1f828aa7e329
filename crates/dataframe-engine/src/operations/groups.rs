//! Operations that put equal values together.

use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder, lit};

use super::aggregates::{Aggregate, NamedAggregate};
use super::distinct::{WantedAggregate, aggregated};
use super::frame_plan::{FramePlan, OrderKey, build, check_unique, column, planning};
use crate::error::FrameError;
use crate::functions::is_present;

/// `groupby(...).agg(...)`: one row for each group, ordered by the keys. Groups with a null key are dropped.
pub(crate) fn groupby(frame: FramePlan, by: &[String], agg: &[String]) -> Result<FramePlan, FrameError> {
    for name in by {
        frame.require("groupby", name)?;
    }
    if by.is_empty() || agg.is_empty() {
        return Err(FrameError::BadJob(
            "groupby: give at least one key and one aggregate, such as \"mean(x)\"".into(),
        ));
    }
    let mut named = Vec::new();
    let mut wanted = Vec::new();
    for (index, text) in agg.iter().enumerate() {
        let entry = NamedAggregate::parse(text)?;
        let expr = match &entry.column {
            Some(name) => {
                frame.require("groupby", name)?;
                entry.aggregate.of(&frame, name)?
            }
            None => entry.aggregate.over(lit(1_i64)),
        };
        let (aggregate, column) = (entry.aggregate, entry.column.clone());
        wanted.push(WantedAggregate { aggregate, column, expr, alias: inner(index) });
        named.push(entry);
    }
    let names: Vec<String> = by.iter().cloned().chain(named.iter().map(|entry| entry.name.clone())).collect();
    check_unique(&names)?;
    let groups = aggregated(frame.plan, by, wanted)?;
    let plan = build(LogicalPlanBuilder::from(groups).filter(all_present(by)))?;
    let mut results: Vec<Expr> = by.iter().map(|name| column(name)).collect();
    for (index, entry) in named.iter().enumerate() {
        let value = column(&inner(index));
        let data_type = value.get_type(plan.schema()).map_err(planning)?;
        results.push(entry.aggregate.finished(value, &data_type).alias(&entry.name));
    }
    let plan = build(LogicalPlanBuilder::from(plan).project(results))?;
    Ok(FramePlan::new(plan, names, by.iter().map(OrderKey::ascending).collect(), false))
}

fn inner(index: usize) -> String {
    format!("__dataframe_aggregate_{index}")
}

/// The keys are looked at once for each group, and not once for each row.
fn all_present(by: &[String]) -> Expr {
    let present = by.iter().map(|name| is_present(column(name)));
    present.reduce(Expr::and).expect("there is a key")
}

/// `value_counts`: the most frequent value first, equally frequent ones in their own order.
pub(crate) fn value_counts(frame: FramePlan, name: &str) -> Result<FramePlan, FrameError> {
    const COUNT: &str = "count";
    frame.require("value_counts", name)?;
    check_unique(&[name.to_owned(), COUNT.to_owned()])?;
    let plan = build(
        LogicalPlanBuilder::from(frame.plan)
            .aggregate([column(name)], [Aggregate::Size.over(lit(1_i64)).alias(COUNT)])
            .and_then(|builder| builder.filter(is_present(column(name)))),
    )?;
    let frequent = OrderKey { column: COUNT.into(), ascending: false, nulls_first: false };
    let order = vec![frequent, OrderKey::ascending(name)];
    Ok(FramePlan::new(plan, vec![name.into(), COUNT.into()], order, false))
}

/// `unique`: the distinct values, null among them, in the order of their first appearance.
pub(crate) fn unique(frame: FramePlan, name: &str) -> Result<FramePlan, FrameError> {
    frame.require("unique", name)?;
    let mut firsts = Vec::new();
    let mut order = Vec::new();
    let frame = frame.project(vec![(name.into(), column(name))])?;
    match frame.order.as_slice() {
        [] => order.push(OrderKey::ascending(name)),
        [key] if key.column != name => {
            let hidden = "__dataframe_first".to_owned();
            let aggregate = if key.ascending { Aggregate::Min } else { Aggregate::Max };
            firsts.push(aggregate.over(column(&key.column)).alias(&hidden));
            order.push(OrderKey { column: hidden, ..key.clone() });
        }
        keys => {
            // The first row of each value, in the order of the frame, has the smallest keys.
            for (index, key) in keys.iter().enumerate() {
                let hidden = format!("__dataframe_first_{index}");
                let sort: Vec<_> = keys.iter().map(OrderKey::sort_expr).collect();
                firsts.push(
                    datafusion::functions_aggregate::expr_fn::first_value(column(&key.column), sort)
                        .alias(&hidden),
                );
                order.push(OrderKey { column: hidden, ..key.clone() });
            }
        }
    }
    let plan = build(LogicalPlanBuilder::from(frame.plan).aggregate([column(name)], firsts))?;
    Ok(FramePlan::new(plan, vec![name.into()], order, false))
}

/// `sort_values`: nulls last. Rows with equal keys keep their order.
pub(crate) fn sort_values(
    mut frame: FramePlan,
    by: &[String],
    ascending: &[bool],
) -> Result<FramePlan, FrameError> {
    for name in by {
        frame.require("sort_values", name)?;
    }
    if by.is_empty() || (ascending.len() != 1 && ascending.len() != by.len()) {
        return Err(FrameError::BadJob(format!(
            "sort_values: give at least one column, and one direction for all or one for each; \
             there are {} columns and {} directions",
            by.len(),
            ascending.len()
        )));
    }
    let directions = ascending.iter().copied().cycle();
    let mut order: Vec<OrderKey> = by
        .iter()
        .zip(directions)
        .map(|(name, ascending)| OrderKey { column: name.clone(), ascending, nulls_first: false })
        .collect();
    order.append(&mut frame.order);
    frame.order = order;
    frame.natural = false;
    Ok(frame)
}
