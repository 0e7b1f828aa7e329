//! Where jobs are ordered: by the requests of clients, and by the services that the master's program offers besides.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use dataframe_engine::Widenings;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, WorkerStatus};
use dataframe_jobs::operation::{self, Operation};
use tokio::sync::{SemaphorePermit, mpsc, oneshot, watch};
use ulid::Ulid;

use super::command::{Command, JobOrder, JobStatus};
use super::context::MasterContext;
use super::job;

/// Clients that wait for a job at a time.
pub(crate) const MAX_WAITING_CLIENTS: usize = 256;

/// The way to a master's coordinator, and to what its parts share.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) context: Arc<MasterContext>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

/// A job that somebody wants.
pub(super) enum WantedJob<'a> {
    /// Its rows are stored already.
    Stored(Finished),
    /// It runs, or it has failed.
    Begun {
        /// How it goes on.
        status: watch::Receiver<JobStatus>,
        /// The place of one who waits.
        place: SemaphorePermit<'a>,
    },
}

impl Desk {
    /// The way to one master.
    pub(super) fn new(context: Arc<MasterContext>, commands: mpsc::UnboundedSender<Command>) -> Desk {
        Desk { context, commands }
    }

    /// Asks the coordinator.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(command(answer));
        answered.await.map_err(|_| refused("the master ends"))
    }

    /// Finds the stored result of a job, or begins the job, unless it runs already.
    pub(super) async fn begin(&self, order: JobOrder) -> Result<WantedJob<'_>, Failure> {
        let job = order.job();
        if job.parse::<Ulid>().is_err() {
            // The id becomes the name of a file.
            return Err(refused(&format!(
                "{job:?} is no ULID: make the id of a job as https://github.com/ulid/spec tells"
            )));
        }
        if let JobOrder::Compute { operations, .. } = &order {
            check(operations)?;
            self.check_modules(operations)?;
        }
        if let Some((finished, _)) = self.context.results.find(job) {
            return Ok(WantedJob::Stored(finished));
        }
        let place = self.place()?;
        let status = self.ask(|answer| Command::Submit(order, answer)).await?;
        Ok(WantedJob::Begun { status, place })
    }

    /// Waits until a job has ended well: then its rows are stored.
    pub(crate) async fn complete(&self, order: JobOrder) -> Result<Finished, Failure> {
        let (mut status, _place) = match self.begin(order).await? {
            WantedJob::Stored(finished) => return Ok(finished),
            WantedJob::Begun { status, place } => (status, place),
        };
        loop {
            let now = status.borrow_and_update().clone();
            match now {
                JobStatus::Running(_) => {}
                JobStatus::Done(finished) => return Ok(finished),
                JobStatus::Failed(failure) => return Err(failure),
            }
            status.changed().await.map_err(|_| refused("the master ends"))?;
        }
    }

    /// Tells how a job is, which begins now unless it runs already: at once, or when it is no longer as it was `seen`, in tasks done and
    /// all tasks, or after a time at the latest.
    pub(crate) async fn news(
        &self,
        order: JobOrder,
        seen: Option<(u32, u32)>,
        longest: Duration,
    ) -> Result<JobStatus, Failure> {
        let (mut status, _place) = match self.begin(order).await? {
            WantedJob::Stored(finished) => return Ok(JobStatus::Done(finished)),
            WantedJob::Begun { status, place } => (status, place),
        };
        let is_news = |now: &JobStatus| match now {
            JobStatus::Running(progress) => seen != Some((progress.done, progress.total)),
            JobStatus::Done(_) | JobStatus::Failed(_) => true,
        };
        let told = match tokio::time::timeout(longest, status.wait_for(is_news)).await {
            Ok(news) => Some(news.map_err(|_| refused("the master ends"))?.clone()),
            Err(_late) => None,
        };
        Ok(told.unwrap_or_else(|| status.borrow().clone()))
    }

    /// The schema that a list of operations has before it is run. A value that does not fit may still widen a type.
    pub(crate) async fn schema(&self, operations: &[Operation]) -> Result<SchemaRef, Failure> {
        check(operations)?;
        let _place = self.place()?;
        let plan = job::plan(&self.context, &self.commands, operations, &Widenings::default(), 0).await?;
        Ok(plan.schema())
    }

    /// The workers.
    pub(crate) async fn workers(&self) -> Result<Vec<WorkerStatus>, Failure> {
        self.ask(Command::Nodes).await
    }

    /// Gives a job up. Nothing happens if it has ended.
    pub(crate) fn cancel(&self, job: &str) {
        // The coordinator is gone only when the master ends.
        let _ = self.commands.send(Command::Cancel(job.to_owned()));
    }

    /// A job without its modules does not begin, because its end would be remembered under its id. A broker may hand a new master the job
    /// alone, which its client had sent to another one.
    fn check_modules(&self, operations: &[Operation]) -> Result<(), Failure> {
        let kept = self.context.engine.modules();
        let missing = operation::modules(operations).into_iter().find(|hash| kept.get(hash).is_none());
        let Some(missing) = missing else { return Ok(()) };
        let message = format!("apply: the module {missing} is not here; give its file with --wasm");
        Err(Failure { code: FailureCode::NoModule, message, worker: None })
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.context.waiting_clients.try_acquire().map_err(|_| {
            refused(&format!(
                "{MAX_WAITING_CLIENTS} clients wait for jobs of this master already: send the job again later"
            ))
        })
    }
}

fn check(operations: &[Operation]) -> Result<(), Failure> {
    let bad = |error: operation::BadOperations| Failure {
        code: FailureCode::BadJob,
        message: error.to_string(),
        worker: None,
    };
    operation::check(operations).map_err(bad)
}

/// A request that this master does not take.
pub(super) fn refused(message: &str) -> Failure {
    Failure { code: FailureCode::Refused, message: message.to_owned(), worker: None }
}
