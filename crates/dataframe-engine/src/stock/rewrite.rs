//! This crate's own functions in a plan → expressions of stock functions.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, cast};

use crate::csv::without_nan;
use crate::functions::{IS_PRESENT, NAN_TO_NULL};

/// The same plan without functions that only this crate has. The exact sums and means stay: they have the names of DataFusion's own
/// aggregates, and a plan that travels names its functions.
pub(super) fn with_stock_functions(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let rewritten = node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(in_stock_functions)?.update_data(|expr| name.restore(expr)))
        })?;
        rewritten.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(rewritten.data)
}

fn in_stock_functions(expr: Expr) -> Result<Transformed<Expr>, DataFusionError> {
    let Expr::ScalarFunction(ScalarFunction { func, mut args }) = expr else {
        return Ok(Transformed::no(expr));
    };
    Ok(match (func.name(), args.pop()) {
        (NAN_TO_NULL, Some(value)) => Transformed::yes(without_nan(cast(value, DataType::Float64))?),
        (IS_PRESENT, Some(value)) => Transformed::yes(value.is_not_null()),
        (_, last) => {
            args.extend(last);
            Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
    })
}
