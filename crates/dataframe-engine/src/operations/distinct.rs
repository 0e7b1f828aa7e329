//! Aggregates, of which some count distinct values.
//!
//! The distinct values of a group are groups themselves, by the group's keys and the value. Groups can be spilled and shuffled; a set for
//! each group, which is how DataFusion counts distinct values, cannot. Where other aggregates stand beside them, or where several columns
//! are counted, the rows go once into several *grouping sets*:
//!
//! | `groupby(k).agg(nunique(a), nunique(b), sum(x))` | rows |
//! | --- | --- |
//! | grouping sets `(k)`, `(k, a)`, `(k, b)` with `sum(x)` | those of `(k)` have `sum(x)` of the group; `a` is null in all but those of `(k, a)`, and `b` in all but those of `(k, b)` |
//! | groups by `k` with `count(a)`, `count(b)`, and `sum(x)` of the row of `(k)` | one for each group |

use datafusion::functions_aggregate::expr_fn::first_value;
use datafusion::logical_expr::{
    Aggregate as AggregatePlan, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder,
};

use super::aggregates::Aggregate;
use super::frame_plan::{build, column};
use crate::error::FrameError;

/// DataFusion tells grouping sets apart by a bit for each column.
const MAX_COLUMNS: usize = 64;

/// An aggregate over rows or groups.
pub(crate) struct WantedAggregate {
    pub(crate) aggregate: Aggregate,
    /// The column, if the aggregate has one.
    pub(crate) column: Option<String>,
    /// The aggregate as DataFusion's.
    pub(crate) expr: Expr,
    /// The name of the result.
    pub(crate) alias: String,
}

impl WantedAggregate {
    /// The column whose distinct values are counted, if it is no key: of a key, each group has one value.
    fn counted<'a>(&'a self, by: &[String]) -> Option<&'a String> {
        self.column.as_ref().filter(|column| self.aggregate == Aggregate::Nunique && !by.contains(*column))
    }
}

/// The aggregates of each group, or of all rows if `by` is empty.
pub(crate) fn aggregated(
    plan: LogicalPlan,
    by: &[String],
    wanted: Vec<WantedAggregate>,
) -> Result<LogicalPlan, FrameError> {
    let mut counted: Vec<String> = Vec::new();
    for name in wanted.iter().filter_map(|wanted| wanted.counted(by)) {
        if !counted.contains(name) {
            counted.push(name.clone());
        }
    }
    let has_others = wanted.iter().any(|wanted| wanted.counted(by).is_none());
    let rows = LogicalPlanBuilder::from(plan);
    if counted.is_empty() || by.len() + counted.len() > MAX_COLUMNS {
        let exprs = wanted.into_iter().map(|wanted| wanted.expr.alias(wanted.alias));
        return build(rows.aggregate(columns(by), exprs));
    }
    let (mut values, mut results) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let result = match wanted.counted(by) {
            Some(name) => Aggregate::Count.over(column(name)),
            None => {
                values.push(wanted.expr.alias(&wanted.alias));
                of_all_rows(&wanted.alias)
            }
        };
        results.push(result.alias(wanted.alias));
    }
    let groups = match counted.as_slice() {
        [only] if !has_others => columns(by.iter().chain([only])),
        _ => {
            let all = has_others.then(|| columns(by));
            let sets = counted.iter().map(|name| columns(by.iter().chain([name])));
            vec![Expr::GroupingSet(GroupingSet::GroupingSets(all.into_iter().chain(sets).collect()))]
        }
    };
    build(rows.aggregate(groups, values).and_then(|groups| groups.aggregate(columns(by), results)))
}

fn columns<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<Expr> {
    names.into_iter().map(|name| column(name)).collect()
}

/// The value of that one of a group's rows that stands for all rows of the group: it lacks most columns, so that its id is the highest.
fn of_all_rows(alias: &str) -> Expr {
    first_value(column(alias), vec![column(AggregatePlan::INTERNAL_GROUPING_ID).sort(false, false)])
}
