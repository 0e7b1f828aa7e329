//! A client of a cluster: sends a job to the master until its result is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use dataframe_engine::{Compute, Frame, FrameError};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, NodesCommand, Progress, Reply, Request, WorkerStatus};
use dataframe_jobs::operation::Operation;
use dataframe_jobs::packet;
use futures_util::StreamExt;
use middleware::{Endpoint, Pieces, SharedTransport, TransportError};

use crate::ask::{AskError, ask};
use crate::pieces::ResultDecoder;

/// A master that works on a job says so once a second. After this silence the job is sent again, under its id.
const SILENCE: Duration = Duration::from_secs(5);

/// Time for the answer to an order about the workers.
const ANSWER: Duration = Duration::from_secs(30);

/// Time for the master to hear that a job is given up.
const GOODBYE: Duration = Duration::from_millis(500);

/// Is called with the state of a job while it runs.
pub type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// Speaks with one master.
#[derive(Clone)]
pub struct ClusterClient {
    transport: SharedTransport,
    master: Endpoint,
    wait: Duration,
    on_progress: Option<OnProgress>,
    /// Jobs that have been sent and have not ended.
    open: Arc<Mutex<BTreeSet<String>>>,
}

/// The result of a job, and how it came about.
#[derive(Debug)]
pub struct JobResult {
    /// The rows.
    pub frame: Frame,
    /// Times and places.
    pub finished: Finished,
}

impl ClusterClient {
    /// A client of the master at `master` (an address where the middleware calls it directly). `wait` is how long a job waits for a
    /// master and for workers.
    #[must_use]
    pub fn new(transport: SharedTransport, master: String, wait: Duration) -> Self {
        Self { transport, master: Endpoint::Master(master), wait, on_progress: None, open: Arc::default() }
    }

    /// Calls `on_progress` whenever the master tells how far a job is.
    #[must_use]
    pub fn with_progress(mut self, on_progress: OnProgress) -> Self {
        self.on_progress = Some(on_progress);
        self
    }

    /// Computes a frame.
    ///
    /// # Errors
    /// Fails if the job fails, or no master answers within the time to wait.
    pub async fn submit(&self, operations: &[Operation]) -> Result<JobResult, Failure> {
        self.submit_as(None, operations).await.1
    }

    /// Computes a frame under an id of the caller's, or under a new one, which it gives back. A master that has finished
    /// a job of this id gives its result again.
    pub async fn submit_as(
        &self,
        job: Option<String>,
        operations: &[Operation],
    ) -> (String, Result<JobResult, Failure>) {
        let job = job.unwrap_or_else(new_job);
        self.open_jobs().insert(job.clone());
        let result = self.send_job(&self.submission(job.clone(), operations, false)).await;
        self.open_jobs().remove(&job);
        (job, result)
    }

    /// Gives up the jobs of this client and its clones that have not ended. For a program that is asked to end.
    pub async fn cancel_open(&self) {
        let jobs = std::mem::take(&mut *self.open_jobs());
        for job in jobs {
            if let Err(error) = ask(&self.transport, &self.master, &Request::Cancel { job }, GOODBYE).await {
                tracing::debug!(%error, "the master did not hear that a job is given up");
            }
        }
    }

    fn open_jobs(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes a frame, and gives the plan and the places of its tasks in place of the rows.
    ///
    /// # Errors
    /// Fails as [`ClusterClient::submit`] does.
    pub async fn explain(&self, operations: &[Operation]) -> Result<String, Failure> {
        let result = self.send_job(&self.submission(new_job(), operations, true)).await?;
        let mut text = String::new();
        for batch in &result.frame.batches {
            for line in batch.column(0).as_string::<i32>().iter().flatten() {
                text.push_str(line);
                text.push('\n');
            }
        }
        text.push_str("\ntask  worker  attempt\n");
        for (task, worker, attempt) in &result.finished.places {
            text.push_str(&format!("{task:>4}  {worker}  {attempt}\n"));
        }
        Ok(text)
    }

    /// Runs empty tasks, to see how long the way of a task takes.
    ///
    /// # Errors
    /// Fails as [`ClusterClient::submit`] does.
    pub async fn probe(&self, tasks: u32) -> Result<Finished, Failure> {
        Ok(self.send_job(&Request::Probe { job: new_job(), tasks }).await?.finished)
    }

    /// Asks about the workers, or changes them. Returns the workers afterwards.
    ///
    /// # Errors
    /// Fails if the master refuses or does not answer.
    pub async fn nodes(&self, command: NodesCommand) -> Result<Vec<WorkerStatus>, Failure> {
        match ask(&self.transport, &self.master, &Request::Nodes(command), ANSWER).await {
            Ok((Reply::Nodes { workers }, _)) => Ok(workers),
            Ok((other, _)) => Err(broken(&format!("the master answered {other:?}"))),
            Err(AskError::Failed(failure)) => Err(failure),
            Err(error) => Err(unreachable(&self.master, &error.to_string())),
        }
    }

    fn submission(&self, job: String, operations: &[Operation], explain: bool) -> Request {
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        Request::Submit { job, operations: operations.to_vec(), wait_ms, explain }
    }

    /// Sends a job under one id until it has ended, although the master or workers may be killed meanwhile.
    async fn send_job(&self, request: &Request) -> Result<JobResult, Failure> {
        let packet = packet::encode(request, &[]);
        let backoff = || {
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(50))
                .with_max_delay(Duration::from_secs(1))
                .without_max_times()
                .with_jitter()
                .build()
        };
        let (mut pauses, mut last_word) = (backoff(), Instant::now());
        loop {
            let attempt = match self.transport.request(&self.master, packet.clone()).await {
                Ok(pieces) => self.receive(pieces, &mut last_word).await,
                Err(TransportError::Invalid(why)) => return Err(unsendable(&why)),
                Err(error) => Err(Interrupted::Lost(error.to_string())),
            };
            let cause = match attempt {
                Ok(result) => return Ok(result),
                Err(Interrupted::Failed(failure)) => return Err(failure),
                Err(Interrupted::Lost(cause)) => cause,
            };
            if last_word.elapsed() > self.wait.max(SILENCE) {
                return Err(unreachable(&self.master, &cause));
            }
            tracing::debug!(cause, "the job is sent again under its id");
            if last_word.elapsed() < Duration::from_millis(100) {
                pauses = backoff();
            }
            tokio::time::sleep(pauses.next().unwrap_or(SILENCE)).await;
        }
    }

    async fn receive(&self, mut pieces: Pieces, last_word: &mut Instant) -> Result<JobResult, Interrupted> {
        let (mut reader, mut batches, mut next) = (ResultDecoder::default(), Vec::new(), 0);
        loop {
            let piece: Bytes = match tokio::time::timeout(SILENCE, pieces.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => return Err(Interrupted::Lost(error.to_string())),
                Ok(None) => return Err(Interrupted::Lost("the reply ended too early".to_owned())),
                Err(_) => return Err(Interrupted::Lost(format!("the master was silent for {SILENCE:?}"))),
            };
            *last_word = Instant::now();
            let (reply, body) =
                packet::decode(&piece).map_err(|error| Interrupted::Failed(broken(&error.to_string())))?;
            match reply {
                Reply::Progress(progress) => {
                    if let Some(on_progress) = &self.on_progress {
                        on_progress(&progress);
                    }
                }
                Reply::Result { piece, .. } if piece == next => {
                    next += 1;
                    reader.push(body).map_err(|error| Interrupted::Failed(broken(&error.to_string())))?;
                    batches.extend(std::iter::from_fn(|| reader.next_batch()));
                }
                Reply::Result { .. } => {
                    return Err(Interrupted::Lost("a piece of the result is missing".to_owned()));
                }
                Reply::Finished(finished) if finished.pieces == next => {
                    let schema = reader.schema().unwrap_or_else(|| Arc::new(Schema::empty()));
                    return Ok(JobResult { frame: Frame { schema, batches }, finished });
                }
                Reply::Finished(_) => return Err(Interrupted::Lost("the result is not complete".to_owned())),
                Reply::Failed(failure) => return Err(Interrupted::Failed(failure)),
                other => return Err(Interrupted::Failed(broken(&format!("the master answered {other:?}")))),
            }
        }
    }
}

fn new_job() -> String {
    service::new_ulid(rand::random()).to_string()
}

/// Why a reply is no result.
enum Interrupted {
    /// The job failed; sending it again would not help.
    Failed(Failure),
    /// The reply broke off. The job is sent again.
    Lost(String),
}

fn unsendable(why: &str) -> Failure {
    let message = format!("the list of operations cannot be sent over this middleware: {why}");
    Failure { code: FailureCode::BadJob, message, worker: None }
}

fn broken(message: &str) -> Failure {
    Failure { code: FailureCode::Internal, message: message.to_owned(), worker: None }
}

fn unreachable(master: &Endpoint, cause: &str) -> Failure {
    let place = match master {
        Endpoint::Master(address) if !address.is_empty() => format!(" at {address}"),
        _ => String::new(),
    };
    let message = format!(
        "the master{place} does not answer: {cause}. Is dataframe-master running, with the same --middleware?"
    );
    Failure { code: FailureCode::NoWorkers, message, worker: None }
}

#[async_trait]
impl Compute for ClusterClient {
    async fn compute(&self, operations: &[Operation]) -> Result<Frame, FrameError> {
        Ok(self.submit(operations).await.map_err(FrameError::from)?.frame)
    }

    async fn explain(&self, operations: &[Operation]) -> Result<String, FrameError> {
        ClusterClient::explain(self, operations).await.map_err(FrameError::from)
    }
}
