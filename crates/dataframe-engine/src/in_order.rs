//! One stream of rows from several partitions, in their order.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, replace_children_if_necessary,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// How many batches of a partition wait while an earlier partition is read.
const WAITING_BATCHES: usize = 16;

/// Gives the rows of partition 0, then those of partition 1, and so on. All partitions work at the same time.
#[derive(Debug)]
pub(crate) struct InOrderExec {
    input: Arc<dyn ExecutionPlan>,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl InOrderExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, fetch: Option<usize>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, fetch, properties: Arc::new(properties) }
    }
}

impl DisplayAs for InOrderExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "InOrderExec")?;
        match self.fetch {
            Some(fetch) => write!(f, ": fetch={fetch}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for InOrderExec {
    fn name(&self) -> &'static str {
        "InOrderExec"
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

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.fetch))),
            _ => internal_err!("InOrderExec has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("InOrderExec has one partition, and not partition {partition}");
        }
        let partitions = self.input.properties().output_partitioning().partition_count();
        let mut streams = Vec::with_capacity(partitions);
        for partition in 0..partitions {
            streams.push(self.input.execute(partition, context.clone())?);
        }
        let rows = in_order(self.input.schema(), streams);
        Ok(match self.fetch {
            Some(fetch) => limited(rows, fetch),
            None => rows,
        })
    }
}

/// The plan with partitions put one after the other wherever their rows come together. Where they go into an aggregate the order
/// does not matter, and stays free.
pub(crate) fn in_order_plan(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    ordered(plan, false)
}

fn ordered(node: Arc<dyn ExecutionPlan>, into_aggregate: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let aggregates = node.name() == "AggregateExec";
    let children = node
        .children()
        .into_iter()
        .map(|child| ordered(child.clone(), aggregates))
        .collect::<Result<Vec<_>>>()?;
    let node = replace_children_if_necessary(node, children)?;
    if node.name() == "CoalescePartitionsExec" && !into_aggregate {
        let input = node.children()[0].clone();
        return Ok(Arc::new(InOrderExec::new(input, node.fetch())));
    }
    Ok(node)
}

/// The rows of all streams, one after the other. The streams are read at the same time, a few batches ahead.
pub(crate) fn in_order(
    schema: SchemaRef,
    mut streams: Vec<SendableRecordBatchStream>,
) -> SendableRecordBatchStream {
    if streams.len() == 1 {
        return streams.remove(0);
    }
    // The readers live as long as the stream, and end with it.
    let readers: Vec<_> = streams.into_iter().map(PartitionReader::start).collect();
    let batches = stream::iter(readers).flat_map(|reader| {
        stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) })
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// Reads a partition ahead.
struct PartitionReader {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    /// Taken when the partition has ended.
    task: Option<AbortOnDropHandle<()>>,
}

impl PartitionReader {
    fn start(mut rows: SendableRecordBatchStream) -> Self {
        let (sender, batches) = mpsc::channel(WAITING_BATCHES);
        let task = tokio::spawn(async move {
            while let Some(batch) = rows.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Self { batches, task: Some(AbortOnDropHandle::new(task)) }
    }

    /// Returns the next batch. A reader that has panicked is no end of its partition.
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(batch);
        }
        match self.task.take()?.await {
            Ok(()) => None,
            Err(error) => Some(internal_err!("the reader of a partition did not come to its end: {error}")),
        }
    }
}

fn limited(rows: SendableRecordBatchStream, fetch: usize) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let batches = stream::try_unfold((rows, fetch), |(mut rows, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = rows.try_next().await? else { return Ok(None) };
        let batch = if batch.num_rows() > left { batch.slice(0, left) } else { batch };
        let left = left - batch.num_rows();
        Ok(Some((batch, (rows, left))))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    /// A partition of the batches `values`, of which -1 panics.
    fn partition(schema: &SchemaRef, values: Vec<i64>) -> SendableRecordBatchStream {
        let schema = Arc::clone(schema);
        let batches = stream::iter(values).map({
            let schema = Arc::clone(&schema);
            move |value| {
                assert!(value >= 0, "this partition cannot be read to its end");
                Ok(RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![value]))])?)
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }

    async fn rows(partitions: Vec<Vec<i64>>) -> Result<Vec<i64>> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
        let streams = partitions.into_iter().map(|values| partition(&schema, values)).collect();
        let batches: Vec<_> = in_order(Arc::clone(&schema), streams).try_collect().await?;
        Ok(batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect())
    }

    #[tokio::test]
    async fn partitions_come_one_after_the_other() {
        assert_eq!(rows(vec![vec![1, 2], Vec::new(), vec![3]]).await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_reader_that_panics_is_no_end_of_its_partition() {
        let error = rows(vec![vec![1], vec![2, -1], vec![3]]).await.unwrap_err();
        assert!(error.to_string().contains("did not come to its end"), "{error}");
    }
}
