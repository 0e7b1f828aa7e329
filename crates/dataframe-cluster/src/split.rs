//! The rows of a task that go into an exchange: few as one stream, and many as a stream for each partition.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use dataframe_engine::{FrameError, HashExchange, RowSplitter, rows_bytes};
use datafusion::error::DataFusionError;

use crate::pieces::ResultEncoder;

/// Pieces are not longer, whatever the middleware carries: whoever merges sorted results has a piece of each of them in memory.
const PIECE_BYTES: usize = 1 << 20;

/// A piece, and the stream that it belongs to, where there are several.
pub(crate) type StreamPiece = (Option<u32>, Bytes);

/// Cuts the rows of a task into pieces.
pub(crate) struct TaskEncoder {
    schema: SchemaRef,
    max_bytes: usize,
    state: EncoderState,
}

enum EncoderState {
    Whole(Box<ResultEncoder>),
    /// Rows that go into an exchange wait until it is clear whether they are many.
    Undecided {
        exchange: HashExchange,
        above: u64,
        rows: Vec<RecordBatch>,
        bytes: u64,
    },
    Split(Box<SplitEncoder>),
}

impl TaskEncoder {
    /// Begins. Rows that go into an exchange are split if they take more than so many bytes in memory.
    ///
    /// # Errors
    /// Fails if the schema has a type that Arrow IPC cannot carry.
    pub(crate) fn new(
        schema: &SchemaRef,
        max_bytes: usize,
        exchange: Option<(HashExchange, u64)>,
    ) -> Result<Self, FrameError> {
        let max_bytes = max_bytes.min(PIECE_BYTES);
        let state = match exchange {
            Some((exchange, above)) => {
                EncoderState::Undecided { exchange, above, rows: Vec::new(), bytes: 0 }
            }
            None => EncoderState::Whole(Box::new(whole(schema, max_bytes)?)),
        };
        Ok(Self { schema: schema.clone(), max_bytes, state })
    }

    /// Adds rows, and gives the pieces that are ready.
    ///
    /// # Errors
    /// Fails if the rows cannot be split or encoded.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Vec<StreamPiece>, FrameError> {
        match &mut self.state {
            EncoderState::Whole(encoder) => {
                Ok(of_one(encoder.push(&batch).map_err(|error| unencodable(&error))?))
            }
            EncoderState::Split(encoder) => encoder.push(batch),
            EncoderState::Undecided { exchange, above, rows, bytes } => {
                *bytes += rows_bytes(&batch) as u64;
                rows.push(batch);
                if *bytes <= *above {
                    return Ok(Vec::new());
                }
                let mut encoder = SplitEncoder::new(exchange, self.max_bytes)?;
                let mut pieces = Vec::new();
                for batch in std::mem::take(rows) {
                    pieces.append(&mut encoder.push(batch)?);
                }
                self.state = EncoderState::Split(Box::new(encoder));
                Ok(pieces)
            }
        }
    }

    /// Gives the last pieces.
    ///
    /// # Errors
    /// Fails if the rows cannot be encoded.
    pub(crate) fn finish(self) -> Result<Vec<StreamPiece>, FrameError> {
        match self.state {
            EncoderState::Whole(encoder) => {
                Ok(of_one(encoder.finish().map_err(|error| unencodable(&error))?))
            }
            EncoderState::Split(encoder) => encoder.finish(),
            EncoderState::Undecided { rows, .. } => {
                let mut encoder = whole(&self.schema, self.max_bytes)?;
                let mut pieces = Vec::new();
                for batch in rows {
                    pieces.append(&mut encoder.push(&batch).map_err(|error| unencodable(&error))?);
                }
                pieces.append(&mut encoder.finish().map_err(|error| unencodable(&error))?);
                Ok(of_one(pieces))
            }
        }
    }
}

/// Cuts rows into pieces of one stream for each partition.
pub(crate) struct SplitEncoder {
    splitter: RowSplitter,
    schema: SchemaRef,
    max_bytes: usize,
    streams: Vec<Option<ResultEncoder>>,
}

impl SplitEncoder {
    /// Begins to split rows for an exchange.
    ///
    /// # Errors
    /// Fails if the exchange has no partitions.
    pub(crate) fn new(exchange: &HashExchange, max_bytes: usize) -> Result<Self, FrameError> {
        let splitter = exchange.splitter().map_err(|error| unsplittable(&error))?;
        let streams = (0..exchange.partitions()).map(|_| None).collect();
        Ok(Self { splitter, schema: exchange.schema().clone(), max_bytes, streams })
    }

    /// Adds rows, and gives the pieces that are ready.
    ///
    /// # Errors
    /// Fails if the rows cannot be split or encoded.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Vec<StreamPiece>, FrameError> {
        let full = self.splitter.push(batch).map_err(|error| unsplittable(&error))?;
        encode(&mut self.streams, &self.schema, self.max_bytes, full)
    }

    /// Gives the last pieces.
    ///
    /// # Errors
    /// Fails if the rows cannot be encoded.
    pub(crate) fn finish(self) -> Result<Vec<StreamPiece>, FrameError> {
        let rest = self.splitter.finish().map_err(|error| unsplittable(&error))?;
        let mut streams = self.streams;
        let mut pieces = encode(&mut streams, &self.schema, self.max_bytes, rest)?;
        for (partition, encoder) in (0..).zip(streams) {
            if let Some(encoder) = encoder {
                let last = encoder.finish().map_err(|error| unencodable(&error))?;
                pieces.extend(last.into_iter().map(|piece| (Some(partition), piece)));
            }
        }
        Ok(pieces)
    }
}

fn encode(
    streams: &mut [Option<ResultEncoder>],
    schema: &SchemaRef,
    max_bytes: usize,
    batches: Vec<(u32, RecordBatch)>,
) -> Result<Vec<StreamPiece>, FrameError> {
    let mut pieces = Vec::new();
    for (partition, batch) in batches {
        let stream = &mut streams[partition as usize];
        let encoder = match stream {
            Some(encoder) => encoder,
            None => stream.insert(whole(schema, max_bytes)?),
        };
        let mut ready = encoder.push(&batch).map_err(|error| unencodable(&error))?;
        // A partition for which few rows come must not wait in memory until they fill a piece.
        ready.append(&mut encoder.flush());
        pieces.extend(ready.into_iter().map(|piece| (Some(partition), piece)));
    }
    Ok(pieces)
}

fn whole(schema: &SchemaRef, max_bytes: usize) -> Result<ResultEncoder, FrameError> {
    ResultEncoder::new(schema, max_bytes).map_err(|error| unencodable(&error))
}

fn of_one(pieces: Vec<Bytes>) -> Vec<StreamPiece> {
    pieces.into_iter().map(|piece| (None, piece)).collect()
}

fn unencodable(error: &ArrowError) -> FrameError {
    FrameError::Internal(format!("a result cannot be encoded: {error}"))
}

fn unsplittable(error: &DataFusionError) -> FrameError {
    FrameError::Internal(format!("a result cannot be split by its keys: {error}"))
}
