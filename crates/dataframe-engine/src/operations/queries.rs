//! Whole queries in SQL.

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider,
};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::ViewTable;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, context::SQLOptions};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;

use super::frame_plan::{FramePlan, OrderKey, build, check_unique};
use super::types::is_ordered;
use crate::error::FrameError;

/// `sql`: a query on tables that have these names. Nothing but queries: no statement that makes, changes or writes anything.
///
/// A query that groups, joins or removes duplicates, and that has no `order by`, gives its rows ordered by all columns.
pub(crate) async fn sql(
    state: &SessionState,
    tables: Vec<(&str, FramePlan)>,
    query: &str,
) -> Result<FramePlan, FrameError> {
    let wrong = |error: datafusion::error::DataFusionError| {
        FrameError::BadJob(format!("sql: {query:?}: {}", error.strip_backtrace()))
    };
    // A catalog of its own: jobs that run at the same time do not see each other's tables.
    let catalogs = MemoryCatalogProviderList::new();
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("public", Arc::new(MemorySchemaProvider::new())).map_err(wrong)?;
    catalogs.register_catalog("datafusion".into(), Arc::new(catalog));
    let own =
        SessionStateBuilder::new_from_existing(state.clone()).with_catalog_list(Arc::new(catalogs)).build();
    let context = SessionContext::new_with_state(own);
    let mut names = Vec::new();
    for (name, frame) in tables {
        let view = ViewTable::new(frame.finish()?, None);
        // A path is a name of one part, whatever dots it has.
        context.register_table(TableReference::bare(name), Arc::new(view)).map_err(wrong)?;
        names.push(format!("{name}."));
    }
    let plan = context.state().create_logical_plan(query).await.map_err(wrong)?;
    let only_queries =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_queries.verify_plan(&plan).map_err(wrong)?;
    if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_)) {
        return Err(FrameError::BadJob(format!("sql: {query:?} is no query: use explain or dtypes")));
    }
    named(plan, &names)
}

/// The result with unique names: `sum(x)` and not `sum(df.x)`. The tables' names are given with their dots.
fn named(plan: LogicalPlan, tables: &[String]) -> Result<FramePlan, FrameError> {
    let columns = plan.schema().columns();
    let name = |column: &Column| match column.relation {
        // A column of the file has its own name, whatever that is.
        Some(_) => column.name.clone(),
        None => tables.iter().fold(column.name.clone(), |name, table| name.replace(table, "")),
    };
    let names: Vec<String> = columns.iter().map(name).collect();
    check_unique(&names)?;
    let natural = is_sorted(&plan) || keeps_order(&plan);
    let order = if natural {
        Vec::new()
    } else {
        let fields = plan.schema().fields().iter().zip(&names);
        fields
            .filter(|(field, _)| is_ordered(field.data_type()))
            .map(|(_, name)| OrderKey::ascending(name))
            .collect()
    };
    let exprs: Vec<Expr> =
        columns.into_iter().zip(&names).map(|(column, name)| Expr::Column(column).alias(name)).collect();
    let plan = build(LogicalPlanBuilder::from(plan).project(exprs))?;
    Ok(FramePlan::new(plan, names, order, natural))
}

fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => is_sorted(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_sorted(&alias.input),
        LogicalPlan::Limit(limit) => is_sorted(&limit.input),
        _ => false,
    }
}

fn keeps_order(plan: &LogicalPlan) -> bool {
    let mut keeps = true;
    let walked = plan.apply(|node| {
        keeps &= matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::TableScan(_)
        );
        Ok(if keeps { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    walked.is_ok() && keeps
}
