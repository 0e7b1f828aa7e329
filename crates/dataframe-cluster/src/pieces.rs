//! A stream of record batches as pieces of bytes, and back. The bytes are an Arrow IPC stream, cut anywhere.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::{Bytes, BytesMut};

/// Cuts record batches into pieces.
pub struct ResultEncoder {
    stream: StreamWriter<Vec<u8>>,
    waiting: BytesMut,
    max_bytes: usize,
}

impl ResultEncoder {
    /// Begins a stream whose pieces have at most `max_bytes`.
    ///
    /// # Errors
    /// Fails if the schema has a type that Arrow IPC cannot carry.
    pub fn new(schema: &SchemaRef, max_bytes: usize) -> Result<Self, ArrowError> {
        Ok(Self { stream: StreamWriter::try_new(Vec::new(), schema)?, waiting: BytesMut::new(), max_bytes })
    }

    /// Adds a batch, and gives the pieces that are full.
    ///
    /// # Errors
    /// Fails if the batch cannot be encoded.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
        self.stream.write(batch)?;
        self.collect();
        let mut pieces = Vec::new();
        while self.waiting.len() >= self.max_bytes {
            pieces.push(self.waiting.split_to(self.max_bytes).freeze());
        }
        Ok(pieces)
    }

    /// Gives what has been encoded and fills no piece.
    pub fn flush(&mut self) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while !self.waiting.is_empty() {
            let length = self.waiting.len().min(self.max_bytes);
            pieces.push(self.waiting.split_to(length).freeze());
        }
        pieces
    }

    /// Ends the stream, and gives its last piece.
    ///
    /// # Errors
    /// Fails if the end cannot be encoded.
    pub fn finish(mut self) -> Result<Vec<Bytes>, ArrowError> {
        self.stream.finish()?;
        self.collect();
        Ok(self.flush())
    }

    fn collect(&mut self) {
        let written = std::mem::take(self.stream.get_mut());
        if self.waiting.is_empty() {
            self.waiting = BytesMut::from(Bytes::from(written));
        } else {
            self.waiting.extend_from_slice(&written);
        }
    }
}

/// Reads record batches from pieces.
#[derive(Default)]
pub struct ResultDecoder {
    decoder: StreamDecoder,
    ready: VecDeque<RecordBatch>,
}

impl ResultDecoder {
    /// Takes the next piece.
    ///
    /// # Errors
    /// Fails if the bytes are not the continuation of an Arrow IPC stream.
    pub fn push(&mut self, piece: Bytes) -> Result<(), ArrowError> {
        let mut buffer = Buffer::from(piece);
        while !buffer.is_empty() {
            if let Some(batch) = self.decoder.decode(&mut buffer)? {
                self.ready.push_back(batch);
            }
        }
        Ok(())
    }

    /// The next batch that is complete.
    pub fn next_batch(&mut self) -> Option<RecordBatch> {
        self.ready.pop_front()
    }

    /// The schema, as soon as the first piece has brought it.
    #[must_use]
    pub fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }

    /// Checks that the stream is complete.
    ///
    /// # Errors
    /// Fails if a batch was cut off.
    pub fn finish(&mut self) -> Result<(), ArrowError> {
        self.decoder.finish()
    }
}

/// Reads record batches from several streams, one after the other.
#[derive(Default)]
pub struct StreamsDecoder {
    stream: u32,
    decoder: ResultDecoder,
}

impl StreamsDecoder {
    /// Takes the next piece, which belongs to this stream. All batches of a stream have been taken before the next one begins.
    ///
    /// # Errors
    /// Fails if the bytes are not the continuation of the stream, or an earlier stream is not complete.
    pub fn push(&mut self, stream: u32, piece: Bytes) -> Result<(), ArrowError> {
        if stream != self.stream {
            self.decoder.finish()?;
            *self = Self { stream, decoder: ResultDecoder::default() };
        }
        self.decoder.push(piece)
    }

    /// The next batch that is complete.
    pub fn next_batch(&mut self) -> Option<RecordBatch> {
        self.decoder.next_batch()
    }

    /// Checks that the last stream is complete.
    ///
    /// # Errors
    /// Fails if a batch was cut off.
    pub fn finish(&mut self) -> Result<(), ArrowError> {
        self.decoder.finish()
    }
}
