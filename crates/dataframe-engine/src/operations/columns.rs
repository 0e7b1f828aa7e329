//! Operations on the columns of a frame.

use std::collections::BTreeMap;

use datafusion::logical_expr::{LogicalPlanBuilder, lit};

use super::frame_plan::{FramePlan, OrderKey, build, column, planning};
use super::types::dtype_of;
use crate::error::FrameError;

/// `select`: these columns.
pub(crate) fn select(frame: FramePlan, names: &[String]) -> Result<FramePlan, FrameError> {
    for name in names {
        frame.require("select", name)?;
    }
    let columns = names.iter().map(|name| (name.clone(), column(name))).collect();
    frame.project(columns)
}

/// `drop`: without these columns.
pub(crate) fn drop(frame: FramePlan, names: &[String]) -> Result<FramePlan, FrameError> {
    for name in names {
        frame.require("drop", name)?;
    }
    let mut columns = frame.columns();
    columns.retain(|(name, _)| !names.contains(name));
    frame.project(columns)
}

/// `rename`: other names. As in pandas, an old name that does not exist is no error.
pub(crate) fn rename(frame: FramePlan, names: &BTreeMap<String, String>) -> Result<FramePlan, FrameError> {
    let mut columns = frame.columns();
    for (name, _) in &mut columns {
        if let Some(new) = names.get(name) {
            *name = new.clone();
        }
    }
    frame.project(columns)
}

/// `columns`: the names, as a frame.
pub(crate) fn columns(frame: &FramePlan) -> Result<FramePlan, FrameError> {
    let rows = frame.names.iter().map(|name| vec![name.clone()]).collect();
    texts(&["column"], rows)
}

/// `dtypes`: names and types, as a frame.
pub(crate) fn dtypes(frame: &FramePlan) -> Result<FramePlan, FrameError> {
    let mut rows = Vec::new();
    for name in &frame.names {
        rows.push(vec![name.clone(), dtype_of(&frame.data_type(name)?)]);
    }
    texts(&["column", "dtype"], rows)
}

/// A frame of texts.
fn texts(names: &[&str], rows: Vec<Vec<String>>) -> Result<FramePlan, FrameError> {
    let position = "__dataframe_row";
    let none = rows.is_empty();
    let rows = if none { vec![vec![String::new(); names.len()]] } else { rows };
    let exprs = rows
        .into_iter()
        .enumerate()
        .map(|(index, row)| std::iter::once(lit(index as u64)).chain(row.into_iter().map(lit)).collect())
        .collect();
    let values = LogicalPlanBuilder::values(exprs).map_err(planning)?;
    let all = std::iter::once(position).chain(names.iter().copied());
    let renamed: Vec<_> =
        all.enumerate().map(|(index, name)| column(&format!("column{}", index + 1)).alias(name)).collect();
    let builder = values.project(renamed).map_err(planning)?;
    let plan = build(if none { builder.filter(lit(false)) } else { Ok(builder) })?;
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Ok(FramePlan::new(plan, names, vec![OrderKey::ascending(position)], false))
}
