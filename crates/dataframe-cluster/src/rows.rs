//! The rows of a job, read one batch after the other.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use dataframe_engine::{Frame, FrameError};
use dataframe_jobs::message::Finished;

use crate::pieces::ResultDecoder;
use crate::spool::{Spool, SpoolReader};

/// The rows of a job that has ended. Few are in memory at a time.
pub struct JobRows {
    schema: SchemaRef,
    pieces: SpoolReader,
    decoder: ResultDecoder,
    finished: Finished,
}

impl JobRows {
    /// Begins to read a result that is complete.
    pub(crate) fn open(spool: Spool, finished: Finished) -> Result<Self, FrameError> {
        let (mut pieces, mut decoder) = (spool.into_reader(), ResultDecoder::default());
        while decoder.schema().is_none() {
            let Some(piece) = pieces.next() else { break };
            push(&mut decoder, piece)?;
        }
        // A job of empty tasks has no result at all.
        let schema = decoder.schema().unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(Self { schema, pieces, decoder, finished })
    }

    /// Names and types of the columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// Fails if the rows cannot be read back.
    pub fn into_frame(mut self) -> Result<(Frame, Finished), FrameError> {
        let batches = self.by_ref().collect::<Result<Vec<_>, _>>()?;
        Ok((Frame { schema: self.schema, batches }, self.finished))
    }

    pub(crate) fn into_finished(self) -> Finished {
        self.finished
    }
}

impl Iterator for JobRows {
    type Item = Result<RecordBatch, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.decoder.next_batch() {
                return Some(Ok(batch));
            }
            if let Err(error) = push(&mut self.decoder, self.pieces.next()?) {
                return Some(Err(error));
            }
        }
    }
}

fn push(decoder: &mut ResultDecoder, piece: std::io::Result<bytes::Bytes>) -> Result<(), FrameError> {
    let piece =
        piece.map_err(|error| FrameError::Resources(format!("the result cannot be read back: {error}")))?;
    decoder.push(piece).map_err(|error| FrameError::Internal(format!("the master sent no result: {error}")))
}
