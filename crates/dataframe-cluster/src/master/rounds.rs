//! One round of tasks of a job: given to the coordinator, and waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dataframe_engine::PlannedTask;
use dataframe_jobs::failure::{Failure, FailureCode};
use tokio::sync::{mpsc, oneshot};

use super::call::TaskOutput;
use super::command::{Command, Places, PlannedRound};
use super::context::MasterContext;

/// A running job, which asks for one round of tasks after the other.
pub(super) struct JobRounds {
    pub(super) context: Arc<MasterContext>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) job: String,
}

impl JobRounds {
    /// How many tasks can run at a time, and the number of the next round.
    pub(super) async fn outlook(&self) -> Result<(usize, u32), Failure> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Outlook { job: self.job.clone(), answer });
        answered.await.map_err(|_| internal("the master ends"))
    }

    /// Runs tasks, and hands the result of each over at its place in `outputs`. `delivered` counts them.
    pub(super) async fn run_tasks(
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
        let planned = PlannedRound { job: self.job.clone(), round, tasks, wait, results, ended };
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
}

/// A bug.
pub(super) fn internal(message: &str) -> Failure {
    Failure { code: FailureCode::Internal, message: message.to_owned(), worker: None }
}
