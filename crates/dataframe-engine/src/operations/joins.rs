//! Joins.

use dataframe_jobs::operation::Join;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::coalesce;

use super::frame_plan::{FramePlan, OrderKey, build, check_unique, planning};
use super::types::{dtype_of, is_number, is_string};
use crate::error::FrameError;

const LEFT: &str = "__dataframe_left";
const RIGHT: &str = "__dataframe_right";

/// `merge`: the columns of both, with `_x` and `_y` after names that both have. As in pandas, a null key matches a null key.
pub(crate) fn merge(
    left: FramePlan,
    right: FramePlan,
    how: Join,
    left_on: &[String],
    right_on: &[String],
) -> Result<FramePlan, FrameError> {
    check_keys(&left, &right, left_on, right_on)?;
    let join_type = match how {
        Join::Inner => JoinType::Inner,
        Join::Left => JoinType::Left,
        Join::Right => JoinType::Right,
        Join::Outer => JoinType::Full,
    };
    let columns = joined_columns(&left, &right, how, left_on, right_on);
    let (order, hidden) = joined_order(&left, &right, how, left_on, right_on);
    let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
    check_unique(&names)?;
    let other = build(LogicalPlanBuilder::from(right.plan).alias(RIGHT))?;
    let keys = |table: &str, names: &[String]| -> Vec<Column> {
        names.iter().map(|name| Column::new(Some(table), name)).collect()
    };
    let on = (keys(LEFT, left_on), keys(RIGHT, right_on));
    let joined = LogicalPlanBuilder::from(left.plan)
        .alias(LEFT)
        .and_then(|builder| builder.join_detailed(other, join_type, on, None, NullEquality::NullEqualsNull))
        .map_err(planning)?;
    let exprs: Vec<Expr> = columns.into_iter().chain(hidden).map(|(name, expr)| expr.alias(name)).collect();
    Ok(FramePlan::new(build(joined.project(exprs))?, names, order, false))
}

fn of(table: &str, name: &str) -> Expr {
    Expr::Column(Column::new(Some(table), name))
}

fn check_keys(
    left: &FramePlan,
    right: &FramePlan,
    left_on: &[String],
    right_on: &[String],
) -> Result<(), FrameError> {
    if left_on.is_empty() || left_on.len() != right_on.len() {
        return Err(FrameError::BadJob(format!(
            "merge: give as many keys on the left as on the right, and at least one; there are {} and {}",
            left_on.len(),
            right_on.len()
        )));
    }
    for (left_name, right_name) in left_on.iter().zip(right_on) {
        left.require("merge, left side", left_name)?;
        right.require("merge, right side", right_name)?;
        let (a, b) = (left.data_type(left_name)?, right.data_type(right_name)?);
        let alike = a == b
            || (is_number(&a) && is_number(&b))
            || (is_string(&a) && is_string(&b))
            || (a.is_temporal() && b.is_temporal());
        if !alike {
            return Err(FrameError::BadJob(format!(
                "merge: the key {left_name:?} has the type {} and the key {right_name:?} the type {}; \
                 read them with one type, such as dtypes {{{right_name:?}: \"string\"}}",
                dtype_of(&a),
                dtype_of(&b)
            )));
        }
    }
    Ok(())
}

/// The columns of the result: those of the left side, then those of the right one. A key of one name on both sides comes once.
fn joined_columns(
    left: &FramePlan,
    right: &FramePlan,
    how: Join,
    left_on: &[String],
    right_on: &[String],
) -> Vec<(String, Expr)> {
    let is_shared_key = |name: &String| left_on.iter().zip(right_on).any(|(a, b)| a == name && b == name);
    let mut columns = Vec::new();
    for name in &left.names {
        let clashes = right.names.contains(name);
        if is_shared_key(name) {
            let key = match how {
                Join::Inner | Join::Left => of(LEFT, name),
                Join::Right => of(RIGHT, name),
                Join::Outer => coalesce(vec![of(LEFT, name), of(RIGHT, name)]),
            };
            columns.push((name.clone(), key));
        } else {
            let shown = if clashes { format!("{name}_x") } else { name.clone() };
            columns.push((shown, of(LEFT, name)));
        }
    }
    for name in right.names.iter().filter(|name| !is_shared_key(name)) {
        let clashes = left.names.contains(name);
        let shown = if clashes { format!("{name}_y") } else { name.clone() };
        columns.push((shown, of(RIGHT, name)));
    }
    columns
}

/// The order of the result: that of the left side and then of the right one, the other way round for `right`, and by the keys
/// first for `outer`.
fn joined_order(
    left: &FramePlan,
    right: &FramePlan,
    how: Join,
    left_on: &[String],
    right_on: &[String],
) -> (Vec<OrderKey>, Vec<(String, Expr)>) {
    let mut parts: Vec<(OrderKey, Expr)> = Vec::new();
    let side = |frame: &FramePlan, table: &str| -> Vec<(OrderKey, Expr)> {
        frame.order.iter().map(|key| (key.clone(), of(table, &key.column))).collect()
    };
    if how == Join::Outer {
        for (a, b) in left_on.iter().zip(right_on) {
            parts.push((OrderKey::ascending(a), coalesce(vec![of(LEFT, a), of(RIGHT, b)])));
        }
    }
    let (lefts, rights) = (side(left, LEFT), side(right, RIGHT));
    if how == Join::Right {
        parts.extend(rights);
        parts.extend(lefts);
    } else {
        parts.extend(lefts);
        parts.extend(rights);
    }
    let mut order = Vec::new();
    let mut hidden = Vec::new();
    for (index, (key, expr)) in parts.into_iter().enumerate() {
        let name = format!("__dataframe_joined_{index}");
        order.push(OrderKey { column: name.clone(), ..key });
        hidden.push((name, expr));
    }
    (order, hidden)
}
