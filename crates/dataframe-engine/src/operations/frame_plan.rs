//! A frame as a logical plan: the columns that a user sees, and the order of the rows.

use datafusion::common::{Column, DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr};

use crate::error::FrameError;

/// One of the columns that tell the order of the rows.
#[derive(Debug, Clone)]
pub(crate) struct OrderKey {
    pub(crate) column: String,
    pub(crate) ascending: bool,
    pub(crate) nulls_first: bool,
}

impl OrderKey {
    /// Small values first, nulls last.
    pub(crate) fn ascending(column: impl Into<String>) -> Self {
        Self { column: column.into(), ascending: true, nulls_first: false }
    }

    fn reversed(&self) -> Self {
        Self { column: self.column.clone(), ascending: !self.ascending, nulls_first: !self.nulls_first }
    }

    pub(crate) fn sort_expr(&self) -> SortExpr {
        column(&self.column).sort(self.ascending, self.nulls_first)
    }
}

/// A frame that is not computed yet.
///
/// Sorting is put off until the order matters: at the end, and for `head` and `tail`. Until then the columns that tell the
/// order stay in the plan, hidden where a user does not see them.
#[derive(Debug, Clone)]
pub(crate) struct FramePlan {
    pub(crate) plan: LogicalPlan,
    /// The columns that a user sees, in order.
    pub(crate) names: Vec<String>,
    /// The columns whose values tell the order of the rows.
    pub(crate) order: Vec<OrderKey>,
    /// Whether the rows come in their order without being sorted: partition after partition.
    pub(crate) natural: bool,
    /// Whether the files are read as one partition, so that the first rows are found without reading the rest.
    pub(crate) single: bool,
    hidden: usize,
}

impl FramePlan {
    pub(crate) fn new(plan: LogicalPlan, names: Vec<String>, order: Vec<OrderKey>, natural: bool) -> Self {
        Self { plan, names, order, natural, single: false, hidden: 0 }
    }

    /// The columns that a user sees, for expressions to refer to.
    pub(crate) fn visible_schema(&self) -> Result<DFSchema, FrameError> {
        let all = self.plan.schema();
        let mut fields = Vec::new();
        for name in &self.names {
            let (qualifier, field) = all.qualified_field_with_unqualified_name(name).map_err(planning)?;
            fields.push((qualifier.cloned(), field.clone()));
        }
        DFSchema::new_with_metadata(fields, Default::default()).map_err(planning)
    }

    /// The type of a column that exists.
    pub(crate) fn data_type(&self, name: &str) -> Result<arrow::datatypes::DataType, FrameError> {
        let field = self.plan.schema().field_with_unqualified_name(name).map_err(planning)?;
        Ok(field.data_type().clone())
    }

    /// Fails, with the nearest name, if there is no such column.
    pub(crate) fn require(&self, operation: &str, name: &str) -> Result<(), FrameError> {
        if self.names.iter().any(|other| other == name) {
            return Ok(());
        }
        Err(missing_column(operation, name, &self.names))
    }

    /// The given columns, or those that pass the filter where none are given.
    pub(crate) fn chosen(
        &self,
        operation: &str,
        columns: &[String],
        fits: impl Fn(&arrow::datatypes::DataType) -> bool,
    ) -> Result<Vec<String>, FrameError> {
        if columns.is_empty() {
            let mut chosen = Vec::new();
            for name in &self.names {
                if fits(&self.data_type(name)?) {
                    chosen.push(name.clone());
                }
            }
            return Ok(chosen);
        }
        for name in columns {
            self.require(operation, name)?;
            let data_type = self.data_type(name)?;
            if !fits(&data_type) {
                return Err(FrameError::BadJob(format!(
                    "{operation}: the column {name:?} has the type {}, of which there is no {operation}",
                    super::types::dtype_of(&data_type)
                )));
            }
        }
        Ok(columns.to_vec())
    }

    /// Puts other columns in place of those that a user sees. The columns that tell the order are kept.
    pub(crate) fn project(mut self, columns: Vec<(String, Expr)>) -> Result<Self, FrameError> {
        let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        check_unique(&names)?;
        let mut hidden_exprs = Vec::new();
        for key in &mut self.order {
            if columns.iter().any(|(name, expr)| *name == key.column && is_column(expr, name)) {
                continue;
            }
            let hidden = format!("__dataframe_order_{}", self.hidden);
            self.hidden += 1;
            hidden_exprs.push(column(&key.column).alias(&hidden));
            key.column = hidden;
        }
        let visible = columns
            .into_iter()
            .map(|(name, expr)| if is_column(&expr, &name) { expr } else { expr.alias(name) });
        let exprs: Vec<Expr> = visible.chain(hidden_exprs).collect();
        self.plan = build(LogicalPlanBuilder::from(self.plan).project(exprs))?;
        self.names = names;
        Ok(self)
    }

    /// The frame as it is, with its columns as expressions.
    pub(crate) fn columns(&self) -> Vec<(String, Expr)> {
        self.names.iter().map(|name| (name.clone(), column(name))).collect()
    }

    /// Keeps the rows for which the predicate is true.
    pub(crate) fn filter(mut self, predicate: Expr) -> Result<Self, FrameError> {
        self.plan = build(LogicalPlanBuilder::from(self.plan).filter(predicate))?;
        Ok(self)
    }

    /// The first rows in the order of the frame. Several partitions are all looked through.
    pub(crate) fn first(mut self, n: usize) -> Result<Self, FrameError> {
        self.natural = self.natural && (self.single || self.order.is_empty());
        let builder = LogicalPlanBuilder::from(self.plan);
        let sorted = if self.natural {
            builder
        } else {
            builder.sort(self.order.iter().map(OrderKey::sort_expr).collect::<Vec<_>>()).map_err(planning)?
        };
        self.plan = build(sorted.limit(0, Some(n)))?;
        Ok(self)
    }

    /// The last rows in the order of the frame.
    pub(crate) fn last(mut self, n: usize) -> Result<Self, FrameError> {
        if self.order.is_empty() {
            return Err(FrameError::BadJob(
                "tail: the rows of a query in SQL have no position; order the query the other way round and use head"
                    .into(),
            ));
        }
        let reversed: Vec<SortExpr> = self.order.iter().map(|key| key.reversed().sort_expr()).collect();
        let builder = LogicalPlanBuilder::from(self.plan).sort(reversed).map_err(planning)?;
        self.plan = build(builder.limit(0, Some(n)))?;
        self.natural = false;
        Ok(self)
    }

    /// The plan whose rows are what the user sees, in order.
    pub(crate) fn finish(self) -> Result<LogicalPlan, FrameError> {
        let mut builder = LogicalPlanBuilder::from(self.plan);
        if !self.natural && !self.order.is_empty() {
            let order = self.order.iter().map(OrderKey::sort_expr).collect::<Vec<_>>();
            builder = builder.sort(order).map_err(planning)?;
        }
        build(builder.project(self.names.iter().map(|name| column(name))))
    }
}

/// The column of this name. The name is taken as it is.
pub(crate) fn column(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Column(column) if column.name == name)
}

/// An error of DataFusion's planner is an error of the operations.
#[expect(clippy::needless_pass_by_value, reason = "map_err gives it")]
pub(crate) fn planning(error: DataFusionError) -> FrameError {
    FrameError::BadJob(error.strip_backtrace())
}

/// Builds, and takes an error for one of the operations.
pub(crate) fn build(builder: Result<LogicalPlanBuilder, DataFusionError>) -> Result<LogicalPlan, FrameError> {
    builder.and_then(LogicalPlanBuilder::build).map_err(planning)
}

/// Fails if two columns have one name.
pub(crate) fn check_unique(names: &[String]) -> Result<(), FrameError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(FrameError::BadJob(format!(
                "two columns would have the name {name:?}; names are unique: rename one of them"
            )));
        }
    }
    Ok(())
}

/// Says which column is missing, and which there are.
pub(crate) fn missing_column(operation: &str, name: &str, names: &[String]) -> FrameError {
    let nearest = names.iter().map(|other| (distance(name, other), other)).min();
    let hint = match nearest {
        Some((distance, other)) if distance * 2 <= name.chars().count().max(2) => {
            format!("; did you mean {other:?}?")
        }
        _ => String::new(),
    };
    let shown = names.iter().take(50).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let more = if names.len() > 50 { format!(" and {} more", names.len() - 50) } else { String::new() };
    FrameError::BadJob(format!("{operation}: there is no column {name:?} among {shown}{more}{hint}"))
}

fn distance(a: &str, b: &str) -> usize {
    datafusion::common::utils::datafusion_strsim::levenshtein(&a.to_lowercase(), &b.to_lowercase())
}
