//! What the coordinator notes for those who look, and what it shows them.

use std::time::Duration;

use dataframe_jobs::message::TaskId;
use dataframe_jobs::scheduler::{AttemptLoss, GoneCause};

use super::super::snapshot::{ClusterSnapshot, JobView, SnapshotWanted, TaskBar, TaskOutcome, WorkerView};
use super::{Attempt, Coordinator};

/// Attempts that have not ended in one snapshot.
const OPEN_SHOWN: usize = 64;

impl Coordinator {
    /// Notes what became of an attempt, unless that is noted already.
    pub(super) fn note_end(&mut self, task: &TaskId, worker: &str, outcome: TaskOutcome) {
        let now = self.begun.elapsed();
        if let Some(attempt) = self.attempts.get_mut(task).filter(|attempt| !attempt.is_noted) {
            attempt.is_noted = true;
            self.ledger.task_ended(task, Some(worker), (attempt.start, now), outcome);
        }
    }

    /// Notes what was lost in the last step.
    pub(super) fn note_losses(&mut self, now: Duration) {
        for loss in self.scheduler.losses() {
            let attempt = self.attempts.get_mut(&loss.task);
            let start = attempt.map_or(now, |attempt| {
                attempt.is_noted = true;
                attempt.start
            });
            self.ledger.task_lost(loss, start, now);
        }
    }

    /// Notes that a worker is gone, with what was lost in the last step.
    pub(super) fn note_gone(&mut self, worker: &str, cause: GoneCause) {
        let is_of = |loss: &&AttemptLoss| loss.worker.as_deref() == Some(worker);
        let tasks = self.scheduler.losses().iter().filter(is_of).count() as u64;
        self.ledger.worker_gone(worker, cause, tasks, self.begun.elapsed());
    }

    /// Returns what the page and monitors see.
    pub(super) fn observe(&mut self, wanted: SnapshotWanted) -> ClusterSnapshot {
        let now = self.begun.elapsed();
        let workers = self.scheduler.nodes(now).into_iter().map(|status| {
            let record = self.ledger.worker(&status.info.name);
            WorkerView {
                number: record.map_or(0, |record| record.number),
                resident_bytes: record.and_then(|record| record.resident_bytes),
                cause: record.and_then(|record| record.cause),
                lost: record.map_or(0, |record| record.lost),
                lost_recently: record.map_or(0, |record| record.lost_recently(now)),
                status,
            }
        });
        let workers = workers.collect();
        let mut running: Vec<_> =
            self.ledger.running(now).map(|(job, view)| self.with_progress(job, view)).collect();
        running.sort_by_key(|job| job.number);
        let open_bar = |(task, attempt): (&TaskId, &Attempt)| {
            self.ledger.open_bar(task, attempt.worker.as_deref()?, attempt.start)
        };
        let mut open: Vec<TaskBar> = self.attempts.iter().filter_map(open_bar).collect();
        open.sort_by_key(|bar| std::cmp::Reverse(bar.start));
        open.truncate(OPEN_SHOWN);
        ClusterSnapshot {
            slots: self.scheduler.slots(),
            workers,
            running,
            open,
            commands_waiting: self.commands.len(),
            ..self.ledger.snapshot(wanted, now)
        }
    }

    fn with_progress(&self, job: &str, view: JobView) -> JobView {
        let Some(progress) = self.scheduler.progress(job) else { return view };
        JobView {
            is_waiting: progress.waiting_for.is_some(),
            tasks_running: progress.running,
            tasks_waiting: progress.total.saturating_sub(progress.done).saturating_sub(progress.running),
            ..view
        }
    }
}
