//! Rows that go from the tasks of one stage to those of the next, by the hash of their keys.
//!
//! A task's rows are split into partitions by a [`RowSplitter`]. A task of the next stage reads one partition of all results
//! through a [`ShuffleSource`], which its plan meets as a `ShuffleExec`.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::Time;
use datafusion::physical_plan::repartition::{BatchPartitioner, RepartitionExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

/// What the rows of one task that wait to be sent may take in memory.
const WAITING_BYTES: usize = 8 << 20;

/// Rows are sent in batches of at least so many, if there are so many.
const MIN_BATCH_ROWS: usize = 128;

/// Rows are sent in batches of at most so many.
const MAX_BATCH_ROWS: usize = 8192;

/// Gives a task the rows that the tasks of earlier stages have made for it.
pub trait ShuffleSource: Send + Sync {
    /// The rows of one partition of a shuffle. The stream begins to fetch them when it is polled.
    fn rows(&self, shuffle: u32, partition: u32, schema: SchemaRef) -> SendableRecordBatchStream;
}

/// What a session's configuration carries to [`ShuffleExec`].
struct SharedSource(Arc<dyn ShuffleSource>);

/// A context in which plans may read shuffles.
pub(crate) fn with_source(context: &TaskContext, source: Arc<dyn ShuffleSource>) -> Arc<TaskContext> {
    let config = context.session_config().clone().with_extension(Arc::new(SharedSource(source)));
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        config,
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}

/// How rows are split: by the hash of keys.
#[derive(Debug, Clone)]
pub struct HashExchange {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    partitions: u32,
    schema: SchemaRef,
}

impl HashExchange {
    /// The exchange of a node of a plan, if it is one by hash whose rows may come in any order.
    pub(crate) fn of(node: &Arc<dyn ExecutionPlan>) -> Option<(Self, Arc<dyn ExecutionPlan>)> {
        let any: &dyn Any = node.as_ref();
        let exchange = any.downcast_ref::<RepartitionExec>().filter(|exchange| !exchange.preserve_order())?;
        let Partitioning::Hash(keys, partitions) = exchange.partitioning() else { return None };
        let partitions = u32::try_from(*partitions).ok()?;
        let input = exchange.input().clone();
        Some((Self { keys: keys.clone(), partitions, schema: input.schema() }, input))
    }

    /// The same keys with another number of partitions.
    pub(crate) fn with_partitions(self, partitions: u32) -> Self {
        Self { partitions, ..self }
    }

    /// The node of a plan that exchanges the rows of `input` so.
    pub(crate) fn over(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(RepartitionExec::try_new(input, self.partitioning())?))
    }

    fn partitioning(&self) -> Partitioning {
        Partitioning::Hash(self.keys.clone(), self.partitions as usize)
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Begins to split rows.
    ///
    /// # Errors
    /// Fails if there are no partitions.
    pub fn splitter(&self) -> Result<RowSplitter> {
        let partitions = self.partitions as usize;
        let partitioner = BatchPartitioner::new_hash_partitioner(self.keys.clone(), partitions, Time::new())?;
        let waiting = (0..partitions).map(|_| None).collect();
        Ok(RowSplitter { partitioner, waiting, batch_rows: None, schema: self.schema.clone() })
    }
}

/// How many bytes the rows of a batch take. Memory that a batch shares with others counts only as far as it uses it.
pub fn rows_bytes(batch: &RecordBatch) -> usize {
    let column_bytes = |column: &ArrayRef| {
        let texts = column.as_string_view_opt().map_or(0, StringViewArray::total_buffer_bytes_used);
        let own = column.to_data().get_slice_memory_size();
        own.unwrap_or_else(|_| column.get_array_memory_size()) + texts
    };
    batch.columns().iter().map(column_bytes).sum()
}

/// A batch of rows of one partition.
pub type PartitionRows = (u32, RecordBatch);

/// Splits the rows of a task. Few rows of each partition wait in memory until they fill a batch.
pub struct RowSplitter {
    partitioner: BatchPartitioner,
    waiting: Vec<Option<BatchCoalescer>>,
    /// How many rows fill a batch. The first rows show how wide rows are.
    batch_rows: Option<usize>,
    schema: SchemaRef,
}

impl RowSplitter {
    /// Adds rows, and gives the batches that are full.
    ///
    /// # Errors
    /// Fails if the keys cannot be computed.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Vec<PartitionRows>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let batch_rows = *self.batch_rows.get_or_insert_with(|| {
            let row_bytes = rows_bytes(&batch) / batch.num_rows() + 1;
            let rows = WAITING_BYTES / self.waiting.len() / row_bytes;
            rows.clamp(MIN_BATCH_ROWS, MAX_BATCH_ROWS)
        });
        let (waiting, schema, mut full) = (&mut self.waiting, &self.schema, Vec::new());
        self.partitioner.partition(batch, |partition, rows| {
            let buffer =
                waiting[partition].get_or_insert_with(|| BatchCoalescer::new(schema.clone(), batch_rows));
            buffer.push_batch(rows)?;
            take_full(partition, buffer, &mut full)
        })?;
        Ok(full)
    }

    /// Gives the rows that still wait.
    ///
    /// # Errors
    /// Fails if the rows cannot be put together.
    pub fn finish(self) -> Result<Vec<PartitionRows>> {
        let mut rest = Vec::new();
        for (partition, buffer) in self.waiting.into_iter().enumerate() {
            if let Some(mut buffer) = buffer {
                buffer.finish_buffered_batch()?;
                take_full(partition, &mut buffer, &mut rest)?;
            }
        }
        Ok(rest)
    }
}

fn take_full(partition: usize, buffer: &mut BatchCoalescer, full: &mut Vec<PartitionRows>) -> Result<()> {
    let partition =
        u32::try_from(partition).map_err(|_| internal_datafusion_err!("there are too many partitions"))?;
    full.extend(std::iter::from_fn(|| buffer.next_completed_batch()).map(|batch| (partition, batch)));
    Ok(())
}

/// Reads partitions of a shuffle: what stands in a plan in place of an exchange and of all below it.
#[derive(Debug)]
pub(crate) struct ShuffleExec {
    shuffle: u32,
    /// Which partition of the shuffle this node's partition 0 is.
    first_partition: u32,
    /// How many bytes the largest partition has.
    largest: u64,
    properties: Arc<PlanProperties>,
}

impl ShuffleExec {
    /// Reads all partitions of a shuffle, of which the largest has so many bytes.
    pub(crate) fn new(shuffle: u32, exchange: &HashExchange, largest: u64) -> Self {
        let properties = properties(exchange.schema.clone(), exchange.partitioning());
        Self { shuffle, first_partition: 0, largest, properties }
    }

    /// Reads one partition alone.
    pub(crate) fn of_partition(&self, partition: u32) -> Self {
        let properties = properties(self.schema(), Partitioning::UnknownPartitioning(1));
        Self { first_partition: self.first_partition + partition, properties, ..*self }
    }

    pub(crate) fn shuffle(&self) -> u32 {
        self.shuffle
    }

    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::from(MAGIC);
        bytes.extend_from_slice(&self.shuffle.to_le_bytes());
        bytes.extend_from_slice(&self.first_partition.to_le_bytes());
        StreamWriter::try_new(&mut bytes, &self.schema())?.finish()?;
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let broken = || internal_datafusion_err!("these bytes are no part of a shuffle");
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
        let (shuffle, rest) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let (partition, schema) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let schema = StreamReader::try_new(schema, None)?.schema();
        Ok(Self {
            shuffle: u32::from_le_bytes(*shuffle),
            first_partition: u32::from_le_bytes(*partition),
            largest: 0,
            properties: properties(schema, Partitioning::UnknownPartitioning(1)),
        })
    }

    pub(crate) fn is_encoded(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }
}

/// What the bytes of a node begin with.
const MAGIC: &[u8] = b"shuffle 1\n";

fn properties(schema: SchemaRef, partitioning: Partitioning) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        partitioning,
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// The node, if it is one.
pub(crate) fn as_shuffle(node: &Arc<dyn ExecutionPlan>) -> Option<&ShuffleExec> {
    let any: &dyn Any = node.as_ref();
    any.downcast_ref()
}

impl DisplayAs for ShuffleExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let partitions = self.properties.output_partitioning().partition_count();
        write!(f, "ShuffleExec: shuffle={}, partitions={partitions}", self.shuffle)
    }
}

impl ExecutionPlan for ShuffleExec {
    fn name(&self) -> &'static str {
        "ShuffleExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("ShuffleExec has no input") }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let source = context
            .session_config()
            .get_extension::<SharedSource>()
            .ok_or_else(|| exec_datafusion_err!("there is nothing from which a shuffle can be read"))?;
        let partition = u32::try_from(partition)
            .ok()
            .and_then(|partition| self.first_partition.checked_add(partition))
            .ok_or_else(|| internal_datafusion_err!("a shuffle has no partition {partition}"))?;
        Ok(source.0.rows(self.shuffle, partition, self.schema()))
    }
}
