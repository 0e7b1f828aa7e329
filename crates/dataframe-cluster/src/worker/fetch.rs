//! Fetches from the master what earlier tasks have made for a task of this worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use dataframe_engine::{FrameError, SendableRecordBatchStream, ShuffleSource};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Reply, Request, TaskId};
use dataframe_jobs::packet;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::context::WorkerContext;
use crate::pieces::StreamsDecoder;

/// Pieces that wait for the task.
const PIECES_AHEAD: usize = 4;

/// A master that is silent for so long is asked again.
const SILENCE: Duration = Duration::from_secs(5);

/// A worker that has got nothing for so long gives its task back.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause before the master is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Gives a task its rows.
pub(super) struct MasterShuffles {
    context: Arc<WorkerContext>,
    task: TaskId,
}

impl MasterShuffles {
    /// What this task reads.
    pub(super) fn new(context: &Arc<WorkerContext>, task: &TaskId) -> Self {
        Self { context: Arc::clone(context), task: task.clone() }
    }
}

impl ShuffleSource for MasterShuffles {
    fn rows(&self, shuffle: u32, partition: u32, schema: SchemaRef) -> SendableRecordBatchStream {
        let fetch = PartitionFetch {
            context: Arc::clone(&self.context),
            task: self.task.clone(),
            shuffle,
            partition,
            received: 0,
        };
        let rows = stream::try_unfold(FetchState::Waiting(fetch), |state| async move {
            let mut running = match state {
                FetchState::Waiting(fetch) => RunningFetch::start(fetch),
                FetchState::Running(running) => running,
            };
            Ok(running.next_batch().await?.map(|batch| (batch, FetchState::Running(running))))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

enum FetchState {
    Waiting(PartitionFetch),
    Running(RunningFetch),
}

type FetchedPiece = Result<(u32, Bytes), Failure>;

struct RunningFetch {
    pieces: mpsc::Receiver<FetchedPiece>,
    decoder: StreamsDecoder,
    /// Taken when it has ended.
    task: Option<AbortOnDropHandle<()>>,
}

impl RunningFetch {
    /// The network belongs to another thread than the one that computes.
    fn start(fetch: PartitionFetch) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let network = fetch.context.network.clone();
        let task = AbortOnDropHandle::new(network.spawn(fetch.run(sender)));
        Self { pieces, decoder: StreamsDecoder::default(), task: Some(task) }
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        loop {
            if let Some(batch) = self.decoder.next_batch() {
                return Ok(Some(batch));
            }
            match self.pieces.recv().await {
                Some(Ok((stream, piece))) => self.decoder.push(stream, piece)?,
                Some(Err(failure)) => return Err(FrameError::from(failure).into()),
                None => {
                    if let Some(task) = self.task.take() {
                        // A fetch that has panicked is no end of the rows.
                        task.await.map_err(|error| DataFusionError::External(Box::new(error)))?;
                    }
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }
}

/// Why a reply did not bring all pieces.
enum FetchEnd {
    /// The task is not wanted any more, or nobody takes its rows.
    Over(Option<Failure>),
    /// It is asked for again.
    Again(Failure),
}

struct PartitionFetch {
    context: Arc<WorkerContext>,
    task: TaskId,
    shuffle: u32,
    partition: u32,
    received: u32,
}

impl PartitionFetch {
    async fn run(mut self, sender: mpsc::Sender<FetchedPiece>) {
        let (mut last_word, mut had) = (Instant::now(), 0);
        let failure = loop {
            let failure = match self.ask(&sender).await {
                Ok(()) | Err(FetchEnd::Over(None)) => return,
                Err(FetchEnd::Over(Some(failure))) => break failure,
                Err(FetchEnd::Again(failure)) => failure,
            };
            if self.received > had {
                (last_word, had) = (Instant::now(), self.received);
            } else if last_word.elapsed() > PATIENCE {
                break failure;
            }
            tracing::debug!(task = ?self.task, %failure, "rows are asked for again");
            tokio::time::sleep(PAUSE).await;
        };
        // Nobody receives any more when the task was stopped.
        let _ = sender.send(Err(failure)).await;
    }

    async fn ask(&mut self, sender: &mpsc::Sender<FetchedPiece>) -> Result<(), FetchEnd> {
        let lost = |cause: &dyn std::fmt::Display| {
            let message =
                format!("the rows of an earlier stage could not be fetched from the master: {cause}");
            FetchEnd::Again(Failure { code: FailureCode::Cancelled, message, worker: None })
        };
        let request = Request::Fetch {
            task: self.task.clone(),
            shuffle: self.shuffle,
            partition: self.partition,
            from: self.received,
        };
        let request = packet::encode(&request, &[]);
        let (_, master) = self.context.masters.current();
        let asked = self.context.transport.request(&master, request);
        let asked = tokio::time::timeout(SILENCE, asked).await.map_err(|_| lost(&"it does not answer"))?;
        let mut pieces = asked.map_err(|error| lost(&error))?;
        loop {
            let piece = match tokio::time::timeout(SILENCE, pieces.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => return Err(lost(&error)),
                Ok(None) => return Err(lost(&"the reply ended too early")),
                Err(_) => return Err(lost(&format!("it was silent for {SILENCE:?}"))),
            };
            let (reply, body) = packet::decode::<Reply>(&piece).map_err(|error| lost(&error))?;
            match reply {
                Reply::Result { piece, stream: Some(stream), .. } if piece == self.received => {
                    if sender.send(Ok((stream, body))).await.is_err() {
                        return Err(FetchEnd::Over(None));
                    }
                    self.received += 1;
                }
                Reply::Finished(finished) if finished.pieces == self.received => return Ok(()),
                Reply::Failed(failure) if failure.code == FailureCode::Resources => {
                    return Err(FetchEnd::Again(failure));
                }
                Reply::Failed(failure) => return Err(FetchEnd::Over(Some(failure))),
                other => return Err(lost(&format!("it answered {other:?}"))),
            }
        }
    }
}
