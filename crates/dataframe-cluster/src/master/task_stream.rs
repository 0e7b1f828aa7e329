//! The results of tasks as streams of record batches, which the final stage reads while tasks still run.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use dataframe_engine::SendableRecordBatchStream;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::stream;
use tokio::sync::oneshot;

use super::call::TaskOutput;
use crate::pieces::ResultDecoder;
use crate::spool::SpoolReader;

/// Makes a stream that gives the rows of a task as soon as its result is handed over.
pub(super) fn task_stream(schema: SchemaRef) -> (oneshot::Sender<TaskOutput>, SendableRecordBatchStream) {
    let (sender, receiver) = oneshot::channel();
    let batches = stream::try_unfold(TaskRows::Waiting(receiver), next_batch);
    (sender, Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

enum TaskRows {
    Waiting(oneshot::Receiver<TaskOutput>),
    Decoding(SpoolReader, Box<ResultDecoder>),
}

async fn next_batch(reading: TaskRows) -> Result<Option<(RecordBatch, TaskRows)>, DataFusionError> {
    let (mut pieces, mut decoder) = match reading {
        TaskRows::Waiting(output) => {
            let output =
                output.await.map_err(|_| broken("the job ended before the result of a task came"))?;
            (output.pieces.into_reader(), Box::default())
        }
        TaskRows::Decoding(pieces, decoder) => (pieces, decoder),
    };
    loop {
        if let Some(batch) = decoder.next_batch() {
            return Ok(Some((batch, TaskRows::Decoding(pieces, decoder))));
        }
        match pieces.next() {
            Some(piece) => decoder.push(piece?)?,
            None => {
                decoder.finish()?;
                return Ok(None);
            }
        }
    }
}

fn broken(why: &str) -> DataFusionError {
    DataFusionError::Execution(why.to_owned())
}
