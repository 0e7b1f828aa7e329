//! A client of a cluster: sends a job to the master until its result is there.

mod conversation;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::AsArray;
use async_trait::async_trait;
use bytes::Bytes;
use dataframe_engine::{Compute, Frame, FrameError, ModuleStore};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, NodesCommand, Progress, Reply, Request, WorkerStatus};
use dataframe_jobs::operation::{self, Operation};
use dataframe_jobs::packet;
use middleware::SharedTransport;

use conversation::{Conversation, Interrupted, broken, unreachable};

use crate::ask::{AskError, ask};
use crate::masters::MasterAddresses;
use crate::rows::JobRows;
use crate::spool::{Spool, SpoolRoom};
use crate::worker::HEADER_BYTES;

/// Time for the answer to an order about the workers.
const ANSWER: Duration = Duration::from_secs(30);

/// Time for the master to hear that a job is given up.
const GOODBYE: Duration = Duration::from_millis(500);

/// Is called with the state of a job while it runs.
pub type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// Speaks with the master of a cluster, and with the other one of a pair when it has taken over.
#[derive(Clone)]
pub struct ClusterClient {
    transport: SharedTransport,
    masters: MasterAddresses,
    wait: Duration,
    on_progress: Option<OnProgress>,
    /// Where results lie until they are read.
    spool_room: SpoolRoom,
    /// WebAssembly modules that jobs may name.
    modules: ModuleStore,
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
    /// A client of the master at one of these addresses, which count where the middleware calls the master directly. `wait` is how long
    /// a job waits for a master and for workers.
    #[must_use]
    pub fn new(transport: SharedTransport, masters: impl Into<MasterAddresses>, wait: Duration) -> Self {
        Self {
            transport,
            masters: masters.into(),
            wait,
            on_progress: None,
            spool_room: SpoolRoom::new(std::env::temp_dir()),
            modules: ModuleStore::default(),
            open: Arc::default(),
        }
    }

    /// Calls `on_progress` whenever the master tells how far a job is.
    #[must_use]
    pub fn with_progress(mut self, on_progress: OnProgress) -> Self {
        self.on_progress = Some(on_progress);
        self
    }

    /// The WebAssembly modules that jobs of this client and its clones may name. The master is sent those that it does not have.
    #[must_use]
    pub fn modules(&self) -> &ModuleStore {
        &self.modules
    }

    /// Computes a frame.
    ///
    /// # Errors
    /// Fails if the job fails, or no master answers within the time to wait.
    pub async fn submit(&self, operations: &[Operation]) -> Result<JobResult, Failure> {
        self.submit_as(None, operations).await.1
    }

    /// Computes a frame whose rows are read one batch after the other. They need not fit in memory: many of them are in a file
    /// without a name in the system's temporary folder.
    ///
    /// # Errors
    /// Fails as [`ClusterClient::submit`] does.
    pub async fn submit_for_rows(&self, operations: &[Operation]) -> Result<JobRows, Failure> {
        self.rows_as(new_job(), operations).await
    }

    /// Computes a frame under an id of the caller's, or under a new one, which it gives back. A master that has finished
    /// a job of this id gives its result again.
    pub async fn submit_as(
        &self,
        job: Option<String>,
        operations: &[Operation],
    ) -> (String, Result<JobResult, Failure>) {
        let job = job.unwrap_or_else(new_job);
        let rows = self.rows_as(job.clone(), operations).await;
        (job, rows.and_then(in_memory))
    }

    async fn rows_as(&self, job: String, operations: &[Operation]) -> Result<JobRows, Failure> {
        self.open_jobs().insert(job.clone());
        let rows = self.send_job(&self.submission(job.clone(), operations, false)).await;
        self.open_jobs().remove(&job);
        rows
    }

    /// Gives up the jobs of this client and its clones that have not ended. For a program that is asked to end.
    pub async fn cancel_open(&self) {
        let jobs = std::mem::take(&mut *self.open_jobs());
        for job in jobs {
            let (_, master) = self.masters.current();
            if let Err(error) = ask(&self.transport, &master, &Request::Cancel { job }, GOODBYE).await {
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
        let result = in_memory(self.send_job(&self.submission(new_job(), operations, true)).await?)?;
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
        Ok(self.send_job(&Request::Probe { job: new_job(), tasks }).await?.into_finished())
    }

    /// Asks about the workers, or changes them. Returns the workers afterwards.
    ///
    /// # Errors
    /// Fails if the master refuses or does not answer.
    pub async fn nodes(&self, command: NodesCommand) -> Result<Vec<WorkerStatus>, Failure> {
        let request = Request::Nodes(command);
        let mut cause = String::new();
        for _ in 0..self.masters.count() {
            let (place, master) = self.masters.current();
            match ask(&self.transport, &master, &request, ANSWER).await {
                Ok((Reply::Nodes { workers }, _)) => return Ok(workers),
                Ok((other, _)) => return Err(broken(&format!("the master answered {other:?}"))),
                Err(AskError::Failed(failure)) => return Err(failure),
                Err(error) => cause = error.to_string(),
            }
            self.masters.leave(place);
        }
        Err(unreachable(&self.masters, &cause))
    }

    fn submission(&self, job: String, operations: &[Operation], explain: bool) -> Request {
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        Request::Submit { job, operations: operations.to_vec(), wait_ms, explain }
    }

    /// Calls `on_change` with the workers at once and after each change, which the master pushes. Goes on with the other master of a
    /// pair when that one has taken over. Returns why it cannot go on.
    pub async fn watch(&self, mut on_change: impl FnMut(&[WorkerStatus])) -> Failure {
        let packet = packet::encode(&Request::Watch, &[]);
        let mut conversation = Conversation::new(&self.transport, &self.masters, self.wait);
        loop {
            let Err(interrupted) = self.watch_one(&packet, &mut conversation, &mut on_change).await;
            match interrupted {
                Interrupted::Failed(failure) => return failure,
                Interrupted::Lost(cause) => match conversation.lost(&cause).await {
                    Ok(()) => {}
                    Err(failure) => return failure,
                },
            }
        }
    }

    /// Watches for as long as one master answers.
    async fn watch_one(
        &self,
        packet: &Bytes,
        conversation: &mut Conversation<'_>,
        on_change: &mut impl FnMut(&[WorkerStatus]),
    ) -> Result<Infallible, Interrupted> {
        let mut pieces = conversation.open(packet).await?;
        loop {
            match conversation.next(&mut pieces).await? {
                (Reply::Nodes { workers }, _) => on_change(&workers),
                (Reply::Leads(_), _) => {}
                (Reply::Failed(failure), _) => return Err(Interrupted::Failed(failure)),
                (other, _) => return Err(nonsense(&other)),
            }
        }
    }

    /// Sends a job under one id until it has ended, although the master or workers may be killed meanwhile.
    async fn send_job(&self, request: &Request) -> Result<JobRows, Failure> {
        let packet = packet::encode(request, &[]);
        let mut conversation = Conversation::new(&self.transport, &self.masters, self.wait);
        loop {
            match self.attempt(request, &packet, &mut conversation).await {
                Ok(result) => return Ok(result),
                Err(Interrupted::Failed(failure)) => return Err(failure),
                Err(Interrupted::Lost(cause)) => conversation.lost(&cause).await?,
            }
        }
    }

    /// One attempt at a job: the modules that it names, and then the job. A master that comes back has no modules, and is sent them again.
    async fn attempt(
        &self,
        request: &Request,
        packet: &Bytes,
        conversation: &mut Conversation<'_>,
    ) -> Result<JobRows, Interrupted> {
        let named = match request {
            Request::Submit { operations, .. } => operation::modules(operations),
            _ => BTreeSet::new(),
        };
        // One that is not here may have been sent by another client.
        let own: Vec<_> = named.iter().filter_map(|hash| self.modules.get(hash)).collect();
        for module in &own {
            self.send_module(module.hash(), module.bytes(), conversation).await?;
        }
        match self.receive(packet, conversation).await {
            // A broker has handed the job to another master meanwhile, which did not have the modules.
            Err(Interrupted::Failed(failure))
                if failure.code == FailureCode::NoModule && own.len() == named.len() =>
            {
                Err(Interrupted::Lost(failure.message))
            }
            received => received,
        }
    }

    /// Sends what the master does not have of a module.
    async fn send_module(
        &self,
        hash: &str,
        bytes: &Bytes,
        conversation: &mut Conversation<'_>,
    ) -> Result<(), Interrupted> {
        let max_bytes = self.transport.capabilities().max_bytes - HEADER_BYTES;
        let (mut held, mut piece) = (0, Bytes::new());
        loop {
            let (module, length) = (hash.to_owned(), bytes.len() as u64);
            let request = Request::Module { module, bytes: length, from: held as u64 };
            let mut pieces = conversation.open(&packet::encode(&request, &piece)).await?;
            held = match conversation.next(&mut pieces).await? {
                (Reply::Module { held }, _) => usize::try_from(held).unwrap_or(usize::MAX),
                (Reply::Failed(failure), _) => return Err(Interrupted::Failed(failure)),
                (other, _) => return Err(nonsense(&other)),
            };
            if held >= bytes.len() {
                return Ok(());
            }
            piece = bytes.slice(held..bytes.len().min(held + max_bytes));
        }
    }

    async fn receive(
        &self,
        packet: &Bytes,
        conversation: &mut Conversation<'_>,
    ) -> Result<JobRows, Interrupted> {
        let mut pieces = conversation.open(packet).await?;
        let (mut spool, mut next) = (Spool::new(&self.spool_room), 0);
        loop {
            let (reply, body) = conversation.next(&mut pieces).await?;
            match reply {
                Reply::Progress(progress) => {
                    if let Some(on_progress) = &self.on_progress {
                        on_progress(&progress);
                    }
                }
                Reply::Result { piece, .. } if piece == next => {
                    next += 1;
                    spool.push(None, body).map_err(|error| Interrupted::Failed(unkeepable(&error)))?;
                }
                Reply::Result { .. } => {
                    return Err(Interrupted::Lost("a piece of the result is missing".to_owned()));
                }
                Reply::Finished(finished) if finished.pieces == next => {
                    return JobRows::open(spool, finished)
                        .map_err(|error| Interrupted::Failed(Failure::from(error)));
                }
                Reply::Finished(_) => return Err(Interrupted::Lost("the result is not complete".to_owned())),
                Reply::Failed(failure) => return Err(Interrupted::Failed(failure)),
                other => return Err(nonsense(&other)),
            }
        }
    }
}

fn nonsense(reply: &Reply) -> Interrupted {
    Interrupted::Failed(broken(&format!("the master answered {reply:?}")))
}

fn in_memory(rows: JobRows) -> Result<JobResult, Failure> {
    let (frame, finished) = rows.into_frame()?;
    Ok(JobResult { frame, finished })
}

fn unkeepable(error: &std::io::Error) -> Failure {
    let message = format!(
        "the result cannot be kept until it is read: {error}. Look at the room in {}, or set TMPDIR to another folder.",
        std::env::temp_dir().display()
    );
    Failure { code: FailureCode::Resources, message, worker: None }
}

fn new_job() -> String {
    service::new_ulid(rand::random()).to_string()
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
