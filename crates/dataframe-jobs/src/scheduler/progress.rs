//! Tasks begin, go on, end and get lost; jobs begin.

use std::sync::Arc;
use std::time::Duration;

use super::event::{LossCause, SchedulerAction, TaskSpec};
use super::job::ScheduledJob;
use super::members::{AttemptKey, TaskKey};
use super::state::{Loss, SchedulerState};
use super::words::{self, refused};
use crate::failure::{Failure, FailureCode};
use crate::message::TaskId;

impl SchedulerState {
    pub(super) fn plan(&mut self, name: &str, round: u32, tasks: Vec<TaskSpec>, wait: Duration) {
        let known = self
            .jobs
            .get(name)
            .map(|job| job.round)
            .or_else(|| self.ended.get(name).map(|ended| ended.round));
        let config = &self.config;
        let refusal = if let Some(missing) = self.missing_wasm(&tasks) {
            Some(missing)
        } else if known.is_some_and(|known| round <= known) {
            Some(format!("round {round} of the job {name} is known already"))
        } else if tasks.len() > config.max_tasks {
            Some(format!(
                "the job {name} has {} tasks, and may have {}: make its partitions larger",
                tasks.len(),
                config.max_tasks
            ))
        } else if self.jobs.len() >= config.max_jobs && !self.jobs.contains_key(name) {
            Some(format!(
                "{} jobs are running: send the job {name} again when one of them has ended",
                config.max_jobs
            ))
        } else {
            None
        };
        if let Some(message) = refusal {
            let job = name.to_owned();
            self.actions.push(SchedulerAction::JobRefused { job, round, failure: refused(message) });
            return;
        }
        let job: Arc<str> = name.into();
        let failure = Failure {
            code: FailureCode::Cancelled,
            message: "the job is planned again".to_owned(),
            worker: None,
        };
        self.fail_job(&job, failure);
        // The job runs now, and is not one that has ended.
        if self.ended.remove(&job).is_some() {
            self.ended_order.retain(|other| *other != job);
        }
        self.jobs.insert(Arc::clone(&job), ScheduledJob::new(round, tasks, wait));
        self.turns.push_back(Arc::clone(&job));
        self.end_if_done(&job);
    }

    /// Why nobody can run tasks that call WebAssembly modules. Where there is no worker at all, one may still come.
    fn missing_wasm(&self, tasks: &[TaskSpec]) -> Option<String> {
        let mut wasm = tasks.iter().filter(|task| task.wasm).peekable();
        wasm.peek()?;
        if self.members.is_any_ready() && !self.members.is_any_wasm_ready() {
            return Some(words::no_wasm("no worker of the cluster runs them"));
        }
        let pinned = wasm.filter_map(|task| task.pinned.as_deref());
        let mut unable =
            pinned.filter(|worker| self.members.get(worker).is_some_and(|member| !member.info.wasm));
        unable.next().map(|worker| {
            words::no_wasm(&format!("the worker {worker}, which alone can read its files, does not run them"))
        })
    }

    fn end_if_done(&mut self, job: &Arc<str>) {
        if self.jobs.get(job).is_some_and(|job| job.done as usize == job.tasks.len())
            && let Some(ended) = self.end_job(job)
        {
            let (round, places) = (ended.round, ended.places());
            self.actions.push(SchedulerAction::JobDone { job: job.to_string(), round, places });
        }
    }

    pub(super) fn cancel(&mut self, job: &str) {
        let failure = Failure {
            code: FailureCode::Cancelled,
            message: "the job was cancelled".to_owned(),
            worker: None,
        };
        self.fail_job(&job.into(), failure);
    }

    fn see(&mut self, worker: &str) {
        let now = self.now;
        if let Some(member) = self.members.get_mut(worker) {
            member.last_seen = now;
        }
    }

    /// A worker has a task, as it says itself.
    pub(super) fn sign_of_life(&mut self, id: &TaskId, worker: &str) {
        self.see(worker);
        let stop = SchedulerAction::Stop { task: id.clone(), worker: worker.to_owned() };
        let Some(key) = self.find(id) else {
            self.actions.push(stop);
            self.remember_poison(id, worker);
            return;
        };
        let Some(live) = self.attempt(&key) else {
            // It was given up, and the stream of its reply with it. A broker may have delivered it again.
            self.suspect(&key, worker, true);
            self.actions.push(stop);
            return;
        };
        if live.holders.iter().any(|holder| holder.worker == worker) {
            self.note_begun(&key, worker);
            return;
        }
        let is_queued = live.queued_until.is_some();
        let job = &self.jobs[&key.job];
        let is_superfluous = is_queued && job.is_held_elsewhere(key.task, key.attempt);
        // A worker that was not chosen cannot have it.
        let is_sent_away = !self.config.shared_queue || self.members.is_removed(worker);
        if is_superfluous || is_sent_away {
            self.suspect(&key, worker, true);
            self.actions.push(stop);
            if is_queued {
                self.drop_queued(&key);
                self.note_loss(&key, Some(worker), LossCause::GivenBack);
                self.start_again(&key, Loss::At(Some(worker)), "a worker that was removed took it");
            }
            return;
        }
        self.note_begun(&key, worker);
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.dequeue(key.task);
        }
        if let Some(live) = self.attempt_mut(&key) {
            live.is_overdue = false;
        }
    }

    /// A broker has delivered a task again that is known to kill its workers.
    fn remember_poison(&mut self, id: &TaskId, worker: &str) {
        let now = self.now;
        if self.is_known_poison(&id.job, id.round, id.task)
            && let Some(member) = self.members.get_mut(worker)
        {
            let task = TaskKey { job: id.job.as_str().into(), round: id.round, task: id.task };
            member.suspected.retain(|(other, _)| *other != task);
            member.suspected.push((task, now));
        }
    }

    /// Somebody is at work on an attempt.
    pub(super) fn alive(&mut self, id: &TaskId) {
        let Some(key) = self.find(id) else { return };
        let holders =
            self.attempt(&key).map(|live| live.holders.iter().map(|holder| holder.worker.clone()).collect());
        let holders: Vec<_> = holders.unwrap_or_default();
        for worker in &holders {
            self.note_begun(&key, worker);
        }
        if let [worker] = &holders[..] {
            self.see(worker);
        }
    }

    pub(super) fn result(&mut self, id: &TaskId, worker: &str) {
        self.see(worker);
        let (task, by) = (id.clone(), worker.to_owned());
        let Some(key) = self.find(id) else {
            self.actions.push(SchedulerAction::DiscardResult { task, worker: by });
            return;
        };
        let began = self.attempt(&key).and_then(|live| {
            let holder = live.holders.iter().find(|holder| holder.worker == worker)?;
            Some(holder.begun.unwrap_or(live.sent))
        });
        let took = began.map(|began| self.now.saturating_sub(began));
        self.take_from(&key, worker);
        if let Some(member) = self.members.get_mut(worker) {
            member.finished += 1;
        }
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.note_result(key.task, worker, key.attempt, took);
        }
        self.actions.push(SchedulerAction::UseResult { task, worker: by });
        self.stop_attempts(&key.job, key.task);
        self.end_if_done(&key.job);
    }

    pub(super) fn failed(&mut self, id: &TaskId, worker: &str, mut failure: Failure) {
        self.see(worker);
        let Some(key) = self.find(id) else { return };
        match failure.code {
            FailureCode::Refused | FailureCode::Cancelled | FailureCode::NoWorkers => {
                let why = format!("the worker {worker} said: {failure}");
                if self.give_up(&key, worker).is_some() {
                    self.note_loss(&key, Some(worker), LossCause::GivenBack);
                    self.start_again(&key, Loss::At(Some(worker)), &why);
                }
            }
            _ => {
                failure.worker.get_or_insert_with(|| worker.to_owned());
                // The worker has ended this attempt by itself.
                self.take_from(&key, worker);
                self.fail_job(&key.job, failure);
            }
        }
    }

    /// Takes an attempt from a worker that does not go on with it, though nobody may have known that the worker had it. `None` if
    /// this changes nothing.
    fn give_up(&mut self, key: &AttemptKey, worker: &str) -> Option<bool> {
        if let Some(begun) = self.take_from(key, worker) {
            return Some(begun);
        }
        let is_queued = self.attempt(key).is_some_and(|live| live.queued_until.is_some());
        is_queued.then(|| self.drop_queued(key))?;
        Some(false)
    }

    pub(super) fn lost(&mut self, id: &TaskId, worker: Option<&str>, why: &str) {
        let Some(key) = self.find(id) else { return };
        let Some(live) = self.attempt(&key) else { return };
        let workers: Vec<_> = match worker {
            Some(worker) => vec![worker.to_owned()],
            None => live.holders.iter().map(|holder| holder.worker.clone()).collect(),
        };
        let mut is_given_up = false;
        for worker in &workers {
            if let Some(begun) = self.give_up(&key, worker) {
                is_given_up = true;
                self.suspect(&key, worker, begun);
                self.note_loss(&key, Some(worker), LossCause::ReplyBroken);
                self.actions.push(SchedulerAction::Stop { task: id.clone(), worker: worker.clone() });
            }
        }
        if workers.is_empty() {
            self.drop_queued(&key);
            self.note_loss(&key, None, LossCause::ReplyBroken);
            is_given_up = true;
        }
        if is_given_up {
            self.start_again(&key, Loss::At(workers.last().map(String::as_str)), why);
        }
    }

    /// The process that a worker had started for an attempt died. A task of which that is said often enough kills whoever runs it.
    pub(super) fn died(&mut self, id: &TaskId, worker: &str, why: &str) {
        self.see(worker);
        let Some(key) = self.find(id) else { return };
        let Some(begun) = self.give_up(&key, worker) else { return };
        self.note_loss(&key, Some(worker), LossCause::ProcessDied);
        let task = TaskKey { job: Arc::clone(&key.job), round: id.round, task: key.task };
        if !begun || !self.note_death(&task, &format!("{worker} (a process of it)")) {
            self.start_again(&key, Loss::At(Some(worker)), why);
        }
    }

    /// Remembers that a worker has begun a task that is taken from it. The worker may be about to be found dead.
    pub(super) fn suspect(&mut self, key: &AttemptKey, worker: &str, begun: bool) {
        let (now, round) = (self.now, self.jobs.get(&key.job).map_or(0, |job| job.round));
        if begun && let Some(member) = self.members.get_mut(worker) {
            let task = TaskKey { job: Arc::clone(&key.job), round, task: key.task };
            let is_new = member.suspected.iter().all(|(other, _)| *other != task);
            member.suspected.retain(|(other, _)| *other != task);
            member.suspected.push((task, now));
            if is_new && let Some(task) = self.jobs.get_mut(&key.job).and_then(|job| job.task_mut(key.task)) {
                task.doubts += 1;
            }
        }
    }
}
