//! Aggregate functions, and how users write them.

use arrow::datatypes::DataType;
use datafusion::functions_aggregate::expr_fn as stock;
use datafusion::functions_aggregate::percentile_cont::percentile_cont;
use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::{Expr, ExprFunctionExt, SortExpr, cast, lit};
use datafusion::prelude::coalesce;

use super::frame_plan::{FramePlan, OrderKey, column, planning};
use super::types::{dtype_of, is_number};
use crate::error::FrameError;
use crate::exact::{self, Statistic};
use crate::functions::nan_to_null;

/// An aggregate function by Dask's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Count,
    First,
    Last,
    Max,
    Mean,
    Min,
    Nunique,
    Size,
    Std,
    Sum,
    Var,
}

const NAMES: &[(&str, Aggregate)] = &[
    ("count", Aggregate::Count),
    ("first", Aggregate::First),
    ("last", Aggregate::Last),
    ("max", Aggregate::Max),
    ("mean", Aggregate::Mean),
    ("min", Aggregate::Min),
    ("nunique", Aggregate::Nunique),
    ("size", Aggregate::Size),
    ("std", Aggregate::Std),
    ("sum", Aggregate::Sum),
    ("var", Aggregate::Var),
];

impl Aggregate {
    fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(other, _)| *other == name).map(|(_, aggregate)| *aggregate)
    }

    pub(crate) fn name(self) -> &'static str {
        let named = NAMES.iter().find(|(_, aggregate)| *aggregate == self);
        named.map(|(name, _)| *name).expect("each aggregate has a name")
    }

    pub(crate) fn takes_numbers_only(self) -> bool {
        matches!(self, Self::Mean | Self::Std | Self::Sum | Self::Var)
    }

    /// The aggregate of an expression. `first` and `last` go by the order that the caller adds.
    pub(crate) fn over(self, value: Expr) -> Expr {
        match self {
            Self::Count => stock::count(value),
            Self::First => stock::first_value(value, Vec::new()),
            Self::Last => stock::last_value(value, Vec::new()),
            Self::Max => stock::max(value),
            Self::Mean => exact::aggregate(Statistic::Mean).call(vec![value]),
            Self::Min => stock::min(value),
            Self::Nunique => stock::count_distinct(value),
            Self::Size => stock::count(lit(1_i64)),
            Self::Std => exact::aggregate(Statistic::Deviation).call(vec![value]),
            Self::Sum => exact::aggregate(Statistic::Sum).call(vec![value]),
            Self::Var => exact::aggregate(Statistic::Variance).call(vec![value]),
        }
    }

    /// The aggregate of a column of a frame.
    pub(crate) fn of(self, frame: &FramePlan, name: &str) -> Result<Expr, FrameError> {
        let data_type = frame.data_type(name)?;
        if self.takes_numbers_only() && !is_number(&data_type) {
            return Err(FrameError::BadJob(format!(
                "{}: the column {name:?} has the type {}, and only numbers have a {}",
                self.name(),
                dtype_of(&data_type),
                self.name()
            )));
        }
        let value = match data_type {
            DataType::Boolean if self.takes_numbers_only() => cast(column(name), DataType::Int64),
            _ => column(name),
        };
        match self {
            Self::First | Self::Last => {
                let order: Vec<SortExpr> = frame.order.iter().map(OrderKey::sort_expr).collect();
                let builder = self.over(value).null_treatment(NullTreatment::IgnoreNulls);
                builder.order_by(order).build().map_err(planning)
            }
            _ => Ok(self.over(value)),
        }
    }

    /// What a user gets of the aggregate: the sum of nothing is 0, and what is no number is missing.
    pub(crate) fn finished(self, value: Expr, data_type: &DataType) -> Expr {
        match (self, data_type) {
            // The sum of ∞ and −∞ is no number, which is not nothing.
            (Self::Sum, DataType::Float64) => nan_to_null(coalesce(vec![value, lit(0.0)])),
            (Self::Sum, DataType::UInt64) => coalesce(vec![value, lit(0_u64)]),
            (Self::Sum, _) => coalesce(vec![value, lit(0_i64)]),
            (_, DataType::Float64) => nan_to_null(value),
            _ => value,
        }
    }
}

/// A quantile, with linear interpolation between the two nearest values.
pub(crate) fn percentile(value: Expr, fraction: f64) -> Expr {
    percentile_cont(value.sort(true, false), lit(fraction))
}

/// One entry of `agg`: a function of a column, and the name of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedAggregate {
    pub(crate) aggregate: Aggregate,
    /// Absent for `size`.
    pub(crate) column: Option<String>,
    pub(crate) name: String,
}

impl NamedAggregate {
    /// Parses `mean(x)`, `sum(v1) as total`, `size`, `size() as rows`. Without `as`, the result is named as it is written:
    /// `mean(x)`. A column's name is taken as it is, quotes around it are taken off.
    pub(crate) fn parse(text: &str) -> Result<Self, FrameError> {
        let wrong = |why: &str| {
            let functions = NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            FrameError::BadJob(format!(
                "groupby: {text:?} is no aggregate: {why}; write \"mean(x)\" or \"sum(x) as total\", with one of {functions}"
            ))
        };
        let (call, alias) = split_alias(text);
        let (function, argument) = match call.split_once('(') {
            Some((function, rest)) => {
                let inside =
                    rest.trim_end().strip_suffix(')').ok_or_else(|| wrong("a parenthesis is open"))?;
                (function.trim(), unquoted(inside.trim()))
            }
            None => (call.trim(), ""),
        };
        let aggregate = Aggregate::parse(&function.to_lowercase())
            .ok_or_else(|| wrong(&format!("there is no function {function:?}")))?;
        let counts_rows = aggregate == Aggregate::Size;
        let column = (!argument.is_empty() && argument != "*").then(|| argument.to_owned());
        if column.is_none() && !counts_rows {
            return Err(wrong("the column is missing"));
        }
        let default = match &column {
            Some(column) => format!("{}({column})", aggregate.name()),
            None => aggregate.name().to_owned(),
        };
        Ok(Self { aggregate, column: column.filter(|_| !counts_rows), name: alias.unwrap_or(default) })
    }
}

fn split_alias(text: &str) -> (&str, Option<String>) {
    let after_call = text.rfind(')').map_or(0, |place| place + 1);
    let lower = text.to_ascii_lowercase();
    match lower[after_call..].find(" as ") {
        Some(place) => {
            let place = after_call + place;
            (&text[..place], Some(unquoted(text[place + 4..].trim()).to_owned()))
        }
        None => (text, None),
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Aggregate, Option<String>, String) {
        let named = NamedAggregate::parse(text).unwrap();
        (named.aggregate, named.column, named.name)
    }

    #[test]
    fn aggregates_are_parsed() {
        assert_eq!(parsed("mean(x)"), (Aggregate::Mean, Some("x".into()), "mean(x)".into()));
        assert_eq!(parsed("sum( v1 ) AS total"), (Aggregate::Sum, Some("v1".into()), "total".into()));
        assert_eq!(parsed("size"), (Aggregate::Size, None, "size".into()));
        assert_eq!(parsed("size() as n"), (Aggregate::Size, None, "n".into()));
        assert_eq!(parsed("max(a (b))"), (Aggregate::Max, Some("a (b)".into()), "max(a (b))".into()));
        assert_eq!(
            parsed("min(\"is as ok\")"),
            (Aggregate::Min, Some("is as ok".into()), "min(is as ok)".into())
        );
    }

    #[test]
    fn what_is_no_aggregate_is_refused() {
        for text in ["", "mean", "median(x)", "mean(x", "sum()"] {
            let error = NamedAggregate::parse(text).unwrap_err().to_string();
            assert!(error.contains("nunique"), "{error}");
        }
    }
}
