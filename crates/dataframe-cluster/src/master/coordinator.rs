//! The owner of everything that changes in a master: the scheduler, the running jobs, and the open attempts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::{Finished, Progress, Task, TaskId, WorkerStatus};
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

/// How often the state of jobs is published.
const PUBLISH: Duration = Duration::from_millis(100);

/// Ended jobs whose end is remembered, besides the stored results.
const REMEMBERED: usize = 256;

struct Attempt {
    worker: Option<String>,
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
        Self {
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
        self.rounds.insert(round.job.clone(), round);
        self.step(event);
    }

    fn task_news(&mut self, task: TaskId, news: TaskNews) {
        let worker = self.attempts.get(&task).and_then(|attempt| attempt.worker.clone());
        match news {
            TaskNews::Started { worker } => {
                if let Some(attempt) = self.attempts.get_mut(&task) {
                    attempt.worker = Some(worker.clone());
                }
                self.step(SchedulerEvent::Started { task, worker });
            }
            TaskNews::Alive => {
                self.step(SchedulerEvent::Alive { task });
            }
            TaskNews::Complete(output) => self.task_complete(&task, output),
            TaskNews::Failed(failure) => {
                self.attempts.remove(&task);
                let worker = failure.worker.clone().or(worker).unwrap_or_default();
                self.step(SchedulerEvent::TaskFailed { task, worker, failure });
            }
            TaskNews::Lost { why, unreachable } => {
                self.attempts.remove(&task);
                tracing::warn!(?task, worker, why, "an attempt at a task is lost");
                let capabilities = self.context.transport.capabilities();
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
        }
    }

    fn task_complete(&mut self, task: &TaskId, output: TaskOutput) {
        self.attempts.remove(task);
        let worker = output.finished.worker.clone();
        let mut output = Some(output);
        let actions = self
            .scheduler
            .step(SchedulerEvent::ResultComplete { task: task.clone(), worker }, self.begun.elapsed());
        for action in actions {
            match action {
                SchedulerAction::UseResult { task: used, .. } if used == *task => {
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
        let actions = self.scheduler.step(event, self.begun.elapsed());
        for action in &actions {
            self.act(action);
        }
        actions
    }

    fn act(&mut self, action: &SchedulerAction) {
        match action {
            SchedulerAction::Admit { worker, .. } => tracing::info!(worker, "worker taken in"),
            // A worker that is refused asks again at each heartbeat, and logs the reason itself.
            SchedulerAction::Refuse { worker, failure } => tracing::debug!(worker, %failure, "refused"),
            SchedulerAction::WorkerGone { worker, why, .. } => {
                tracing::warn!(worker, why, "worker gone");
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
        self.attempts.insert(task, Attempt { worker, _call: AbortOnDropHandle::new(call) });
    }

    fn stop(&mut self, task: &TaskId, worker: &str) {
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
