//! What must be true of the scheduler's answers, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::{TaskId, WorkerState};
use dataframe_jobs::scheduler::{
    AttemptLoss, GoneCause, LossCause, Recipient, Scheduler, SchedulerAction, SchedulerEvent,
};

use super::scenario::{Fate, Scenario};
use super::tally::Tally;

#[derive(Debug, Default)]
struct CheckedJob {
    number: usize,
    round: u32,
    is_planned: bool,
    is_ended: bool,
    used: BTreeMap<u32, (String, u32)>,
    attempts: BTreeMap<u32, u32>,
    data_failed: bool,
    cancelled: bool,
    /// By task: the runs of workers that were seen to die or fall silent while they had it.
    deaths: BTreeMap<u32, BTreeSet<(String, String)>>,
}

#[derive(Debug)]
pub struct Checker {
    scenario: Scenario,
    jobs: BTreeMap<String, CheckedJob>,
    /// What each worker was sent and has not given back, where workers are called directly.
    sent: BTreeMap<String, BTreeSet<TaskId>>,
    produced: BTreeSet<(TaskId, String)>,
    /// When the master heard of each worker, and what the worker had begun as far as the master heard.
    heard: BTreeMap<String, Duration>,
    begun: BTreeMap<String, BTreeSet<TaskId>>,
    pub tally: Tally,
}

impl Checker {
    pub fn new(scenario: &Scenario) -> Self {
        let jobs = scenario.jobs.iter().enumerate();
        Self {
            scenario: scenario.clone(),
            jobs: jobs
                .map(|(number, job)| (job.name.clone(), CheckedJob { number, ..CheckedJob::default() }))
                .collect(),
            sent: BTreeMap::new(),
            produced: BTreeSet::new(),
            heard: BTreeMap::new(),
            begun: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.jobs.values().all(|job| job.is_ended)
    }

    /// A worker really has computed this.
    pub fn produced(&mut self, task: &TaskId, worker: &str) {
        self.produced.insert((task.clone(), worker.to_owned()));
    }

    /// A worker died, hung or was cut off while it had this.
    pub fn died(&mut self, task: &TaskId, worker: &str, incarnation: &str) {
        let job = self.jobs.get_mut(&task.job).expect("a job of this world");
        if job.round != task.round {
            return;
        }
        job.deaths.entry(task.task).or_default().insert((worker.to_owned(), incarnation.to_owned()));
    }

    pub fn before(&mut self, event: &SchedulerEvent, now: Duration) {
        match event {
            SchedulerEvent::WorkerHeartbeat { worker, running } => {
                self.heard.insert(worker.incarnation.clone(), now);
                self.begun.entry(worker.name.clone()).or_default().extend(running.iter().cloned());
            }
            SchedulerEvent::Started { task, worker } => {
                self.begun.entry(worker.clone()).or_default().insert(task.clone());
            }
            SchedulerEvent::JobPlanned { job, .. } => {
                self.jobs.get_mut(job).expect("known").is_planned = true;
            }
            SchedulerEvent::JobCancelled { job } => self.jobs.get_mut(job).expect("known").cancelled = true,
            SchedulerEvent::ResultComplete { task, worker } => self.give_back(worker, task),
            SchedulerEvent::TaskFailed { task, worker, failure } => {
                self.give_back(worker, task);
                let job = self.jobs.get_mut(&task.job).expect("known");
                job.data_failed |= failure.code == FailureCode::BadJob && task.round == job.round;
            }
            _ => {}
        }
    }

    fn give_back(&mut self, worker: &str, task: &TaskId) {
        if let Some(sent) = self.sent.get_mut(worker) {
            sent.remove(task);
        }
    }

    pub fn after(
        &mut self,
        event: &SchedulerEvent,
        actions: &[SchedulerAction],
        scheduler: &Scheduler,
        now: Duration,
    ) {
        self.check_result(event, actions);
        self.check_silence(actions, scheduler, now);
        self.check_losses(actions, scheduler);
        for action in actions {
            match action {
                SchedulerAction::Send { task, to } => self.check_send(task, to, scheduler, now),
                SchedulerAction::Stop { task, worker } => self.give_back(worker, task),
                SchedulerAction::UseResult { task, worker } => self.check_use(event, task, worker),
                SchedulerAction::DiscardResult { .. } => self.tally.discarded += 1,
                SchedulerAction::WorkerGone { worker, .. } => {
                    self.sent.remove(worker);
                }
                SchedulerAction::JobDone { job, round, places } => self.check_done(job, *round, places),
                SchedulerAction::JobFailed { job, failure, .. } => {
                    self.check_reason(job, failure.code, &failure.message, scheduler, now);
                }
                SchedulerAction::JobRefused { .. } => panic!("no job of this world is refused: {action:?}"),
                SchedulerAction::Admit { .. }
                | SchedulerAction::Refuse { .. }
                | SchedulerAction::TellDraining { .. } => {}
            }
        }
    }

    /// A result is used if it is the first one of a task that is open, and discarded if not. It is never forgotten.
    fn check_result(&self, event: &SchedulerEvent, actions: &[SchedulerAction]) {
        let SchedulerEvent::ResultComplete { task, worker } = event else { return };
        let job = &self.jobs[&task.job];
        let is_wanted =
            job.is_planned && !job.is_ended && task.round == job.round && !job.used.contains_key(&task.task);
        let (task, worker) = (task.clone(), worker.clone());
        let expected = if is_wanted {
            SchedulerAction::UseResult { task, worker }
        } else {
            SchedulerAction::DiscardResult { task, worker }
        };
        assert_eq!(actions.first(), Some(&expected));
    }

    /// A worker that was lost for its silence really was silent.
    fn check_silence(&mut self, actions: &[SchedulerAction], scheduler: &Scheduler, now: Duration) {
        for action in actions {
            let SchedulerAction::WorkerGone { worker, incarnation, cause, why } = action else { continue };
            let begun = self.begun.remove(worker).unwrap_or_default();
            if why.contains("is lost") {
                for task in begun {
                    self.died(&task, worker, incarnation);
                }
            }
            assert_eq!(why.contains("silent"), *cause == GoneCause::Silent, "{why}");
            if *cause == GoneCause::Silent {
                let heard = self.heard.get(incarnation).copied().unwrap_or_default();
                assert!(heard + scheduler.config().worker_timeout <= now, "{worker} spoke at {heard:?}");
            }
        }
    }

    /// What is lost was sent, and a worker that is gone takes what it had along.
    fn check_losses(&self, actions: &[SchedulerAction], scheduler: &Scheduler) {
        let is_gone = |name: &str| {
            let mut gone = actions.iter();
            gone.any(|action| matches!(action, SchedulerAction::WorkerGone { worker, .. } if worker == name))
        };
        for AttemptLoss { task, worker, cause } in scheduler.losses() {
            let job = &self.jobs[&task.job];
            assert_eq!(task.round, job.round, "{task:?} of another round is lost");
            assert!(job.attempts.get(&task.task).is_some_and(|sent| task.attempt <= *sent), "{task:?}");
            let with_its_worker = worker.as_deref().is_some_and(is_gone);
            assert!(*cause != LossCause::WorkerGone || with_its_worker, "{worker:?} is not gone");
        }
    }

    fn check_send(&mut self, task: &TaskId, to: &Recipient, scheduler: &Scheduler, now: Duration) {
        let job = self.jobs.get_mut(&task.job).expect("only planned jobs are sent");
        assert!(job.is_planned && !job.is_ended, "{task:?} of a job that does not run");
        assert_eq!(task.round, job.round, "{task:?} of another stage");
        assert!(!job.used.contains_key(&task.task), "{task:?} has a result");
        let attempts = job.attempts.entry(task.task).or_default();
        *attempts += 1;
        assert_eq!(*attempts, task.attempt, "attempts count from 1");
        self.tally.sent += 1;
        let spec = &self.scenario.jobs[job.number].specs[task.task as usize];
        let Recipient::Worker(worker) = to else {
            assert!(self.scenario.pull && spec.pinned.is_none(), "{task:?}");
            return;
        };
        assert!(spec.pinned.is_none() || spec.pinned.as_ref() == Some(worker), "{task:?} is pinned");
        let nodes = scheduler.nodes(now);
        let node = nodes.iter().find(|node| node.info.name == *worker).expect("a worker that is here");
        assert_eq!(node.state, WorkerState::Ready);
        let sent = self.sent.entry(worker.clone()).or_default();
        sent.insert(task.clone());
        if !self.scenario.pull {
            assert!(
                sent.len() <= node.info.slots as usize,
                "{worker} has {} slots and {sent:?}",
                node.info.slots
            );
        }
    }

    fn check_use(&mut self, event: &SchedulerEvent, task: &TaskId, worker: &str) {
        let is_this = matches!(event, SchedulerEvent::ResultComplete { task: t, worker: w } if t == task && w == worker);
        assert!(is_this, "{task:?} of {worker} is used at {event:?}");
        assert!(self.produced.contains(&(task.clone(), worker.to_owned())), "nobody computed {task:?}");
        let job = self.jobs.get_mut(&task.job).expect("known");
        assert!(!job.is_ended);
        let before = job.used.insert(task.task, (worker.to_owned(), task.attempt));
        assert_eq!(before, None, "{task:?} is used twice");
    }

    fn check_done(&mut self, name: &str, round: u32, places: &[(u32, String, u32)]) {
        let job = self.jobs.get_mut(name).expect("known");
        assert!(job.is_planned && !job.is_ended && job.round == round);
        let used: Vec<_> =
            job.used.iter().map(|(task, (worker, attempt))| (*task, worker.clone(), *attempt)).collect();
        assert_eq!(used, places);
        let planned = &self.scenario.jobs[job.number];
        assert_eq!(used.len(), planned.specs.len());
        if round + 1 < planned.stages {
            // The next stage begins with nothing but what all jobs have.
            let (number, cancelled) = (job.number, job.cancelled);
            *job = CheckedJob { number, cancelled, round: round + 1, ..CheckedJob::default() };
            self.tally.stages += 1;
            return;
        }
        job.is_ended = true;
        self.tally.done += 1;
    }

    fn check_reason(
        &mut self,
        name: &str,
        code: FailureCode,
        message: &str,
        scheduler: &Scheduler,
        now: Duration,
    ) {
        let job = self.jobs.get_mut(name).expect("known");
        assert!(job.is_planned && !job.is_ended);
        job.is_ended = true;
        let planned = &self.scenario.jobs[job.number];
        match code {
            FailureCode::BadJob => {
                assert!(job.data_failed);
                self.tally.bad += 1;
            }
            FailureCode::Cancelled => {
                assert!(job.cancelled);
                self.tally.cancelled += 1;
            }
            FailureCode::Poisonous if message.contains("was given to workers") => {
                self.tally.worn_out += 1;
            }
            FailureCode::Poisonous => {
                let named: u32 = message.split(' ').nth(1).expect("task N").parse().expect("a number");
                let deaths = job.deaths.get(&named).map_or(0, BTreeSet::len);
                assert!(deaths >= 3, "{deaths} workers died: {message}; {:?}", job.deaths);
                if self.scenario.only_poison && !self.scenario.pull {
                    assert_eq!(planned.fates[named as usize], Fate::KillsItsWorker, "{message}");
                }
                self.tally.poisonous += 1;
            }
            FailureCode::NoWorkers => {
                let ready: Vec<_> = scheduler
                    .nodes(now)
                    .into_iter()
                    .filter(|node| node.state == WorkerState::Ready)
                    .map(|node| node.info.name)
                    .collect();
                for (task, spec) in (0..).zip(&planned.specs).filter(|(task, _)| !job.used.contains_key(task))
                {
                    let could_run = spec.pinned.as_ref().map_or(!ready.is_empty(), |pin| ready.contains(pin));
                    assert!(!could_run, "task {task} could run: {message}");
                }
                self.tally.no_workers += 1;
            }
            other => panic!("{other:?} is no reason in this world: {message}"),
        }
    }
}
