//! The model world: one queue of what happens when.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::message::TaskId;
use dataframe_jobs::scheduler::{Recipient, Scheduler, SchedulerAction, SchedulerConfig, SchedulerEvent};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::checker::Checker;
use super::scenario::{Fate, Scenario, ms};
use super::tally::Tally;
use super::workers::{Health, ModelWorker};

/// Nothing takes longer than this, however bad the luck.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// A world in which more happens has lost its way.
const MOST_HAPPENINGS: u64 = 1_000_000;

/// What happens to a worker names its run: a dead run does nothing.
#[derive(Debug, Clone)]
enum Happening {
    AtMaster(SchedulerEvent),
    Run(usize, TaskId),
    Stop(usize, TaskId),
    Refused(usize, u32),
    Drained(usize, u32),
    Beat(usize, u32),
    StillAtIt(usize, u32, TaskId),
    Ends(usize, u32, TaskId),
    Dies(usize, u32),
    Starts(usize),
    DeliverAgain(TaskId),
    Fault,
    Alarm,
}

pub struct World {
    scenario: Scenario,
    rng: StdRng,
    now: Duration,
    number: u64,
    agenda: BTreeMap<(Duration, u64), Happening>,
    alarm: Option<Duration>,
    scheduler: Scheduler,
    checker: Checker,
    workers: Vec<ModelWorker>,
    shared: VecDeque<TaskId>,
}

impl World {
    pub fn new(seed: u64, scenario: Scenario) -> Self {
        let config = SchedulerConfig {
            shared_queue: scenario.pull,
            datafusion: "55".to_owned(),
            release: "1".to_owned(),
            lease: ms(6000),
            worker_timeout: ms(4000),
            ..SchedulerConfig::default()
        };
        let workers =
            scenario.slots.iter().enumerate().map(|(number, slots)| ModelWorker::new(number, *slots));
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            number: 0,
            agenda: BTreeMap::new(),
            alarm: None,
            scheduler: Scheduler::new(config),
            checker: Checker::new(&scenario),
            workers: workers.collect(),
            shared: VecDeque::new(),
            scenario,
        };
        for worker in 0..world.workers.len() {
            let at = world.between(0, 2000);
            world.later(at, Happening::Beat(worker, 1));
        }
        for job in world.scenario.jobs.clone() {
            let (name, tasks) = (job.name.clone(), job.specs);
            let planned = SchedulerEvent::JobPlanned { job: job.name, round: 0, tasks, wait: job.wait };
            world.later(job.at, Happening::AtMaster(planned));
            if let Some(at) = job.cancel_at {
                world.later(at, Happening::AtMaster(SchedulerEvent::JobCancelled { job: name }));
            }
        }
        if world.scenario.faults > 0.0 {
            world.later(ms(100), Happening::Fault);
        }
        world
    }

    pub fn run(mut self) -> Tally {
        while !self.checker.is_over() {
            let Some(((at, _), happening)) = self.agenda.pop_first() else {
                panic!("nothing will happen any more: {:?}", self.checker)
            };
            self.now = at;
            assert!(
                self.number < MOST_HAPPENINGS,
                "the scheduler wakes again and again, and nothing changes"
            );
            assert!(at < LONGEST, "a job does not end: {:?}\n{:?}", self.checker, self.scheduler);
            self.happen(happening);
            if self.scenario.pull {
                self.take_from_queues();
            }
            self.set_alarm();
        }
        assert!(self.scheduler.nodes(self.now).iter().all(|node| node.running == 0), "a task is left over");
        for job in &self.scenario.jobs {
            assert_eq!(self.scheduler.progress(&job.name), None);
        }
        Tally { jobs: self.scenario.jobs.len() as u64, ..self.checker.tally }
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        ms(self.rng.random_range(from..=to))
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.number += 1;
        self.agenda.insert((self.now + delay, self.number), happening);
    }

    fn is_chaos(&self) -> bool {
        self.now < self.scenario.calm_after
    }

    fn set_alarm(&mut self) {
        let Some(due) = self.scheduler.next_deadline() else { return };
        let due = due.max(self.now);
        if self.alarm.is_none_or(|alarm| alarm > due || alarm < self.now) {
            self.alarm = Some(due);
            self.later(due - self.now, Happening::Alarm);
        }
    }

    /// Something on its way to the master, which may get lost.
    fn tell_master(&mut self, event: SchedulerEvent) -> bool {
        if self.is_chaos() && self.rng.random_bool(self.scenario.loss) {
            self.checker.tally.lost += 1;
            return false;
        }
        let delay = if self.rng.random_bool(0.02) { self.between(0, 8000) } else { self.between(0, 20) };
        let delay = if self.scenario.faults > 0.0 { delay } else { ms(1) };
        self.later(delay, Happening::AtMaster(event.clone()));
        if self.is_chaos() && self.rng.random_bool(0.02) {
            let delay = self.between(0, 3000);
            self.later(delay, Happening::AtMaster(event));
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        if let Some((worker, Health::HungUntil(until))) = self.worker_of(&happening) {
            let is_death = matches!(happening, Happening::Dies(..));
            if !is_death {
                let delay = until.max(self.now + ms(1)) - self.now;
                if until <= self.now {
                    self.workers[worker].health = Health::Up;
                } else {
                    self.later(delay, happening);
                    return;
                }
            }
        }
        match happening {
            Happening::AtMaster(event) => self.at_master(&event),
            Happening::Alarm => {
                self.alarm = None;
                self.at_master(&SchedulerEvent::Tick);
            }
            Happening::Run(worker, task) => self.begin_or_refuse(worker, task),
            Happening::Stop(worker, task) => {
                self.workers[worker].running.retain(|other| *other != task);
                self.leave_if_drained(worker);
            }
            Happening::Refused(worker, run) if self.is_up(worker, run) => {
                self.workers[worker].takes_nothing = true;
            }
            Happening::Drained(worker, run) if self.is_up(worker, run) => {
                self.workers[worker].takes_nothing = true;
                self.workers[worker].drains = true;
                self.leave_if_drained(worker);
            }
            Happening::Beat(worker, run) if self.is_up(worker, run) => self.beat(worker, run),
            Happening::StillAtIt(worker, run, task) if self.is_at(worker, run, &task) => {
                self.tell_master(SchedulerEvent::Alive { task: task.clone() });
                self.later(ms(2000), Happening::StillAtIt(worker, run, task));
            }
            Happening::Ends(worker, run, task) if self.is_at(worker, run, &task) => self.end(worker, task),
            Happening::Dies(worker, run) if self.is_up(worker, run) => self.die(worker),
            Happening::Starts(worker) => self.start(worker),
            Happening::DeliverAgain(task) => {
                self.checker.tally.delivered_again += 1;
                self.shared.push_front(task);
            }
            Happening::Fault => self.fault(),
            _ => {}
        }
    }

    fn worker_of(&self, happening: &Happening) -> Option<(usize, Health)> {
        let worker = match happening {
            Happening::Run(worker, _)
            | Happening::Stop(worker, _)
            | Happening::Refused(worker, _)
            | Happening::Drained(worker, _)
            | Happening::Beat(worker, _)
            | Happening::StillAtIt(worker, ..)
            | Happening::Ends(worker, ..)
            | Happening::Dies(worker, _) => *worker,
            _ => return None,
        };
        Some((worker, self.workers[worker].health))
    }

    fn is_up(&self, worker: usize, run: u32) -> bool {
        self.workers[worker].run == run && self.workers[worker].health != Health::Down
    }

    fn is_at(&self, worker: usize, run: u32, task: &TaskId) -> bool {
        self.is_up(worker, run) && self.workers[worker].running.contains(task)
    }

    fn at_master(&mut self, event: &SchedulerEvent) {
        self.checker.before(event, self.now);
        let actions = self.scheduler.step(event.clone(), self.now);
        self.checker.after(event, &actions, &self.scheduler, self.now);
        let run = match event {
            SchedulerEvent::WorkerHeartbeat { worker, .. } => {
                worker.incarnation.split('-').next_back().and_then(|run| run.parse().ok())
            }
            _ => None,
        };
        for action in actions {
            let delay = self.between(0, 10);
            match action {
                SchedulerAction::Send { task, to: Recipient::AnyWorker } => self.send_to_queue(None, task),
                SchedulerAction::Send { task, to: Recipient::Worker(worker) } if self.scenario.pull => {
                    self.send_to_queue(Some(self.index(&worker)), task);
                }
                SchedulerAction::Send { task, to: Recipient::Worker(worker) } => {
                    self.call(self.index(&worker), task);
                }
                SchedulerAction::Stop { task, worker } => {
                    let worker = self.index(&worker);
                    self.workers[worker].own.retain(|other| *other != task);
                    if !(self.is_chaos() && self.rng.random_bool(self.scenario.loss)) {
                        self.later(delay, Happening::Stop(worker, task));
                    }
                }
                SchedulerAction::JobDone { job, round, .. } => self.plan_next_stage(&job, round, delay),
                SchedulerAction::Refuse { worker, .. } if run.is_some() => {
                    let worker = self.index(&worker);
                    self.later(delay, Happening::Refused(worker, run.unwrap_or(0)));
                }
                SchedulerAction::TellDraining { worker } => {
                    let worker = self.index(&worker);
                    self.later(delay, Happening::Drained(worker, run.unwrap_or(0)));
                }
                _ => {}
            }
        }
    }

    /// A job goes on with its next stage when all results of a stage are there.
    fn plan_next_stage(&mut self, name: &str, round: u32, delay: Duration) {
        let job = self.scenario.jobs.iter().find(|job| job.name == name).expect("a job of this world");
        if round + 1 < job.stages {
            let (job, tasks, wait) = (job.name.clone(), job.specs.clone(), job.wait);
            let planned = SchedulerEvent::JobPlanned { job, round: round + 1, tasks, wait };
            self.later(delay, Happening::AtMaster(planned));
        }
    }

    fn index(&self, name: &str) -> usize {
        self.workers.iter().position(|worker| worker.name == name).expect("a worker of this world")
    }

    fn send_to_queue(&mut self, worker: Option<usize>, task: TaskId) {
        if self.is_chaos() && self.rng.random_bool(self.scenario.loss / 5.0) {
            self.checker.tally.lost += 1;
            return;
        }
        match worker {
            Some(worker) => self.workers[worker].own.push_back(task),
            None => self.shared.push_back(task),
        }
    }

    fn call(&mut self, worker: usize, task: TaskId) {
        let is_down = self.workers[worker].health == Health::Down;
        if is_down || (self.is_chaos() && self.rng.random_bool(self.scenario.loss)) {
            self.checker.tally.lost += 1;
            if self.rng.random_bool(0.7) {
                let name = Some(self.workers[worker].name.clone());
                let delay = self.between(1, 300);
                let lost =
                    SchedulerEvent::TaskLost { task, worker: name, why: "connection refused".to_owned() };
                self.later(delay, Happening::AtMaster(lost));
            }
            return;
        }
        let delay = self.between(0, 10);
        self.later(delay, Happening::Run(worker, task));
    }

    fn take_from_queues(&mut self) {
        for worker in 0..self.workers.len() {
            let this = &mut self.workers[worker];
            while this.health == Health::Up && !this.takes_nothing && this.has_free_slot() {
                let Some(task) = this.own.pop_front().or_else(|| self.shared.pop_front()) else { break };
                if !this.running.contains(&task) {
                    this.running.push(task.clone());
                    self.later(Duration::ZERO, Happening::Run(worker, task));
                    break;
                }
            }
        }
    }

    fn begin_or_refuse(&mut self, worker: usize, task: TaskId) {
        let this = &mut self.workers[worker];
        let (name, run) = (this.name.clone(), this.run);
        if this.health == Health::Down {
            return;
        }
        if !self.scenario.pull {
            if this.running.contains(&task) {
                return;
            }
            if !this.has_free_slot() {
                let failure =
                    Failure { code: FailureCode::Refused, message: "no free slot".to_owned(), worker: None };
                self.tell_master(SchedulerEvent::TaskFailed { task, worker: name, failure });
                return;
            }
            this.running.push(task.clone());
        } else if !this.running.contains(&task) {
            return;
        }
        self.tell_master(SchedulerEvent::Started { task: task.clone(), worker: name });
        let job = self.scenario.jobs.iter().find(|job| job.name == task.job).expect("a job of this world");
        let is_poison = job.fates[task.task as usize] == Fate::KillsItsWorker;
        let takes = if is_poison {
            self.between(20, 1500)
        } else if self.rng.random_bool(0.03) {
            self.between(1000, 40_000)
        } else {
            self.between(5, 800)
        };
        let then =
            if is_poison { Happening::Dies(worker, run) } else { Happening::Ends(worker, run, task.clone()) };
        self.later(takes, then);
        self.later(ms(2000), Happening::StillAtIt(worker, run, task.clone()));
        if self.scenario.pull && self.is_chaos() && self.rng.random_bool(0.05) {
            let delay = self.between(0, 5000);
            self.later(delay, Happening::DeliverAgain(task));
        }
    }

    fn end(&mut self, worker: usize, task: TaskId) {
        let name = self.workers[worker].name.clone();
        self.workers[worker].running.retain(|other| *other != task);
        let job = self.scenario.jobs.iter().find(|job| job.name == task.job).expect("a job of this world");
        let event = if job.fates[task.task as usize] == Fate::FailsForItsData {
            let failure =
                Failure { code: FailureCode::BadJob, message: "no column x".to_owned(), worker: None };
            SchedulerEvent::TaskFailed { task: task.clone(), worker: name.clone(), failure }
        } else {
            self.checker.produced(&task, &name);
            SchedulerEvent::ResultComplete { task: task.clone(), worker: name.clone() }
        };
        let arrives = self.tell_master(event);
        if !arrives && self.rng.random_bool(0.5) {
            let lost =
                SchedulerEvent::TaskLost { task, worker: Some(name), why: "the stream broke".to_owned() };
            self.later(ms(5), Happening::AtMaster(lost));
        }
        self.leave_if_drained(worker);
    }

    fn leave_if_drained(&mut self, worker: usize) {
        let this = &mut self.workers[worker];
        if this.drains && this.running.is_empty() && this.health == Health::Up {
            let (worker_name, incarnation) = (this.name.clone(), this.info().incarnation);
            this.health = Health::Down;
            self.tell_master(SchedulerEvent::WorkerLeft { worker: worker_name, incarnation });
            self.start_later(worker);
        }
    }

    fn start_later(&mut self, worker: usize) {
        if self.scenario.restarts {
            let delay = self.between(10, 20_000);
            self.later(delay, Happening::Starts(worker));
        }
    }

    fn start(&mut self, worker: usize) {
        let this = &mut self.workers[worker];
        if this.health == Health::Down {
            (this.run, this.health) = (this.run + 1, Health::Up);
            (this.takes_nothing, this.drains) = (false, false);
            let run = this.run;
            self.later(Duration::ZERO, Happening::Beat(worker, run));
        }
    }

    fn beat(&mut self, worker: usize, run: u32) {
        let this = &mut self.workers[worker];
        let (info, running) = (this.info(), this.running.clone());
        // A worker that was refused because the run before it was not known to be dead tries again.
        if this.takes_nothing && !this.drains {
            this.takes_nothing = false;
        }
        self.tell_master(SchedulerEvent::WorkerHeartbeat { worker: info, running });
        self.later(ms(1000), Happening::Beat(worker, run));
    }

    fn die(&mut self, worker: usize) {
        self.checker.tally.deaths += 1;
        let this = &mut self.workers[worker];
        this.health = Health::Down;
        let (name, incarnation, running) =
            (this.name.clone(), this.info().incarnation, std::mem::take(&mut this.running));
        for task in running {
            self.checker.died(&task, &name, &incarnation);
            if self.scenario.pull {
                let delay = self.between(0, 8000);
                self.later(delay, Happening::DeliverAgain(task));
            } else if self.rng.random_bool(0.5) {
                let delay = self.between(0, 20);
                let why = "connection reset".to_owned();
                let lost = SchedulerEvent::TaskLost { task, worker: Some(name.clone()), why };
                self.later(delay, Happening::AtMaster(lost));
            }
        }
        if self.rng.random_bool(0.5) {
            let why = "connection reset".to_owned();
            let lost = SchedulerEvent::WorkerLost { worker: name, incarnation: Some(incarnation), why };
            let delay = self.between(0, 50);
            self.later(delay, Happening::AtMaster(lost));
        }
        self.start_later(worker);
    }

    fn fault(&mut self) {
        if !self.is_chaos() {
            return;
        }
        let pause = Duration::from_secs_f64((1.0 / self.scenario.faults).clamp(0.05, 20.0));
        self.later(pause, Happening::Fault);
        let worker = self.rng.random_range(0..self.workers.len());
        let (name, health) = (self.workers[worker].name.clone(), self.workers[worker].health);
        let incarnation = self.workers[worker].info().incarnation;
        match self.rng.random_range(0..10) {
            0..=3 if health == Health::Up => self.die(worker),
            4..=6 if health == Health::Up => {
                self.checker.tally.hangs += 1;
                let until = self.now + self.between(0, 15_000);
                self.workers[worker].health = Health::HungUntil(until);
                for task in self.workers[worker].running.clone() {
                    self.checker.died(&task, &name, &incarnation);
                }
            }
            7 => self.later(Duration::ZERO, Happening::AtMaster(SchedulerEvent::Drain { worker: name })),
            8 => {
                self.later(Duration::ZERO, Happening::AtMaster(SchedulerEvent::Remove { worker: name }));
                let (info, delay) = (self.workers[worker].info(), self.between(100, 10_000));
                let joined = SchedulerEvent::WorkerJoined { worker: info, invited: true };
                self.later(delay, Happening::AtMaster(joined));
            }
            9 if self.rng.random_bool(0.3) => {
                self.checker.tally.lost += self.shared.len() as u64;
                self.shared.clear();
            }
            _ => {}
        }
    }
}
