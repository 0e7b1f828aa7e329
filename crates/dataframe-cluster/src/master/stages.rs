//! The stages of a job: rounds of tasks whose results are shuffled, and the final stage.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use dataframe_engine::{
    DistributedPlan, HashExchange, PlannedExchange, PlannedTask, SendableRecordBatchStream,
};
use dataframe_jobs::failure::{Failure, FailureCode};
use datafusion::physical_plan::EmptyRecordBatchStream;
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::call::TaskOutput;
use super::command::Places;
use super::context::MasterContext;
use super::rounds::{JobRounds, internal};
use super::shuffles::{OwnShuffles, ShuffledResults, StageInput};
use super::task_stream::task_stream;
use crate::split::{SplitEncoder, StreamPiece};
use crate::spool::Spool;

/// Runs a plan, stage after stage.
pub(super) struct JobStages<'a> {
    pub(super) rounds: &'a JobRounds,
    /// How long the job waits for workers.
    pub(super) wait: Duration,
    /// Whether the plan is wanted in place of the rows.
    pub(super) explain: bool,
}

/// What stages have made so far.
#[derive(Default)]
struct StagesDone {
    /// The results of all tasks that have ended. Those that were shuffled are in `input`.
    results: Vec<Option<TaskOutput>>,
    schemas: Vec<SchemaRef>,
    /// What is shuffled and not read to its end yet.
    input: StageInput,
    places: Places,
}

impl JobStages<'_> {
    /// Runs the tasks, and the final stage while the results of the last ones come. Returns the number of rows and the places of the tasks.
    pub(super) async fn run(
        &self,
        mut plan: DistributedPlan,
        mut round: u32,
    ) -> Result<(u64, Places), Failure> {
        // Later stages have the same budget.
        let _stop = plan.stop_on_drop();
        let mut done = StagesDone::default();
        while !plan.exchanges().is_empty() {
            let (outputs, places) = self.run_stage(&plan, &done.input, round).await?;
            let first = u32::try_from(plan.earlier_tasks()).unwrap_or(u32::MAX);
            done.places
                .extend(places.into_iter().map(|(task, worker, attempt)| (first + task, worker, attempt)));
            done.schemas.extend(plan.tasks().iter().map(|task| task.schema.clone()));
            let is_split = outputs.iter().any(|output| output.pieces.is_split() == Some(true));
            done.results.extend(outputs.into_iter().map(Some));
            if !is_split {
                return self.finish(plan, done, None).await;
            }
            plan = self.shuffle(plan, &mut done).await?;
            round = self.rounds.outlook().await?.1;
        }
        self.finish(plan, done, Some(round)).await
    }

    /// Runs the tasks of a stage to their end.
    async fn run_stage(
        &self,
        plan: &DistributedPlan,
        input: &StageInput,
        round: u32,
    ) -> Result<(Vec<TaskOutput>, Places), Failure> {
        let tasks: Arc<[PlannedTask]> = plan.tasks().into();
        let (senders, receivers): (Vec<_>, Vec<_>) = tasks.iter().map(|_| oneshot::channel()).unzip();
        let _offer = self.rounds.context.shuffles.offer(&self.rounds.job, round, input);
        let places = self.rounds.run_tasks(tasks, round, self.wait, senders, &AtomicUsize::new(0)).await?;
        let mut outputs = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            outputs
                .push(receiver.await.map_err(|_| internal("a round has ended without one of its results"))?);
        }
        Ok((outputs, places))
    }

    /// Puts the results that go into exchanges together, in partitions, and plans the next stage.
    async fn shuffle(
        &self,
        plan: DistributedPlan,
        done: &mut StagesDone,
    ) -> Result<DistributedPlan, Failure> {
        let later = plan.later_shuffles()?;
        done.input.retain(|shuffle, _| later.contains(shuffle));
        let mut largest = Vec::new();
        for (shuffle, planned) in (plan.first_shuffle()..).zip(plan.exchanges()) {
            let results = self.in_partitions(planned, &mut done.results).await?;
            let shuffled = ShuffledResults::new(results, planned.exchange.partitions());
            let bytes = shuffled.bytes();
            largest.push(bytes.iter().copied().max().unwrap_or(0));
            tracing::info!(
                job = self.rounds.job,
                shuffle,
                tasks = planned.tasks.len(),
                partitions = bytes.len(),
                bytes = bytes.iter().sum::<u64>(),
                largest = largest.last(),
                on_disk = self.rounds.context.spool_room.on_disk(),
                "results are shuffled"
            );
            done.input.insert(shuffle, Arc::new(shuffled));
        }
        Ok(plan.next_stage(&largest)?)
    }

    /// Takes the results of the tasks below an exchange. Those that were too small to be split at the worker are split here.
    async fn in_partitions(
        &self,
        planned: &PlannedExchange,
        results: &mut [Option<TaskOutput>],
    ) -> Result<Vec<Spool>, Failure> {
        let mut spools = Vec::new();
        for result in results.get_mut(planned.tasks.clone()).unwrap_or_default() {
            let output = result.take().ok_or_else(|| internal("a result is shuffled twice"))?;
            if output.pieces.is_split() == Some(true) {
                spools.push(output.pieces);
                continue;
            }
            let (context, exchange) = (Arc::clone(&self.rounds.context), planned.exchange.clone());
            let split =
                self.rounds.context.threads.spawn(async move { split(&context, &exchange, output).await });
            spools.push(split.await.map_err(|error| internal(&error.to_string()))??);
        }
        Ok(spools)
    }

    /// Runs the final stage, and the tasks of `round`, where there are some, at the same time.
    async fn finish(
        &self,
        plan: DistributedPlan,
        done: StagesDone,
        round: Option<u32>,
    ) -> Result<(u64, Places), Failure> {
        let text = self.explain.then(|| plan.explain());
        let tasks: Arc<[PlannedTask]> = if round.is_some() { plan.tasks().into() } else { Arc::default() };
        let mut streams: Vec<_> = done
            .schemas
            .iter()
            .cloned()
            .zip(done.results)
            .map(|(schema, result)| known(schema, result))
            .collect();
        let (outputs, mut coming): (Vec<_>, Vec<_>) =
            tasks.iter().map(|task| task_stream(task.schema.clone())).unzip();
        streams.append(&mut coming);
        let (context, job) = (Arc::clone(&self.rounds.context), self.rounds.job.clone());
        let _offer = round.map(|round| context.shuffles.offer(&job, round, &done.input));
        let own = Arc::new(OwnShuffles(done.input));
        let first = u32::try_from(plan.earlier_tasks()).unwrap_or(u32::MAX);
        let mut stored = self.rounds.context.threads.spawn(async move {
            let rows = plan.finish_shuffled(streams, own).await.map_err(Failure::from)?;
            store(&context, &job, rows, text).await
        });
        let (count, delivered) = (tasks.len(), AtomicUsize::new(0));
        let places = self.rounds.run_tasks(tasks, round.unwrap_or(0), self.wait, outputs, &delivered);
        let all = |places: Places| {
            let last = places.into_iter().map(|(task, worker, attempt)| (first + task, worker, attempt));
            done.places.into_iter().chain(last).collect()
        };
        tokio::pin!(places);
        tokio::select! {
            places = &mut places => {
                let places = places?;
                let rows = stored.await.map_err(|error| internal(&error.to_string()))??;
                Ok((rows, all(places)))
            }
            rows = &mut stored => {
                let rows = rows.map_err(|error| internal(&error.to_string()))??;
                // A final stage that has enough rows, such as `head`, does not wait for the other tasks.
                let complete = delivered.load(Ordering::Relaxed) == count;
                Ok((rows, if complete { all(places.await?) } else { Vec::new() }))
            }
        }
    }
}

/// The rows of a result that is there. What was shuffled is read elsewhere.
fn known(schema: SchemaRef, result: Option<TaskOutput>) -> SendableRecordBatchStream {
    match result {
        Some(output) => {
            let (sender, rows) = task_stream(schema);
            // The receiver is in the stream beside it.
            let _ = sender.send(output);
            rows
        }
        None => Box::pin(EmptyRecordBatchStream::new(schema)),
    }
}

/// Splits a result that a worker has sent as one stream.
async fn split(
    context: &MasterContext,
    exchange: &HashExchange,
    output: TaskOutput,
) -> Result<Spool, Failure> {
    let mut spool = Spool::new(&context.spool_room);
    let mut keep = |pieces: Vec<StreamPiece>| -> Result<(), Failure> {
        for (stream, piece) in pieces {
            spool.push(stream, piece).map_err(|error| unstorable(&error))?;
        }
        Ok(())
    };
    let max_bytes = context.transport.capabilities().max_bytes - crate::worker::HEADER_BYTES;
    let mut encoder = SplitEncoder::new(exchange, max_bytes)?;
    let mut rows = known(exchange.schema().clone(), Some(output));
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| Failure::from(context.engine.explain_error(&error, &[])))?;
        keep(encoder.push(batch)?)?;
    }
    keep(encoder.finish()?)?;
    Ok(spool)
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

/// A disk of the master that is full, or another reason why a result cannot be kept.
pub(super) fn unstorable(error: &dyn std::fmt::Display) -> Failure {
    let message = format!("the master cannot store the result: {error}. Look at the room in its --data-dir.");
    Failure { code: FailureCode::Resources, message, worker: None }
}
