//! One job: planned, run in tasks, put together, stored. A job whose types turn out too narrow is planned again.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use bytes::Bytes;
use dataframe_engine::{DistributedPlan, FrameError, PlannedTask, TaskSizing, Widenings};
use dataframe_jobs::failure::Failure;
use dataframe_jobs::message::Finished;
use dataframe_jobs::operation::Operation;
use tokio::sync::mpsc;

use super::command::{Command, JobOrder, Places};
use super::context::MasterContext;
use super::inspector::ClusterInspector;
use super::rounds::{JobRounds, internal};
use super::stages::{JobStages, unstorable};

/// How long empty tasks wait for a worker.
const PROBE_WAIT: Duration = Duration::from_secs(10);

/// Brings a job to its end, and tells the coordinator.
pub(super) async fn drive(
    context: Arc<MasterContext>,
    commands: mpsc::UnboundedSender<Command>,
    order: JobOrder,
) {
    let begun = Instant::now();
    let job = order.job().to_owned();
    let rounds = JobRounds { context: Arc::clone(&context), commands: commands.clone(), job: job.clone() };
    let run = JobRun { rounds };
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

struct JobRun {
    rounds: JobRounds,
}

impl JobRun {
    async fn compute(
        &self,
        operations: &[Operation],
        wait: Duration,
        explain: bool,
    ) -> Result<(u64, Places), Failure> {
        let mut widenings = Widenings::default();
        loop {
            let (slots, round) = self.rounds.outlook().await?;
            let plan =
                plan(&self.rounds.context, &self.rounds.commands, operations, &widenings, slots).await?;
            let stages = JobStages { rounds: &self.rounds, wait, explain };
            match stages.run(plan, round).await.map_err(FrameError::from) {
                Ok(done) => return Ok(done),
                Err(FrameError::Widen(widening)) => {
                    tracing::info!(
                        job = self.rounds.job,
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

    async fn probe(&self, tasks: u32) -> Result<Places, Failure> {
        let (_, round) = self.rounds.outlook().await?;
        let empty = PlannedTask {
            plan: Bytes::new(),
            files: Vec::new(),
            worker: None,
            modules: Vec::new(),
            schema: Arc::new(Schema::empty()),
            partitions: 0,
        };
        let tasks: Arc<[PlannedTask]> = vec![empty; tasks as usize].into();
        self.rounds.run_tasks(tasks, round, PROBE_WAIT, Vec::new(), &AtomicUsize::new(0)).await
    }
}

/// Plans operations for a cluster that runs `slots` tasks at a time.
pub(super) async fn plan(
    context: &Arc<MasterContext>,
    commands: &mpsc::UnboundedSender<Command>,
    operations: &[Operation],
    widenings: &Widenings,
    slots: usize,
) -> Result<DistributedPlan, Failure> {
    let inspector = ClusterInspector::new(Arc::clone(context), commands.clone());
    let (engine, operations, widenings) = (context.engine.clone(), operations.to_vec(), widenings.clone());
    let planned = context.threads.spawn(async move {
        // A cluster whose workers have not come yet is planned for as if it had a few.
        engine.plan(&operations, &inspector, &widenings, TaskSizing { slots: slots.max(2) }).await
    });
    planned.await.map_err(|error| internal(&error.to_string()))?.map_err(Failure::from)
}
