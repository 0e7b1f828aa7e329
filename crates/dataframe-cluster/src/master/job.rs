//! One job: planned, run in tasks, put together, stored. A job whose types turn out too narrow is planned again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use dataframe_engine::{
    DistributedPlan, FrameError, PlannedTask, SendableRecordBatchStream, TaskSizing, Widenings,
};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::Finished;
use dataframe_jobs::operation::Operation;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

use super::call::TaskOutput;
use super::command::{Command, JobOrder, Places, PlannedRound};
use super::context::MasterContext;
use super::inspector::ClusterInspector;
use super::task_stream::task_stream;

/// Brings a job to its end, and tells the coordinator.
pub(super) async fn drive(
    context: Arc<MasterContext>,
    commands: mpsc::UnboundedSender<Command>,
    order: JobOrder,
) {
    let begun = Instant::now();
    let job = order.job().to_owned();
    let run = JobRun { context: &context, commands: &commands, job: &job };
    let outcome = match &order {
        JobOrder::Compute { operations, wait, explain, .. } => run.compute(operations, *wait, *explain).await,
        JobOrder::Probe { tasks, .. } => run.probe(*tasks).await.map(|places| (0, places)),
    };
    let outcome = outcome.and_then(|(rows, places)| {
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let finished = Finished { rows, pieces: 0, micros, worker: String::new(), places };
        if matches!(order, JobOrder::Compute { .. }) {
            context.results.commit(&job, &finished).map_err(|error| unstorable(&error))?;
        }
        Ok(finished)
    });
    match &outcome {
        Ok(finished) => tracing::info!(job, rows = finished.rows, micros = finished.micros, "job done"),
        Err(failure) => {
            context.results.discard(&job);
            tracing::warn!(job, %failure, "job failed");
        }
    }
    // The coordinator is gone only when the master ends.
    let _ = commands.send(Command::Ended { job, outcome });
}

struct JobRun<'a> {
    context: &'a Arc<MasterContext>,
    commands: &'a mpsc::UnboundedSender<Command>,
    job: &'a str,
}

impl JobRun<'_> {
    async fn compute(
        &self,
        operations: &[Operation],
        wait: Duration,
        explain: bool,
    ) -> Result<(u64, Places), Failure> {
        let mut widenings = Widenings::default();
        loop {
            let (slots, round) = self.outlook().await?;
            let plan = self.plan(operations, &widenings, slots).await?;
            match self.run(plan, round, wait, explain).await.map_err(FrameError::from) {
                Ok(done) => return Ok(done),
                Err(FrameError::Widen(widening)) => {
                    tracing::info!(
                        job = self.job,
                        ?widening,
                        "a value does not fit the type of its column: planning again"
                    );
                    if !widenings.add(widening) {
                        return Err(internal("a value does not fit the type that the column was widened to"));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn outlook(&self) -> Result<(usize, u32), Failure> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Outlook { job: self.job.to_owned(), answer });
        answered.await.map_err(|_| internal("the master ends"))
    }

    async fn plan(
        &self,
        operations: &[Operation],
        widenings: &Widenings,
        slots: usize,
    ) -> Result<DistributedPlan, Failure> {
        let inspector = ClusterInspector::new(Arc::clone(self.context), self.commands.clone());
        let (engine, operations, widenings) =
            (self.context.engine.clone(), operations.to_vec(), widenings.clone());
        let planned = self.context.threads.spawn(async move {
            // A cluster whose workers have not come yet is planned for as if it had a few.
            engine.plan(&operations, &inspector, &widenings, TaskSizing { slots: slots.max(2) }).await
        });
        planned.await.map_err(|error| internal(&error.to_string()))?.map_err(Failure::from)
    }

    /// Runs the tasks, and the final stage while their results come.
    async fn run(
        &self,
        plan: DistributedPlan,
        round: u32,
        wait: Duration,
        explain: bool,
    ) -> Result<(u64, Places), Failure> {
        let tasks: Arc<[PlannedTask]> = plan.tasks().into();
        let text = explain.then(|| plan.explain());
        let (outputs, streams) = tasks.iter().map(|task| task_stream(task.schema.clone())).unzip();
        let (context, job) = (Arc::clone(self.context), self.job.to_owned());
        let stored = self.context.threads.spawn(async move {
            let rows = plan.finish(streams).await.map_err(Failure::from)?;
            store(&context, &job, rows, text).await
        });
        let (count, delivered) = (tasks.len(), AtomicUsize::new(0));
        let places = self.run_tasks(tasks, round, wait, outputs, &delivered);
        tokio::pin!(places);
        let mut stored = stored;
        tokio::select! {
            places = &mut places => {
                let places = places?;
                let rows = stored.await.map_err(|error| internal(&error.to_string()))??;
                Ok((rows, places))
            }
            rows = &mut stored => {
                let rows = rows.map_err(|error| internal(&error.to_string()))??;
                // A final stage that has enough rows, such as `head`, does not wait for the other tasks.
                let complete = delivered.load(Ordering::Relaxed) == count;
                Ok((rows, if complete { places.await? } else { Vec::new() }))
            }
        }
    }

    async fn run_tasks(
        &self,
        tasks: Arc<[PlannedTask]>,
        round: u32,
        wait: Duration,
        outputs: Vec<oneshot::Sender<TaskOutput>>,
        delivered: &AtomicUsize,
    ) -> Result<Places, Failure> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let (results, mut received) = mpsc::unbounded_channel();
        let (ended, mut end) = oneshot::channel();
        let planned = PlannedRound { job: self.job.to_owned(), round, tasks, wait, results, ended };
        let _ = self.commands.send(Command::Planned(planned));
        let mut outputs: Vec<_> = outputs.into_iter().map(Some).collect();
        loop {
            tokio::select! {
                biased;
                Some((task, output)) = received.recv() => {
                    delivered.fetch_add(1, Ordering::Relaxed);
                    if let Some(place) = outputs.get_mut(task as usize).and_then(Option::take) {
                        // The final stage may need no further results.
                        let _ = place.send(output);
                    }
                }
                outcome = &mut end => return outcome.map_err(|_| internal("the master ends"))?,
            }
        }
    }

    async fn probe(&self, tasks: u32) -> Result<Places, Failure> {
        let (_, round) = self.outlook().await?;
        let empty = PlannedTask {
            plan: Bytes::new(),
            files: Vec::new(),
            worker: None,
            schema: Arc::new(Schema::empty()),
        };
        let tasks: Arc<[PlannedTask]> = vec![empty; tasks as usize].into();
        self.run_tasks(tasks, round, super::requests::PROBE_WAIT, Vec::new(), &AtomicUsize::new(0)).await
    }
}

/// Stores the rows, or the text in their place.
async fn store(
    context: &MasterContext,
    job: &str,
    mut rows: SendableRecordBatchStream,
    text: Option<String>,
) -> Result<u64, Failure> {
    let broken = |error: arrow::error::ArrowError| unstorable(&error);
    let explained = text.map(|text| explained(&text));
    let schema = explained.as_ref().map_or_else(|| rows.schema(), RecordBatch::schema);
    let mut writer = context.results.create(job, &schema).map_err(broken)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| Failure::from(context.engine.explain_error(&error, &[])))?;
        if explained.is_none() {
            writer.push(&batch).map_err(broken)?;
        }
    }
    if let Some(batch) = explained {
        writer.push(&batch).map_err(broken)?;
    }
    writer.finish().map_err(broken)
}

fn explained(text: &str) -> RecordBatch {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("plan", DataType::Utf8, false)]));
    let lines: ArrayRef = Arc::new(StringArray::from(text.lines().collect::<Vec<_>>()));
    RecordBatch::try_new(schema, vec![lines]).expect("one column of the schema's type")
}

fn unstorable(error: &dyn std::fmt::Display) -> Failure {
    let message = format!("the master cannot store the result: {error}. Look at the room in its --data-dir.");
    Failure { code: FailureCode::Resources, message, worker: None }
}

fn internal(message: &str) -> Failure {
    Failure { code: FailureCode::Internal, message: message.to_owned(), worker: None }
}
