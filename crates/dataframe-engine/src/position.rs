//! The place of each row among the rows of all files, as a hidden column.
//!
//! Sorting is stable, `unique` goes by first appearance and `tail` finds the end because of this column. A plan that does not use it
//! does not compute it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::StreamExt;

/// The hidden column's name.
pub(crate) const POSITION: &str = "__dataframe_position";

/// A partition has fewer rows than this.
const ROWS_BITS: u32 = 40;

/// A table with the hidden column.
#[derive(Debug)]
pub(crate) struct PositionedTable {
    rows: Arc<dyn TableProvider>,
    schema: SchemaRef,
}

impl PositionedTable {
    pub(crate) fn new(rows: Arc<dyn TableProvider>) -> Self {
        let schema = with_position(&rows.schema());
        Self { rows, schema }
    }
}

fn with_position(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(POSITION, DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

#[async_trait]
impl TableProvider for PositionedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let position = self.schema.fields().len() - 1;
        let all: Vec<usize> = (0..=position).collect();
        let wanted = projection.unwrap_or(&all);
        if !wanted.contains(&position) {
            return self.rows.scan(state, Some(wanted), filters, limit).await;
        }
        let without: Vec<usize> = wanted.iter().copied().filter(|index| *index != position).collect();
        let rows = self.rows.scan(state, Some(&without), filters, limit).await?;
        let positioned: Arc<dyn ExecutionPlan> = Arc::new(PositionExec::new(rows, 0));
        if wanted.last() == Some(&position) {
            return Ok(positioned);
        }
        let columns = wanted.iter().map(|index| {
            let name = self.schema.field(*index).name();
            let place = without.iter().position(|other| other == index).unwrap_or(without.len());
            (Arc::new(Column::new(name, place)) as Arc<dyn PhysicalExpr>, name.clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), positioned)?))
    }
}

/// Adds the hidden column to the rows of a scan.
#[derive(Debug)]
pub(crate) struct PositionExec {
    input: Arc<dyn ExecutionPlan>,
    /// Which partition of the whole scan the input's partition 0 is.
    first_partition: u64,
    properties: Arc<PlanProperties>,
}

impl PositionExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, first_partition: u64) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(with_position(&input.schema())),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(
                input.properties().output_partitioning().partition_count(),
            ),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, first_partition, properties: Arc::new(properties) }
    }

    pub(crate) fn first_partition(&self) -> u64 {
        self.first_partition
    }
}

impl DisplayAs for PositionExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PositionExec: first_partition={}", self.first_partition)
    }
}

impl ExecutionPlan for PositionExec {
    fn name(&self) -> &'static str {
        "PositionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.first_partition))),
            _ => internal_err!("PositionExec has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let schema = self.schema();
        let mut next = (self.first_partition + partition as u64) << ROWS_BITS;
        let with_schema = schema.clone();
        let batches = rows.map(move |batch| {
            let batch = batch?;
            let end = next + batch.num_rows() as u64;
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(UInt64Array::from_iter_values(next..end)));
            next = end;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(with_schema.clone(), columns, &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// The node, if it is one.
pub(crate) fn as_position(node: &Arc<dyn ExecutionPlan>) -> Option<&PositionExec> {
    let any: &dyn Any = node.as_ref();
    any.downcast_ref()
}
