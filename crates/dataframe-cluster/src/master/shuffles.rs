//! Results of tasks that lie here in partitions, until the tasks of the next stage fetch them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use dataframe_engine::{SendableRecordBatchStream, ShuffleSource};
use dataframe_jobs::message::TaskId;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::stream;

use crate::pieces::StreamsDecoder;
use crate::spool::Spool;

/// The results of the tasks below one exchange, each in partitions.
pub(crate) struct ShuffledResults {
    results: Vec<Spool>,
    partitions: u32,
}

impl ShuffledResults {
    /// Results that all have been split into so many partitions.
    pub(super) fn new(results: Vec<Spool>, partitions: u32) -> Self {
        Self { results, partitions }
    }

    /// The bytes of each partition.
    pub(super) fn bytes(&self) -> Vec<u64> {
        let mut bytes = vec![0; self.partitions as usize];
        self.results.iter().for_each(|result| result.add_bytes(&mut bytes));
        bytes
    }

    /// Where the pieces of a partition are, in the order in which they are read: the number of a result, and that of a piece.
    pub(super) fn pieces(&self, partition: u32) -> Option<Vec<(usize, usize)>> {
        let pieces = |(result, spool): (usize, &Spool)| -> Vec<(usize, usize)> {
            spool.pieces_of(partition).map(|piece| (result, piece)).collect()
        };
        (partition < self.partitions).then(|| self.results.iter().enumerate().flat_map(pieces).collect())
    }

    /// Reads a piece.
    pub(super) fn read(&self, (result, piece): (usize, usize)) -> io::Result<Bytes> {
        self.results
            .get(result)
            .map_or_else(|| Err(io::ErrorKind::NotFound.into()), |spool| spool.read(piece))
    }
}

/// What a stage reads, by the numbers of the shuffles.
pub(super) type StageInput = BTreeMap<u32, Arc<ShuffledResults>>;

/// What the tasks of running stages read.
#[derive(Default)]
pub(crate) struct Shuffles {
    offered: Arc<Mutex<HashMap<(String, u32), StageInput>>>,
}

impl Shuffles {
    /// Lets the tasks of a round of a job fetch from this, as long as the offer is kept.
    pub(super) fn offer(&self, job: &str, round: u32, input: &StageInput) -> ShuffleOffer {
        let key = (job.to_owned(), round);
        lock(&self.offered).insert(key.clone(), input.clone());
        ShuffleOffer { offered: Arc::clone(&self.offered), key }
    }

    /// What a task reads.
    pub(super) fn find(&self, task: &TaskId, shuffle: u32) -> Option<Arc<ShuffledResults>> {
        lock(&self.offered).get(&(task.job.clone(), task.round))?.get(&shuffle).cloned()
    }
}

type Offered = HashMap<(String, u32), StageInput>;

fn lock(offered: &Mutex<Offered>) -> MutexGuard<'_, Offered> {
    offered.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Dropping it withdraws the offer.
pub(super) struct ShuffleOffer {
    offered: Arc<Mutex<Offered>>,
    key: (String, u32),
}

impl Drop for ShuffleOffer {
    fn drop(&mut self) {
        lock(&self.offered).remove(&self.key);
    }
}

/// Reads shuffles in the master itself.
pub(super) struct OwnShuffles(pub(super) StageInput);

impl ShuffleSource for OwnShuffles {
    fn rows(&self, shuffle: u32, partition: u32, schema: SchemaRef) -> SendableRecordBatchStream {
        let results = self.0.get(&shuffle).cloned();
        let pieces = results.as_ref().and_then(|results| results.pieces(partition));
        let reading = results.zip(pieces).map(|(results, pieces)| OwnPartition {
            results,
            pieces: pieces.into_iter(),
            decoder: StreamsDecoder::default(),
        });
        let rows = stream::try_unfold(reading, |reading| async move {
            let mut reading = reading
                .ok_or_else(|| DataFusionError::Internal("a shuffle is read that is not there".to_owned()))?;
            Ok(reading.next_batch()?.map(|batch| (batch, Some(reading))))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

struct OwnPartition {
    results: Arc<ShuffledResults>,
    pieces: std::vec::IntoIter<(usize, usize)>,
    decoder: StreamsDecoder,
}

impl OwnPartition {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        loop {
            if let Some(batch) = self.decoder.next_batch() {
                return Ok(Some(batch));
            }
            let Some(piece) = self.pieces.next() else {
                self.decoder.finish()?;
                return Ok(None);
            };
            let stream = u32::try_from(piece.0).unwrap_or(u32::MAX);
            self.decoder.push(stream, self.results.read(piece)?)?;
        }
    }
}
