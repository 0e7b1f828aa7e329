//! The state of the scheduler, and the steps of which its rules are made.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::config::SchedulerConfig;
use super::event::{AttemptLoss, LossCause, Recipient, SchedulerAction};
use super::job::{Holder, LiveAttempt, ScheduledJob};
use super::members::{AttemptKey, ClusterMembers, TaskKey};
use super::words;
use crate::failure::Failure;
use crate::message::TaskId;

/// The first pause before a task that was lost more than once is started again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct SchedulerState {
    pub config: SchedulerConfig,
    pub now: Duration,
    pub members: ClusterMembers,
    pub jobs: BTreeMap<Arc<str>, ScheduledJob>,
    /// The jobs in the order in which they get their next task.
    pub turns: VecDeque<Arc<str>>,
    /// Jobs that have ended, and the order in which they are forgotten.
    pub ended: BTreeMap<Arc<str>, EndedJob>,
    pub ended_order: VecDeque<Arc<str>>,
    /// No deadline is earlier than this.
    pub wake: Option<Duration>,
    pub actions: Vec<SchedulerAction>,
    /// What was lost in this step.
    pub losses: Vec<AttemptLoss>,
}

impl SchedulerState {
    pub(super) fn new(config: SchedulerConfig) -> Self {
        Self {
            config,
            now: Duration::ZERO,
            members: ClusterMembers::default(),
            jobs: BTreeMap::new(),
            turns: VecDeque::new(),
            ended: BTreeMap::new(),
            ended_order: VecDeque::new(),
            wake: None,
            actions: Vec::new(),
            losses: Vec::new(),
        }
    }

    pub(super) fn wake_by(&mut self, deadline: Duration) {
        self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
    }

    pub(super) fn lease_end(&mut self) -> Duration {
        let deadline = self.now.saturating_add(self.config.lease);
        self.wake_by(deadline);
        deadline
    }

    pub(super) fn id(&self, key: &AttemptKey) -> TaskId {
        let round = self.jobs.get(&key.job).map_or(0, |job| job.round);
        TaskId { job: key.job.to_string(), round, task: key.task, attempt: key.attempt }
    }

    /// The attempt that an id names, if its job runs in this round, and its task has had this attempt and has no result.
    pub(super) fn find(&self, id: &TaskId) -> Option<AttemptKey> {
        let (name, job) = self.jobs.get_key_value(id.job.as_str())?;
        let task = job.task(id.task)?;
        let is_open =
            job.round == id.round && task.result.is_none() && (1..=task.attempts).contains(&id.attempt);
        is_open.then(|| AttemptKey { job: Arc::clone(name), task: id.task, attempt: id.attempt })
    }

    pub(super) fn attempt(&self, key: &AttemptKey) -> Option<&LiveAttempt> {
        self.jobs.get(&key.job)?.attempts.get(&(key.task, key.attempt))
    }

    pub(super) fn attempt_mut(&mut self, key: &AttemptKey) -> Option<&mut LiveAttempt> {
        self.jobs.get_mut(&key.job)?.attempts.get_mut(&(key.task, key.attempt))
    }

    /// Starts an attempt at a task.
    pub(super) fn send(&mut self, job: &Arc<str>, task: u32, to: Recipient, is_second: bool) {
        let (now, deadline) = (self.now, self.lease_end());
        let Some(scheduled) = self.jobs.get_mut(job) else { return };
        scheduled.dequeue(task);
        let Some(state) = scheduled.task_mut(task) else { return };
        state.attempts += 1;
        state.seconds += u32::from(is_second);
        let key = AttemptKey { job: Arc::clone(job), task, attempt: state.attempts };
        let mut live =
            LiveAttempt { sent: now, holders: Vec::new(), queued_until: None, is_overdue: false, is_second };
        match &to {
            Recipient::Worker(worker) => {
                live.holders.push(Holder { worker: worker.clone(), begun: None, deadline });
                if let Some(member) = self.members.get_mut(worker) {
                    member.attempts.insert(key.clone(), false);
                }
            }
            Recipient::AnyWorker => live.queued_until = Some(deadline),
        }
        scheduled.attempts.insert((task, key.attempt), live);
        let task = self.id(&key);
        self.actions.push(SchedulerAction::Send { task, to });
    }

    /// Notes that a worker has begun an attempt, or is still at it.
    pub(super) fn note_begun(&mut self, key: &AttemptKey, worker: &str) {
        let (now, deadline) = (self.now, self.lease_end());
        let Some(live) = self.attempt_mut(key) else { return };
        live.queued_until = None;
        if let Some(holder) = live.holders.iter_mut().find(|holder| holder.worker == worker) {
            holder.begun.get_or_insert(now);
            holder.deadline = deadline;
        } else {
            live.holders.push(Holder { worker: worker.to_owned(), begun: Some(now), deadline });
        }
        if let Some(member) = self.members.get_mut(worker) {
            member.attempts.insert(key.clone(), true);
        }
    }

    /// Takes an attempt away from a worker. Tells whether the worker had begun it; `None` if it did not have it.
    pub(super) fn take_from(&mut self, key: &AttemptKey, worker: &str) -> Option<bool> {
        if let Some(member) = self.members.get_mut(worker) {
            member.attempts.remove(key);
        }
        let live = self.attempt_mut(key)?;
        let place = live.holders.iter().position(|holder| holder.worker == worker)?;
        let holder = live.holders.swap_remove(place);
        if live.is_lost()
            && let Some(job) = self.jobs.get_mut(&key.job)
        {
            job.attempts.remove(&(key.task, key.attempt));
        }
        Some(holder.begun.is_some())
    }

    /// Drops an attempt that stands in the shared queue or was lost there.
    pub(super) fn drop_queued(&mut self, key: &AttemptKey) {
        if let Some(live) = self.attempt_mut(key) {
            live.queued_until = None;
            if live.is_lost()
                && let Some(job) = self.jobs.get_mut(&key.job)
            {
                job.attempts.remove(&(key.task, key.attempt));
            }
        }
    }

    /// Notes that an attempt is given up that was at this worker, or in the shared queue.
    pub(super) fn note_loss(&mut self, key: &AttemptKey, worker: Option<&str>, cause: LossCause) {
        let loss = AttemptLoss { task: self.id(key), worker: worker.map(str::to_owned), cause };
        self.losses.push(loss);
    }

    /// Lets a task start again if no attempt at it is under way.
    pub(super) fn start_again(&mut self, key: &AttemptKey, loss: Loss<'_>, why: &str) {
        let (now, config) = (self.now, &self.config);
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        let is_under_way = job.is_under_way(key.task);
        let Some(task) = job.task_mut(key.task) else { return };
        let mut until = None;
        if let Loss::At(worker) = loss {
            task.avoid = worker.map(str::to_owned);
            task.losses += 1;
            // The first loss is made good at once. After that somebody is in trouble and gets some time.
            if let Some(again) = task.losses.checked_sub(2) {
                let pause = FIRST_PAUSE.saturating_mul(1 << again.min(16)).min(config.lease);
                until = Some(now.saturating_add(pause));
            }
        }
        if is_under_way || task.is_waiting || task.delayed_until.is_some() || task.result.is_some() {
            return;
        }
        if task.attempts >= config.max_attempts {
            let failure = words::worn_out(key.task, task.attempts, why);
            self.fail_job(&key.job, failure);
            return;
        }
        job.enqueue(key.task, until, config.max_deaths);
        if let Some(until) = until {
            self.wake_by(until);
        }
    }

    /// How much a task is suspected to kill its workers.
    pub(super) fn suspicion(&self, task: &TaskKey) -> usize {
        let job = self.jobs.get(&task.job).filter(|job| job.round == task.round);
        job.and_then(|job| job.task(task.task)).map_or(0, |task| task.deaths.len() + task.doubts)
    }

    /// Whether a task is known to kill its workers.
    pub(super) fn is_known_poison(&self, job: &str, round: u32, task: u32) -> bool {
        self.ended.get(job).is_some_and(|ended| ended.round == round && ended.poisonous == Some(task))
    }

    /// Notes that a worker died on a task, which fails the job if it was one death too many. Tells whether it was.
    pub(super) fn note_death(&mut self, task: &TaskKey, worker: &str) -> bool {
        let max_deaths = self.config.max_deaths;
        let Some(job) = self.jobs.get_mut(&task.job).filter(|job| job.round == task.round) else {
            return false;
        };
        let Some(state) = job.task_mut(task.task).filter(|state| state.result.is_none()) else {
            return false;
        };
        state.deaths.push(worker.to_owned());
        if state.deaths.len() >= max_deaths {
            let failure = words::poisonous(task.task, &state.deaths);
            // Other workers may have it, and die before they hear that it is stopped.
            let others = job.attempts_of(task.task).flat_map(|(_, live)| &live.holders);
            for holder in others {
                if let Some(member) = self.members.get_mut(&holder.worker) {
                    member.suspected.push((task.clone(), self.now));
                }
            }
            self.fail_job(&task.job, failure);
            if let Some(ended) = self.ended.get_mut(&task.job) {
                ended.poisonous = Some(task.task);
            }
            return true;
        }
        if state.is_waiting {
            // It may have become fragile, which has a queue of its own.
            job.dequeue(task.task);
            job.enqueue(task.task, None, max_deaths);
        }
        false
    }

    /// Takes a death back: the worker is alive.
    pub(super) fn forget_death(&mut self, task: &TaskKey, worker: &str) {
        let Some(job) = self.jobs.get_mut(&task.job).filter(|job| job.round == task.round) else { return };
        if let Some(state) = job.task_mut(task.task)
            && let Some(place) = state.deaths.iter().position(|dead| dead == worker)
        {
            state.deaths.remove(place);
        }
    }

    /// Stops each attempt at a task that a worker has.
    pub(super) fn stop_attempts(&mut self, job: &Arc<str>, task: u32) {
        let Some(scheduled) = self.jobs.get(job) else { return };
        let held: Vec<_> = scheduled
            .attempts_of(task)
            .map(|(attempt, live)| {
                let workers: Vec<_> = live.holders.iter().map(|holder| holder.worker.clone()).collect();
                (AttemptKey { job: Arc::clone(job), task, attempt }, workers)
            })
            .collect();
        for (key, workers) in held {
            for worker in workers {
                self.take_from(&key, &worker);
                let task = self.id(&key);
                self.actions.push(SchedulerAction::Stop { task, worker });
            }
            self.drop_queued(&key);
        }
    }

    pub(super) fn fail_job(&mut self, job: &Arc<str>, failure: Failure) {
        if let Some(ended) = self.end_job(job) {
            let action = SchedulerAction::JobFailed { job: job.to_string(), round: ended.round, failure };
            self.actions.push(action);
        }
    }

    /// Stops what is left of a job, and forgets all but its round.
    pub(super) fn end_job(&mut self, job: &Arc<str>) -> Option<ScheduledJob> {
        let mut tasks: Vec<_> = self.jobs.get(job)?.attempts.keys().map(|(task, _)| *task).collect();
        tasks.dedup();
        for task in tasks {
            self.stop_attempts(job, task);
        }
        self.turns.retain(|other| other != job);
        let ended = self.jobs.remove(job)?;
        let trace = EndedJob { round: ended.round, poisonous: None };
        if self.ended.insert(Arc::clone(job), trace).is_none() {
            self.ended_order.push_back(Arc::clone(job));
        }
        while self.ended_order.len() > self.config.max_ended {
            if let Some(oldest) = self.ended_order.pop_front() {
                self.ended.remove(&oldest);
            }
        }
        Some(ended)
    }
}

/// What is left of a job that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndedJob {
    pub round: u32,
    /// The task that killed its workers. A broker may still deliver it.
    pub poisonous: Option<u32>,
}

/// How an attempt ended without a result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loss<'a> {
    /// Its worker went. It starts elsewhere at once.
    WithWorker,
    /// It was lost although nobody knows of a worker that went: at this worker, or in the shared queue.
    At(Option<&'a str>),
}
