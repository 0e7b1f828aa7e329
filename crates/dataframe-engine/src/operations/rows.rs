//! Operations that look at one row at a time.

use arrow::datatypes::DataType;
use dataframe_jobs::operation::{Apply, Dtype, Missing, WasmFunction};
use dataframe_wasm::arrow_type;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, cast, lit};
use datafusion::prelude::coalesce;
use serde_json::Value;

use super::PlanContext;
use super::expressions::{parse, parse_predicate, without_nan};
use super::frame_plan::{FramePlan, column};
use super::types::{dtype_of, is_string, value_of};
use crate::error::FrameError;
use crate::functions;
use crate::wasm::WasmHost;

/// `apply`: a frame of one column.
pub(crate) fn apply(
    context: PlanContext<'_>,
    frame: FramePlan,
    apply: &Apply,
) -> Result<FramePlan, FrameError> {
    let expr = match (&apply.expression, &apply.function, &apply.wasm) {
        (Some(text), None, None) => parse(context.state, &frame, "apply", text)?,
        (None, None, Some(wasm)) => module_call(context.host, &frame, wasm)?,
        (None, Some(function), None) => {
            let name = applied_column(&frame, apply)?;
            let expr = functions::call(function, column(&name))?;
            let wrong = |error: datafusion::error::DataFusionError| {
                FrameError::BadJob(format!(
                    "apply: the function {function:?} on the column {name:?}: {}",
                    error.strip_backtrace()
                ))
            };
            let data_type = expr.get_type(&frame.visible_schema()?).map_err(wrong)?;
            without_nan(expr, &data_type)
        }
        _ => {
            return Err(FrameError::BadJob(
                "apply: give an expression, such as \"x * 2\", the name of a function, or a function of a module"
                    .into(),
            ));
        }
    };
    let name = apply.alias.clone().unwrap_or_else(|| "apply".into());
    frame.project(vec![(name, expr)])
}

/// A call of a function of a module. The columns get the types that modules know.
fn module_call(host: &WasmHost, frame: &FramePlan, wasm: &WasmFunction) -> Result<Expr, FrameError> {
    let (mut dtypes, mut arguments) = (Vec::new(), Vec::new());
    for name in &wasm.columns {
        frame.require("apply", name)?;
        let data_type = frame.data_type(name)?;
        let dtype = plain_dtype(&data_type).ok_or_else(|| {
            FrameError::BadJob(format!(
                "apply: the column {name:?} has the type {}, which modules do not know; cast it in an expression, or give --dtype",
                dtype_of(&data_type)
            ))
        })?;
        let plain = arrow_type(dtype);
        arguments.push(if data_type == plain { column(name) } else { cast(column(name), plain) });
        dtypes.push(dtype);
    }
    let call = host.function(wasm, dtypes)?.call(arguments);
    Ok(without_nan(call, &arrow_type(wasm.returns)))
}

/// The type as which modules see a column.
fn plain_dtype(data_type: &DataType) -> Option<Dtype> {
    match data_type {
        DataType::Boolean => Some(Dtype::Bool),
        DataType::Date32 | DataType::Date64 => Some(Dtype::Date),
        DataType::Timestamp(_, None) => Some(Dtype::Datetime),
        text if is_string(text) => Some(Dtype::String),
        number if number.is_integer() => Some(Dtype::Int64),
        number if number.is_floating() => Some(Dtype::Float64),
        _ => None,
    }
}

fn applied_column(frame: &FramePlan, apply: &Apply) -> Result<String, FrameError> {
    match (&apply.column, frame.names.as_slice()) {
        (Some(name), _) => {
            frame.require("apply", name)?;
            Ok(name.clone())
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(FrameError::BadJob("apply: say which column is given to the function".into())),
    }
}

/// `assign`: columns added or replaced, one after the other.
pub(crate) fn assign(
    state: &SessionState,
    mut frame: FramePlan,
    columns: &[(String, String)],
) -> Result<FramePlan, FrameError> {
    // Expressions that do not build on each other are computed together: the plan stays flat.
    let mut waiting: Vec<(String, Expr)> = Vec::new();
    for (name, text) in columns {
        let builds_on_waiting = |expr: &Expr| {
            let refers = expr.column_refs();
            waiting.iter().any(|(name, _)| refers.iter().any(|column| column.name == *name))
        };
        let known = parse(state, &frame, "assign", text).ok().filter(|expr| !builds_on_waiting(expr));
        let expr = match known {
            Some(expr) if waiting.iter().all(|(other, _)| other != name) => expr,
            _ => {
                frame = with_columns(frame, std::mem::take(&mut waiting))?;
                parse(state, &frame, "assign", text)?
            }
        };
        waiting.push((name.clone(), expr));
    }
    with_columns(frame, waiting)
}

fn with_columns(frame: FramePlan, new: Vec<(String, Expr)>) -> Result<FramePlan, FrameError> {
    let mut all = frame.columns();
    for (name, expr) in new {
        match all.iter_mut().find(|(other, _)| *other == name) {
            Some(replaced) => replaced.1 = expr,
            None => all.push((name, expr)),
        }
    }
    frame.project(all)
}

/// `query`: the rows for which a predicate is true.
pub(crate) fn query(
    state: &SessionState,
    frame: FramePlan,
    predicate: &str,
) -> Result<FramePlan, FrameError> {
    let expr = parse_predicate(state, &frame, "query", predicate)?;
    frame.filter(expr)
}

/// `isin`: whether each value is among the given ones.
pub(crate) fn isin(
    frame: FramePlan,
    values: &[Value],
    only: Option<&String>,
) -> Result<FramePlan, FrameError> {
    let names = match only {
        Some(name) => {
            frame.require("isin", name)?;
            vec![name.clone()]
        }
        None => frame.names.clone(),
    };
    let mut columns = Vec::new();
    for name in names {
        let expr = is_among(&name, &frame.data_type(&name)?, values);
        columns.push((name, expr));
    }
    frame.project(columns)
}

fn is_among(name: &str, data_type: &DataType, values: &[Value]) -> Expr {
    let mut list: Vec<Expr> = values.iter().filter_map(|value| value_of(value, data_type)).map(lit).collect();
    // DataFusion looks a long list up by bits, in which 0.0 and -0.0 differ.
    if data_type.is_floating() && values.iter().any(|value| value.as_f64() == Some(0.0)) {
        list.extend([lit(0.0), lit(-0.0)]);
    }
    let missing = values.contains(&Value::Null);
    match (list.is_empty(), missing) {
        (true, false) => lit(false),
        (true, true) => column(name).is_null(),
        (false, false) => column(name).in_list(list, false).is_true(),
        (false, true) => column(name).in_list(list, false).is_true().or(column(name).is_null()),
    }
}

/// `fillna`: a value in place of nulls.
pub(crate) fn fillna(frame: FramePlan, value: &Value, only: &[String]) -> Result<FramePlan, FrameError> {
    for name in only {
        frame.require("fillna", name)?;
        if filled(name, &frame.data_type(name)?, value).is_none() {
            return Err(FrameError::BadJob(format!(
                "fillna: the column {name:?} has the type {}, which cannot hold {value}",
                super::types::dtype_of(&frame.data_type(name)?)
            )));
        }
    }
    let mut columns = frame.columns();
    for (name, expr) in &mut columns {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        if let Some(new) = filled(name, &frame.data_type(name)?, value) {
            *expr = new;
        }
    }
    frame.project(columns)
}

fn filled(name: &str, data_type: &DataType, value: &Value) -> Option<Expr> {
    let kind_fits = match value {
        Value::Bool(_) => *data_type == DataType::Boolean,
        Value::Number(_) => data_type.is_numeric(),
        Value::String(_) => is_string(data_type) || data_type.is_temporal(),
        _ => false,
    };
    if !kind_fits {
        return None;
    }
    match (value_of(value, data_type), value.as_f64()) {
        (Some(scalar), _) => Some(coalesce(vec![column(name), lit(scalar)])),
        // As in pandas, a column of integers with missing values can hold any number, and becomes float64.
        (None, Some(number)) => Some(coalesce(vec![cast(column(name), DataType::Float64), lit(number)])),
        (None, None) => None,
    }
}

/// `dropna`: without the rows that have nulls.
pub(crate) fn dropna(frame: FramePlan, how: Missing, subset: &[String]) -> Result<FramePlan, FrameError> {
    let names = frame.chosen("dropna", subset, |_| true)?;
    let present = names.iter().map(|name| column(name).is_not_null());
    let predicate = match how {
        Missing::Any => present.reduce(Expr::and),
        Missing::All => present.reduce(Expr::or),
    };
    match predicate {
        Some(predicate) => frame.filter(predicate),
        None => Ok(frame),
    }
}
