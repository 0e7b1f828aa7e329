//! The owner of everything that changes in a master: the scheduler, the running jobs, and the open attempts.

mod observation;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, Progress, Task, TaskId, WorkerStatus};
use dataframe_jobs::operation;
use dataframe_jobs::scheduler::{
    Recipient, Scheduler, SchedulerAction, SchedulerConfig, SchedulerEvent, TaskSpec,
};
use middleware::Endpoint;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::call::{self, TaskNews, TaskOutput};
use super::command::{Command, JobOrder, JobStatus, Places, PlannedRound, Standing};
use super::context::MasterContext;
use super::job;
use super::ledger::ClusterLedger;
use super::snapshot::TaskOutcome;

/// How often the state of jobs is published.
const PUBLISH: Duration = Duration::from_millis(100);

/// Ended jobs whose end is remembered, besides the stored results.
const REMEMBERED: usize = 256;

/// Operations of a job that are named to those who look.
const OPERATIONS_SHOWN: usize = 8;

struct Attempt {
    worker: Option<String>,
    /// When it was sent, or when its worker told that it began.
    start: Duration,
    /// Whether the ledger knows what became of it.
    is_noted: bool,
    _call: AbortOnDropHandle<()>,
}

/// Takes commands one after the other. Nobody else changes what they are about.
pub(crate) struct Coordinator {
    context: Arc<MasterContext>,
    scheduler: Scheduler,
    begun: Instant,
    commands: mpsc::UnboundedReceiver<Command>,
    own: mpsc::UnboundedSender<Command>,
    jobs: HashMap<String, watch::Sender<JobStatus>>,
    drivers: HashMap<String, AbortOnDropHandle<()>>,
    ended: VecDeque<String>,
    rounds: HashMap<String, PlannedRound>,
    attempts: HashMap<TaskId, Attempt>,
    members: watch::Sender<Vec<WorkerStatus>>,
    ledger: ClusterLedger,
}

impl Coordinator {
    /// Makes a coordinator without workers and jobs.
    pub(crate) fn new(
        context: Arc<MasterContext>,
        worker_timeout: Duration,
        own_address: Option<String>,
    ) -> Self {
        let scheduler = Scheduler::new(SchedulerConfig {
            shared_queue: context.transport.capabilities().shared_queue,
            datafusion: dataframe_engine::DATAFUSION_VERSION.to_owned(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            own_addresses: own_address.into_iter().collect(),
            lease: context.lease,
            worker_timeout,
            ..SchedulerConfig::default()
        });
        let (own, commands) = mpsc::unbounded_channel();
        let (metrics, watched) = (context.metrics.clone(), Arc::clone(&context.watched));
        let mut ledger = ClusterLedger::new(metrics, watched, Utc::now());
        if context.is_one_of_pair {
            ledger.took_lead(context.lead.term);
        }
        Self {
            ledger,
            context,
            scheduler,
            begun: Instant::now(),
            commands,
            own,
            jobs: HashMap::new(),
            drivers: HashMap::new(),
            ended: VecDeque::new(),
            rounds: HashMap::new(),
            attempts: HashMap::new(),
            members: watch::Sender::new(Vec::new()),
        }
    }

    /// Where commands are sent.
    pub(crate) fn commands(&self) -> mpsc::UnboundedSender<Command> {
        self.own.clone()
    }

    /// Takes commands for ever.
    pub(crate) async fn run(mut self) {
        let mut publish = tokio::time::interval(PUBLISH);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.scheduler.next_deadline().map(|deadline| self.begun + deadline);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                () = sleep_until(due) => {
                    self.step(SchedulerEvent::Tick);
                }
                _ = publish.tick() => self.publish(),
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            // Whoever asked may have gone; that is no reason to stop.
            Command::Worker(event, answer) => {
                let _ = answer.send(self.worker_event(event));
            }
            Command::Memory { worker, bytes } => self.ledger.worker_memory(&worker, bytes),
            Command::Observe(wanted, answer) => drop(answer.send(self.observe(wanted))),
            Command::Nodes(answer) => drop(answer.send(self.scheduler.nodes(self.begun.elapsed()))),
            Command::Watch(answer) => {
                self.publish_members();
                drop(answer.send(self.members.subscribe()));
            }
            Command::Submit(order, answer) => drop(answer.send(self.submit(order))),
            Command::Cancel(job) => self.cancel(&job),
            Command::Outlook { job, answer } => {
                let _ = answer.send((self.scheduler.slots(), self.scheduler.next_round(&job)));
            }
            Command::Planned(round) => self.planned(round),
            Command::Task(task, news) => self.task_news(task, news),
            Command::Ended { job, outcome } => self.job_ended(job, outcome),
        }
    }

    fn worker_event(&mut self, event: SchedulerEvent) -> Result<Standing, Failure> {
        let mut answer = Ok(Standing::Member);
        for action in self.step(event) {
            match action {
                SchedulerAction::Refuse { failure, .. } => answer = Err(failure),
                SchedulerAction::TellDraining { .. } if answer.is_ok() => answer = Ok(Standing::Draining),
                _ => {}
            }
        }
        answer
    }

    fn submit(&mut self, order: JobOrder) -> watch::Receiver<JobStatus> {
        if let Some(status) = self.jobs.get(order.job()) {
            if !self.is_pruned(&order, &status.borrow()) {
                return status.subscribe();
            }
            self.ended.retain(|ended| ended != order.job());
        }
        let none = Progress { done: 0, total: 0, running: 0, waiting_for: None };
        let (status, watched) = watch::channel(JobStatus::Running(none));
        let job = order.job().to_owned();
        tracing::debug!(job, "job begins");
        self.ledger.job_submitted(&job, operations_of(&order), self.begun.elapsed());
        let driver = tokio::spawn(job::drive(Arc::clone(&self.context), self.own.clone(), order));
        self.drivers.insert(job.clone(), AbortOnDropHandle::new(driver));
        self.jobs.insert(job, status);
        watched
    }

    /// Whether a job has ended well and its rows have been removed since. Then it is run again.
    fn is_pruned(&self, order: &JobOrder, status: &JobStatus) -> bool {
        matches!((order, status), (JobOrder::Compute { job, .. }, JobStatus::Done(_)) if self.context.results.find(job).is_none())
    }

    fn cancel(&mut self, job: &str) {
        if self.drivers.contains_key(job) {
            self.step(SchedulerEvent::JobCancelled { job: job.to_owned() });
            let message = "the client gave the job up".to_owned();
            let failure = Failure { code: FailureCode::Cancelled, message, worker: None };
            self.job_ended(job.to_owned(), Err(failure));
            // The driver was stopped, and cannot remove what it had written.
            self.context.results.discard(job);
        }
    }

    fn planned(&mut self, round: PlannedRound) {
        let tasks = round.tasks.iter().map(|task| TaskSpec {
            pinned: task.worker.clone(),
            prefers: None,
            wasm: !task.modules.is_empty(),
            bytes: task.files.iter().map(|file| file.end - file.start).sum(),
        });
        let event = SchedulerEvent::JobPlanned {
            job: round.job.clone(),
            round: round.round,
            tasks: tasks.collect(),
            wait: round.wait,
        };
        self.ledger.stage_planned(&round.job, round.round, round.tasks.len());
        self.rounds.insert(round.job.clone(), round);
        self.step(event);
    }

    fn task_news(&mut self, task: TaskId, news: TaskNews) {
        let worker = self.attempts.get(&task).and_then(|attempt| attempt.worker.clone());
        match news {
            TaskNews::Started { worker } => {
                if let Some(attempt) = self.attempts.get_mut(&task) {
                    attempt.worker = Some(worker.clone());
                    attempt.start = self.begun.elapsed();
                }
                self.step(SchedulerEvent::Started { task, worker });
            }
            TaskNews::Alive => {
                self.step(SchedulerEvent::Alive { task });
            }
            TaskNews::Complete(output) => self.task_complete(&task, output),
            TaskNews::Failed(failure) => {
                let worker = failure.worker.clone().or(worker).unwrap_or_default();
                // The scheduler takes the others for lost.
                if !matches!(
                    failure.code,
                    FailureCode::Refused | FailureCode::Cancelled | FailureCode::NoWorkers
                ) {
                    self.note_end(&task, &worker, TaskOutcome::Failed);
                }
                self.step(SchedulerEvent::TaskFailed { task: task.clone(), worker, failure });
                self.attempts.remove(&task);
            }
            TaskNews::Lost { why, unreachable } => {
                self.task_lost(&task, worker, why, unreachable);
                self.attempts.remove(&task);
            }
        }
    }

    fn task_lost(&mut self, task: &TaskId, worker: Option<String>, why: String, unreachable: bool) {
        tracing::warn!(?task, worker, why, "an attempt at a task is lost");
        let capabilities = self.context.transport.capabilities();
        let task = task.clone();
        match worker {
            Some(worker) if unreachable && capabilities.starts_functions => {
                self.step(SchedulerEvent::TaskDied { task, worker, why });
            }
            Some(worker) if unreachable && capabilities.calls_workers_directly => {
                self.step(SchedulerEvent::WorkerLost { worker, incarnation: None, why: why.clone() });
                self.step(SchedulerEvent::TaskLost { task, worker: None, why });
            }
            worker => {
                self.step(SchedulerEvent::TaskLost { task, worker, why });
            }
        }
    }

    fn task_complete(&mut self, task: &TaskId, output: TaskOutput) {
        let now = self.begun.elapsed();
        let start = self.attempts.remove(task).map_or(now, |attempt| attempt.start);
        let worker = output.finished.worker.clone();
        let mut output = Some(output);
        let actions = self.scheduler.step(SchedulerEvent::ResultComplete { task: task.clone(), worker }, now);
        self.note_losses(now);
        for action in actions {
            match action {
                SchedulerAction::DiscardResult { task: late, worker } if late == *task => {
                    self.ledger.task_ended(task, Some(&worker), (start, now), TaskOutcome::Discarded);
                }
                SchedulerAction::UseResult { task: used, worker } if used == *task => {
                    self.ledger.task_ended(task, Some(&worker), (start, now), TaskOutcome::Done);
                    if let (Some(output), Some(round)) = (output.take(), self.rounds.get(&task.job)) {
                        // A driver that has enough rows does not receive any more.
                        let _ = round.results.send((task.task, output));
                    }
                }
                other => self.act(&other),
            }
        }
    }

    /// Takes a step, does what is to be done, and returns it for whoever asked.
    fn step(&mut self, event: SchedulerEvent) -> Vec<SchedulerAction> {
        let now = self.begun.elapsed();
        let actions = self.scheduler.step(event, now);
        self.note_losses(now);
        for action in &actions {
            self.act(action);
        }
        actions
    }

    fn act(&mut self, action: &SchedulerAction) {
        match action {
            SchedulerAction::Admit { worker, incarnation } => {
                tracing::info!(worker, "worker taken in");
                self.ledger.worker_joined(worker, incarnation, self.begun.elapsed());
            }
            // A worker that is refused asks again at each heartbeat, and logs the reason itself.
            SchedulerAction::Refuse { worker, failure } => tracing::debug!(worker, %failure, "refused"),
            SchedulerAction::WorkerGone { worker, cause, why, .. } => {
                tracing::warn!(worker, why, "worker gone");
                self.note_gone(worker, *cause);
                self.attempts.retain(|_, attempt| attempt.worker.as_ref() != Some(worker));
            }
            SchedulerAction::Send { task, to } => self.send(task.clone(), to),
            SchedulerAction::Stop { task, worker } => self.stop(task, worker),
            SchedulerAction::JobDone { job, places, .. } => self.round_ended(job, Ok(places.clone())),
            SchedulerAction::JobFailed { job, failure, .. }
            | SchedulerAction::JobRefused { job, failure, .. } => {
                self.round_ended(job, Err(failure.clone()));
            }
            SchedulerAction::TellDraining { .. }
            | SchedulerAction::UseResult { .. }
            | SchedulerAction::DiscardResult { .. } => {}
        }
    }

    fn endpoint(&self, worker: &str) -> Endpoint {
        let direct = self.context.transport.capabilities().calls_workers_directly;
        let known =
            self.scheduler.nodes(self.begun.elapsed()).into_iter().find(|node| node.info.name == worker);
        let address = known.and_then(|node| node.info.address).filter(|_| direct);
        Endpoint::Worker(address.unwrap_or_else(|| worker.to_owned()))
    }

    fn send(&mut self, task: TaskId, to: &Recipient) {
        let Some(round) = self.rounds.get(&task.job).filter(|round| round.round == task.round) else {
            return;
        };
        let Some(planned) = round.tasks.get(task.task as usize) else { return };
        let (files, plan): (_, Bytes) = (planned.files.clone(), planned.plan.clone());
        let partitions = planned.partitions;
        let modules = planned.modules.iter().map(|module| module.hash().to_owned()).collect();
        let (endpoint, worker) = match to {
            Recipient::Worker(name) => (self.endpoint(name), Some(name.clone())),
            Recipient::AnyWorker => (Endpoint::AnyWorker, None),
        };
        let lease_ms = u64::try_from(self.context.lease.as_millis()).unwrap_or(u64::MAX);
        let message = Task { id: task.clone(), lease_ms, files, modules };
        let (own, id) = (self.own.clone(), task.clone());
        let tell = move |news| {
            // The coordinator is gone only when the master ends.
            let _ = own.send(Command::Task(id.clone(), news));
        };
        let call =
            tokio::spawn(call::run(Arc::clone(&self.context), endpoint, message, plan, partitions, tell));
        let (start, call) = (self.begun.elapsed(), AbortOnDropHandle::new(call));
        self.attempts.insert(task, Attempt { worker, start, is_noted: false, _call: call });
    }

    fn stop(&mut self, task: &TaskId, worker: &str) {
        self.note_end(task, worker, TaskOutcome::Stopped);
        self.attempts.remove(task);
        let (context, endpoint, task) = (Arc::clone(&self.context), self.endpoint(worker), task.clone());
        tokio::spawn(async move { call::stop(&context, &endpoint, task).await });
    }

    fn round_ended(&mut self, job: &str, outcome: Result<Places, Failure>) {
        self.attempts.retain(|task, _| task.job != job);
        if let Some(round) = self.rounds.remove(job) {
            // A driver that has ended by itself does not listen.
            let _ = round.ended.send(outcome);
        }
    }

    fn job_ended(&mut self, job: String, outcome: Result<Finished, Failure>) {
        // A job that was given up may have ended at the same moment.
        if self.drivers.remove(&job).is_none() {
            return;
        }
        if self.rounds.contains_key(&job) {
            // The final stage needed no more results, or failed.
            self.step(SchedulerEvent::JobCancelled { job: job.clone() });
            self.rounds.remove(&job);
        }
        self.attempts.retain(|task, _| task.job != job);
        self.ledger.job_ended(&job, &outcome, self.begun.elapsed());
        let Some(status) = self.jobs.get(&job) else { return };
        status.send_replace(match outcome {
            Ok(finished) => JobStatus::Done(finished),
            Err(failure) => JobStatus::Failed(failure),
        });
        self.ended.push_back(job);
        if self.ended.len() > REMEMBERED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.jobs.remove(&oldest);
        }
    }

    fn publish(&self) {
        if self.members.receiver_count() > 0 {
            self.publish_members();
        }
        for job in self.rounds.keys() {
            if let (Some(progress), Some(status)) = (self.scheduler.progress(job), self.jobs.get(job)) {
                status.send_if_modified(|status| match status {
                    JobStatus::Running(known) if *known != progress => {
                        *known = progress;
                        true
                    }
                    _ => false,
                });
            }
        }
    }

    fn publish_members(&self) {
        let now = self.scheduler.nodes(self.begun.elapsed());
        self.members.send_if_modified(|known| {
            let changed = !same_members(known, &now);
            if changed {
                *known = now;
            }
            changed
        });
    }
}

/// The names of the first operations of a job; `probe` for empty tasks.
fn operations_of(order: &JobOrder) -> Vec<&'static str> {
    match order {
        JobOrder::Compute { operations, .. } => {
            operations.iter().take(OPERATIONS_SHOWN).map(operation::name_of).collect()
        }
        JobOrder::Probe { .. } => vec!["probe"],
    }
}

/// Whether both are the same workers in the same states. What they do at the moment does not count.
fn same_members(these: &[WorkerStatus], those: &[WorkerStatus]) -> bool {
    let key = |node: &WorkerStatus| (node.info.clone(), node.state);
    these.iter().map(key).eq(those.iter().map(key))
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
