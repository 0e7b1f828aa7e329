//! What happens when time passes.

use std::sync::Arc;
use std::time::Duration;

use super::event::{GoneCause, LossCause, SchedulerAction, TaskSpec};
use super::members::{AttemptKey, ClusterMember};
use super::state::{Loss, SchedulerState};
use super::words;
use crate::message::WorkerState;

impl SchedulerState {
    /// Does what is due, and finds out when the next thing is.
    pub(super) fn pass_time(&mut self) {
        if self.wake.is_none_or(|wake| wake > self.now) {
            return;
        }
        self.wake = None;
        self.lose_silent_workers();
        self.end_leases();
        self.end_pauses();
    }

    fn lose_silent_workers(&mut self) {
        let (now, timeout) = (self.now, self.config.worker_timeout);
        let mut silent = Vec::new();
        let mut next: Option<Duration> = None;
        for (name, member) in self.members.iter().filter(|(_, member)| member.state != WorkerState::Lost) {
            let deadline = member.last_seen.saturating_add(timeout);
            if deadline <= now {
                silent.push(name.clone());
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        if let Some(next) = next {
            self.wake_by(next);
        }
        for name in silent {
            self.lose(
                &name,
                GoneCause::Silent,
                &format!("it has been silent for {} s", timeout.as_secs_f64()),
            );
        }
    }

    fn end_leases(&mut self) {
        let now = self.now;
        let mut ended = Vec::new();
        let mut next: Option<Duration> = None;
        for (name, job) in &self.jobs {
            for ((task, attempt), live) in job.attempts.iter().filter(|(_, live)| !live.is_overdue) {
                let key = || AttemptKey { job: Arc::clone(name), task: *task, attempt: *attempt };
                for (deadline, worker) in deadlines(live) {
                    if deadline <= now {
                        ended.push((key(), worker));
                    } else {
                        next = Some(next.map_or(deadline, |next| next.min(deadline)));
                    }
                }
            }
        }
        if let Some(next) = next {
            self.wake_by(next);
        }
        for (key, worker) in ended {
            match worker {
                Some(worker) => self.end_lease(&key, &worker),
                None => self.end_queueing(&key),
            }
        }
    }

    /// An attempt that a worker has shows no sign of life.
    fn end_lease(&mut self, key: &AttemptKey, worker: &str) {
        let Some(live) = self.attempt(key) else { return };
        let Some(holder) = live.holders.iter().find(|holder| holder.worker == worker) else { return };
        // Behind a broker it may stand in the worker's queue until the worker has a free slot.
        let waits_for_slot = self.config.shared_queue
            && holder.begun.is_none()
            && self.members.get(worker).is_some_and(ClusterMember::is_busy);
        let deadline = self.lease_end();
        if waits_for_slot {
            let live = self.attempt_mut(key);
            if let Some(holder) =
                live.and_then(|live| live.holders.iter_mut().find(|holder| holder.worker == worker))
            {
                holder.deadline = deadline;
            }
            return;
        }
        let task = self.id(key);
        let begun = self.take_from(key, worker).unwrap_or(false);
        self.suspect(key, worker, begun);
        self.note_loss(key, Some(worker), LossCause::LeaseEnded);
        self.actions.push(SchedulerAction::Stop { task, worker: worker.to_owned() });
        let why = format!("the worker {worker} gave no sign of life within the lease");
        self.start_again(key, Loss::At(Some(worker)), &why);
    }

    /// An attempt stands in the shared queue and nobody takes it.
    fn end_queueing(&mut self, key: &AttemptKey) {
        let is_any_free = self.members.iter().any(|(_, member)| member.free() > 0);
        let deadline = self.lease_end();
        if let Some(live) = self.attempt_mut(key) {
            live.queued_until = Some(deadline);
            live.is_overdue = is_any_free;
            if is_any_free {
                self.note_loss(key, None, LossCause::NotTaken);
                self.start_again(
                    key,
                    Loss::WithWorker,
                    "nobody took it from the queue, although workers are free",
                );
            }
        }
    }

    fn end_pauses(&mut self) {
        let (now, max_deaths) = (self.now, self.config.max_deaths);
        let mut next: Option<Duration> = None;
        for job in self.jobs.values_mut() {
            while let Some((until, task)) = job.delayed.first().copied() {
                if until > now {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    break;
                }
                job.dequeue(task);
                job.enqueue(task, None, max_deaths);
            }
        }
        if let Some(next) = next {
            self.wake_by(next);
        }
    }

    /// Fails the jobs that no worker has been able to go on with for as long as they wait.
    pub(super) fn end_waits(&mut self) {
        let (is_any_ready, is_any_wasm_ready) =
            (self.members.is_any_ready(), self.members.is_any_wasm_ready());
        let mut failed = Vec::new();
        let mut next: Option<Duration> = None;
        for (name, job) in &mut self.jobs {
            let takes = |worker: &str, spec: &TaskSpec| {
                let member = self.members.get(worker);
                member.is_some_and(|member| member.state == WorkerState::Ready && member.fits(spec))
            };
            if job.can_go_on(takes, is_any_ready, is_any_wasm_ready) {
                job.stalled_since = None;
                continue;
            }
            let since = *job.stalled_since.get_or_insert(self.now);
            let deadline = since.saturating_add(job.wait);
            if deadline <= self.now {
                failed.push((Arc::clone(name), words::no_workers(job, job.wait)));
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        if let Some(next) = next {
            self.wake_by(next);
        }
        for (job, failure) in failed {
            self.fail_job(&job, failure);
        }
    }
}

/// When the leases of an attempt end, and which worker each is of; `None` for the shared queue.
fn deadlines(live: &super::job::LiveAttempt) -> impl Iterator<Item = (Duration, Option<String>)> {
    let queued = live.queued_until.map(|deadline| (deadline, None));
    queued.into_iter().chain(live.holders.iter().map(|holder| (holder.deadline, Some(holder.worker.clone()))))
}
