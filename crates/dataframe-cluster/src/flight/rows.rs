//! Stored rows as a stream of Flight: read, cut and encoded no faster than the client takes them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow_flight::FlightData;
use arrow_flight::encode::{FlightDataEncoder, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::answers::{MAX_MESSAGE_BYTES, internal};
use crate::master::desk::Desk;

/// Results that are read at a time.
pub(super) const MAX_READERS: usize = 256;

/// Rows are sent in pieces of about this size. Clients of tonic take 4 MiB unless told otherwise, and those of ADBC 16 MiB.
const PIECE_BYTES: usize = 1 << 20;

/// Pieces that wait for the client.
const PIECES_AHEAD: usize = 4;

/// A client that takes nothing for so long gets an error, and has to ask again.
const IDLE: Duration = Duration::from_secs(300);

type FlightRows = BoxStream<'static, Result<FlightData, Status>>;

/// The status for a job whose rows are not there.
pub(super) fn no_result() -> Status {
    Status::not_found(
        "there is no result for this ticket: it was removed to make room for newer ones, or it never was. Ask again by GetFlightInfo",
    )
}

/// The rows that are stored for a job.
pub(super) fn of_job(desk: &Desk, job: &str, readers: &Arc<Semaphore>) -> Result<FlightRows, Status> {
    let (_, result) = desk.context.results.find(job).ok_or_else(no_result)?;
    let place = Arc::clone(readers).try_acquire_owned().map_err(|_| {
        Status::resource_exhausted(format!("{MAX_READERS} results are being read already: ask again later"))
    })?;
    let batches = result.into_batches().map_err(internal)?;
    let (pieces, received) = mpsc::channel(PIECES_AHEAD);
    let schema = sent_schema(&batches.schema());
    let rows = CutRows { batches, schema: Arc::clone(&schema), ready: VecDeque::new() };
    let sending = desk.context.threads.spawn(send(encoder(schema, stream::iter(rows).boxed()), pieces, IDLE));
    let delivery = RowsDelivery { received, sending: Some(sending), _place: place };
    Ok(stream::unfold(delivery, |mut delivery| async { Some((delivery.next().await?, delivery)) }).boxed())
}

/// One batch as a stream.
pub(super) fn of_batch(batch: RecordBatch) -> FlightRows {
    let schema = batch.schema();
    encoder(schema, stream::iter([Ok(batch)]).boxed()).map(|piece| piece.map_err(Status::from)).boxed()
}

fn encoder(
    schema: SchemaRef,
    rows: BoxStream<'static, Result<RecordBatch, FlightError>>,
) -> FlightDataEncoder {
    // The rows have been cut already.
    FlightDataEncoderBuilder::new().with_schema(schema).with_max_flight_data_size(usize::MAX).build(rows)
}

/// The way of the pieces of one result.
struct RowsDelivery {
    received: mpsc::Receiver<FlightData>,
    sending: Option<AbortOnDropHandle<Result<(), Status>>>,
    _place: OwnedSemaphorePermit,
}

impl RowsDelivery {
    /// The next piece. After the last one, the error that has ended the stream too early.
    async fn next(&mut self) -> Option<Result<FlightData, Status>> {
        if let Some(piece) = self.received.recv().await {
            return Some(Ok(piece));
        }
        match self.sending.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(error) => Some(Err(internal(error))),
        }
    }
}

/// Hands the pieces over until the client has gone, or has taken nothing for `idle`.
async fn send(
    mut pieces: FlightDataEncoder,
    to: mpsc::Sender<FlightData>,
    idle: Duration,
) -> Result<(), Status> {
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if piece.data_header.len() + piece.data_body.len() > MAX_MESSAGE_BYTES - PIECE_BYTES {
            return Err(Status::out_of_range(format!(
                "a row is longer than the {} MiB that fit into a message",
                (MAX_MESSAGE_BYTES - PIECE_BYTES) >> 20
            )));
        }
        match tokio::time::timeout(idle, to.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_gone)) => return Ok(()),
            Err(_) => {
                let message =
                    format!("the client has taken nothing for {idle:?}: ask for the ticket's rows again");
                return Err(Status::deadline_exceeded(message));
            }
        }
    }
    Ok(())
}

/// The schema as it is sent: with text in the layout that every client of Arrow knows.
pub(super) fn sent_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_data_type(sent_type(field.data_type())))
        .collect();
    Arc::new(Schema::new(fields))
}

fn sent_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

/// The rows of a stored result, in pieces.
struct CutRows {
    batches: StreamReader<BufReader<File>>,
    schema: SchemaRef,
    ready: VecDeque<RecordBatch>,
}

impl Iterator for CutRows {
    type Item = Result<RecordBatch, FlightError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            match self.batches.next()? {
                Ok(batch) => cut(batch, &mut self.ready),
                Err(error) => return Some(Err(error.into())),
            }
        }
        let piece = self.ready.pop_front()?;
        Some(converted(&piece, &self.schema).map_err(FlightError::from))
    }
}

/// Halves a batch until its parts are short, or one row.
fn cut(batch: RecordBatch, into: &mut VecDeque<RecordBatch>) {
    let rows = batch.num_rows();
    if rows == 0 {
        return;
    }
    if rows == 1 || batch.columns().iter().map(length).sum::<usize>() <= PIECE_BYTES {
        into.push_back(batch);
        return;
    }
    cut(batch.slice(0, rows / 2), into);
    cut(batch.slice(rows / 2, rows - rows / 2), into);
}

/// The bytes that a column takes when it is sent.
fn length(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8View => {
            column.as_string_view().lengths().map(|length| length as usize + size_of::<i32>()).sum()
        }
        _ => column.to_data().get_slice_memory_size().unwrap_or(usize::MAX),
    }
}

fn converted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    // A frame without columns has rows, too.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray};

    use super::*;

    fn batch(rows: usize, bytes: usize) -> RecordBatch {
        let text: ArrayRef =
            Arc::new(StringViewArray::from_iter_values((0..rows).map(|_| "x".repeat(bytes))));
        let number: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        RecordBatch::try_from_iter([("text", text), ("number", number)]).unwrap()
    }

    #[test]
    fn long_batches_are_cut_and_keep_their_rows() {
        let whole = batch(1_000, 10_000);
        let mut parts = VecDeque::new();
        cut(whole.clone(), &mut parts);
        assert!(parts.len() >= 10, "{} parts", parts.len());
        assert!(parts.iter().all(|part| part.columns().iter().map(length).sum::<usize>() <= PIECE_BYTES));
        let together = arrow::compute::concat_batches(&whole.schema(), &parts).unwrap();
        assert_eq!(together, whole);
        let sent = converted(&parts[0], &sent_schema(&whole.schema())).unwrap();
        assert_eq!(sent.column(0).data_type(), &DataType::Utf8);
        // The parts share the text of the whole, and what is sent does not.
        assert!(sent.get_array_memory_size() < 2 * PIECE_BYTES, "{}", sent.get_array_memory_size());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let rows = batch(10, 10);
        let schema = sent_schema(&rows.schema());
        let rows = converted(&rows, &schema).unwrap();
        let (pieces, _received) = mpsc::channel(PIECES_AHEAD);
        let endless = stream::repeat_with(move || Ok(rows.clone())).boxed();
        let status = send(encoder(schema, endless), pieces, IDLE).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_row_that_no_message_holds_is_an_error() {
        let rows = batch(1, MAX_MESSAGE_BYTES);
        let schema = sent_schema(&rows.schema());
        let rows = converted(&rows, &schema).unwrap();
        let (pieces, _received) = mpsc::channel(PIECES_AHEAD);
        let status = send(encoder(schema, stream::iter([Ok(rows)]).boxed()), pieces, IDLE).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::OutOfRange);
        assert!(status.message().contains("a row is longer than the 15 MiB"), "{status}");
    }
}
