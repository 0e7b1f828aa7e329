//! Expressions in SQL on the columns of a row.

use arrow::datatypes::DataType;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::frame_plan::FramePlan;
use crate::error::FrameError;
use crate::functions;

/// Parses and types an expression. What is not a number becomes null.
pub(crate) fn parse(
    state: &SessionState,
    frame: &FramePlan,
    operation: &str,
    text: &str,
) -> Result<Expr, FrameError> {
    let schema = frame.visible_schema()?;
    let wrong = |error: datafusion::error::DataFusionError| {
        FrameError::BadJob(format!("{operation}: the expression {text:?}: {}", error.strip_backtrace()))
    };
    let expr = state.create_logical_expr(text, &schema).map_err(wrong)?.unalias();
    let data_type = expr.get_type(&schema).map_err(wrong)?;
    Ok(without_nan(expr, &data_type))
}

/// Parses an expression that is true or false.
pub(crate) fn parse_predicate(
    state: &SessionState,
    frame: &FramePlan,
    operation: &str,
    text: &str,
) -> Result<Expr, FrameError> {
    let expr = parse(state, frame, operation, text)?;
    let data_type = expr.get_type(&frame.visible_schema()?).map_err(super::frame_plan::planning)?;
    if !matches!(data_type, DataType::Boolean | DataType::Null) {
        return Err(FrameError::BadJob(format!(
            "{operation}: the expression {text:?} is neither true nor false, it has the type {}",
            super::types::dtype_of(&data_type)
        )));
    }
    Ok(expr)
}

/// NaN is a missing value: an expression that may give it gives null.
pub(crate) fn without_nan(expr: Expr, data_type: &DataType) -> Expr {
    if data_type.is_floating() && !matches!(expr, Expr::Column(_) | Expr::Literal(_, _)) {
        functions::nan_to_null(expr)
    } else {
        expr
    }
}
