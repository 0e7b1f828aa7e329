//! The scheduler: which worker runs which task, and what happens when one is lost. A pure state machine.
//!
//! [`Scheduler::step`] takes what happened and the time, and returns what is to be done. There is no network, clock, thread
//! or random source inside, so that a simulation runs through thousands of clusters in seconds.
//!
//! | rule | |
//! | --- | --- |
//! | push | Without a shared queue a task goes to a worker with a free slot, and no worker has more tasks than slots. |
//! | pull | With a shared queue the broker holds tasks, and `Started` tells who took one. About two tasks for each slot stand in the queue, so that the jobs share the workers fairly. |
//! | modules | A task that calls WebAssembly modules goes to a worker that runs them, and never through the shared queue. If there are workers, and none of them does, the job fails at once. |
//! | pinned | A task whose file one worker has goes to that worker, and waits for it. |
//! | lease | `Started`, `Alive` and a heartbeat that lists an attempt renew its lease. An attempt whose lease ends is given up and started again. |
//! | lost worker | Its tasks start elsewhere at once. |
//! | first result | The first result of a task counts, whichever attempt it is of. The other attempts are stopped, and later results discarded. |
//! | poisonous | A job fails if three workers have died on one task. A worker that comes back alive takes its death back. |
//! | failure | A failure of the data fails the job at once. A worker that refuses or gives up a task does not fail it. |
//! | straggler | When no task of a job waits, one that runs much longer than the median is started a second time elsewhere. |
//! | waiting | A job that no worker can go on with waits as long as its client said, tells what for, and then fails. |
//! | fairness | Jobs take turns, task by task. |
//! | the door | A worker with another version, a taken name or address, or the master's own address is refused by name. |

mod assign;
mod config;
mod event;
mod job;
mod members;
mod membership;
mod progress;
mod state;
mod timers;
mod waiting;
mod words;

use std::time::Duration;

pub use config::SchedulerConfig;
pub use event::{AttemptLoss, GoneCause, LossCause, Recipient, SchedulerAction, SchedulerEvent, TaskSpec};
use state::SchedulerState;

use crate::message::{Progress, WorkerState, WorkerStatus};

/// Which worker runs which task. The [module](self) has the rules.
#[derive(Debug)]
pub struct Scheduler {
    state: SchedulerState,
}

impl Scheduler {
    /// Makes a scheduler without workers and jobs.
    pub fn new(config: SchedulerConfig) -> Self {
        Self { state: SchedulerState::new(config) }
    }

    /// Takes in what happened at `now`, the time since any fixed beginning, and returns what is to be done, in order.
    ///
    /// Time that runs backwards is taken as standing still.
    pub fn step(&mut self, event: SchedulerEvent, now: Duration) -> Vec<SchedulerAction> {
        let state = &mut self.state;
        state.now = state.now.max(now);
        state.losses.clear();
        Self::take_in(state, event);
        state.pass_time();
        state.release_drained();
        state.end_waits();
        state.assign();
        state.start_stragglers_again();
        std::mem::take(&mut state.actions)
    }

    fn take_in(state: &mut SchedulerState, event: SchedulerEvent) {
        match event {
            SchedulerEvent::WorkerJoined { worker, invited } => {
                state.admit(worker, invited);
            }
            SchedulerEvent::WorkerHeartbeat { worker, running } => state.heartbeat(worker, &running),
            SchedulerEvent::WorkerLeft { worker, incarnation } => {
                if state.members.is_run(&worker, &incarnation) {
                    state.dismiss(&worker, GoneCause::Left, "it left", None);
                }
            }
            SchedulerEvent::WorkerLost { worker, incarnation, why } => {
                if incarnation.is_none_or(|incarnation| state.members.is_run(&worker, &incarnation)) {
                    state.lose(&worker, GoneCause::Unreachable, &why);
                }
            }
            SchedulerEvent::Remove { worker } => state.send_away(&worker, true),
            SchedulerEvent::Drain { worker } => state.send_away(&worker, false),
            SchedulerEvent::JobPlanned { job, round, tasks, wait } => state.plan(&job, round, tasks, wait),
            SchedulerEvent::JobCancelled { job } => state.cancel(&job),
            SchedulerEvent::Started { task, worker } => state.sign_of_life(&task, &worker),
            SchedulerEvent::Alive { task } => state.alive(&task),
            SchedulerEvent::ResultComplete { task, worker } => state.result(&task, &worker),
            SchedulerEvent::TaskFailed { task, worker, failure } => state.failed(&task, &worker, failure),
            SchedulerEvent::TaskLost { task, worker, why } => state.lost(&task, worker.as_deref(), &why),
            SchedulerEvent::TaskDied { task, worker, why } => state.died(&task, &worker, &why),
            SchedulerEvent::Tick => {}
        }
    }

    /// The attempts that were lost in the last step.
    pub fn losses(&self) -> &[AttemptLoss] {
        &self.state.losses
    }

    /// When [`SchedulerEvent::Tick`] is due at the latest; `None` if nothing is waited for. It may be earlier than anything
    /// happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.state.wake
    }

    /// All workers, in the order of their names, lost ones included.
    pub fn nodes(&self, now: Duration) -> Vec<WorkerStatus> {
        let status = |(_, member): (&String, &members::ClusterMember)| WorkerStatus {
            info: member.info.clone(),
            state: member.state,
            running: u32::try_from(member.attempts.len()).unwrap_or(u32::MAX),
            finished: member.finished,
            silent_ms: u64::try_from(now.saturating_sub(member.last_seen).as_millis()).unwrap_or(u64::MAX),
        };
        self.state.members.iter().map(status).collect()
    }

    /// The slots of all workers that get tasks.
    pub fn slots(&self) -> usize {
        self.state.members.slots()
    }

    /// How far a job is; `None` if it does not run.
    pub fn progress(&self, job: &str) -> Option<Progress> {
        let state = &self.state;
        let job = state.jobs.get(job)?;
        let held = job.held();
        let waiting_for = if job.stalled_since.is_some() {
            Some(words::missing_worker(job))
        } else if held == 0 && !job.waiting.is_empty() {
            let is_any_ready = state.members.iter().any(|(_, member)| member.state == WorkerState::Ready);
            is_any_ready.then(|| format!("a free slot among {}", state.members.slots()))
        } else {
            None
        };
        let total = u32::try_from(job.tasks.len()).unwrap_or(u32::MAX);
        Some(Progress {
            done: job.done,
            total,
            running: u32::try_from(held).unwrap_or(u32::MAX),
            waiting_for,
        })
    }

    /// The round with which a job can be planned next: 0 for an unknown job, else one more than before.
    pub fn next_round(&self, job: &str) -> u32 {
        let running = self.state.jobs.get(job).map(|job| job.round);
        running
            .or_else(|| self.state.ended.get(job).map(|ended| ended.round))
            .map_or(0, |round| round.saturating_add(1))
    }

    /// What the scheduler was told.
    pub fn config(&self) -> &SchedulerConfig {
        &self.state.config
    }
}
