//! One job: its tasks, and the attempts at them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::event::TaskSpec;
use super::waiting::WaitingTasks;

/// The median is that of the last results, so that a job of many tasks needs no more memory than one of few.
const REMEMBERED_DURATIONS: usize = 255;

/// A worker that has an attempt.
#[derive(Debug)]
pub(super) struct Holder {
    pub worker: String,
    /// When it began, as far as it has said so.
    pub begun: Option<Duration>,
    pub deadline: Duration,
}

/// An attempt whose result is still expected.
#[derive(Debug)]
pub(super) struct LiveAttempt {
    pub sent: Duration,
    /// Several, if a broker has delivered the attempt more than once.
    pub holders: Vec<Holder>,
    /// When an attempt in the shared queue, which nobody has taken, counts as lost; `None` once a worker has it.
    pub queued_until: Option<Duration>,
    /// It stood in the shared queue for too long, and another attempt has taken its place. It counts again if a worker takes it.
    pub is_overdue: bool,
    /// A second attempt beside a slow one.
    pub is_second: bool,
}

impl LiveAttempt {
    /// Whether nothing can come of it any more.
    pub(super) fn is_lost(&self) -> bool {
        self.holders.is_empty() && self.queued_until.is_none()
    }
}

/// One task.
#[derive(Debug)]
pub(super) struct ScheduledTask {
    pub spec: TaskSpec,
    pub is_waiting: bool,
    pub delayed_until: Option<Duration>,
    /// The number of its latest attempt; 0 before the first.
    pub attempts: u32,
    /// The worker and the attempt whose result counts.
    pub result: Option<(String, u32)>,
    /// The workers that died on it.
    pub deaths: Vec<String>,
    /// How often its reply broke off after a worker had begun it. Each time the worker may have died, but it was not missed.
    pub doubts: usize,
    /// Where it was lost last. Another worker gets it if there is one.
    pub avoid: Option<String>,
    /// How often it was lost without a death.
    pub losses: u32,
    /// How often a second attempt was started beside a slow one.
    pub seconds: u32,
}

impl ScheduledTask {
    /// Whether one more death of a worker on it may fail the job. Such a task is kept apart from others, so that no other task
    /// is taken for the cause.
    pub(super) fn is_fragile(&self, max_deaths: usize) -> bool {
        max_deaths > 1 && self.deaths.len() + self.doubts + 1 >= max_deaths
    }
}

/// One job that has not ended.
#[derive(Debug)]
pub(super) struct ScheduledJob {
    pub round: u32,
    pub wait: Duration,
    pub tasks: Vec<ScheduledTask>,
    pub waiting: WaitingTasks,
    pub delayed: BTreeSet<(Duration, u32)>,
    /// By task and attempt.
    pub attempts: BTreeMap<(u32, u32), LiveAttempt>,
    pub done: u32,
    /// Tasks without a result that any worker can run.
    pub open_anywhere: usize,
    /// Tasks without a result that any worker can run that runs WebAssembly modules.
    pub open_wasm: usize,
    /// Tasks without a result that one worker alone can run.
    pub open_pinned: BTreeMap<String, usize>,
    /// Since when no worker can go on with it.
    pub stalled_since: Option<Duration>,
    durations: VecDeque<Duration>,
}

impl ScheduledJob {
    pub(super) fn new(round: u32, specs: Vec<TaskSpec>, wait: Duration) -> Self {
        let mut job = Self {
            round,
            wait,
            tasks: Vec::with_capacity(specs.len()),
            waiting: WaitingTasks::default(),
            delayed: BTreeSet::new(),
            attempts: BTreeMap::new(),
            done: 0,
            open_anywhere: 0,
            open_wasm: 0,
            open_pinned: BTreeMap::new(),
            stalled_since: None,
            durations: VecDeque::new(),
        };
        for (task, spec) in (0..).zip(specs) {
            job.waiting.insert(task, &spec, false);
            match &spec.pinned {
                Some(worker) => *job.open_pinned.entry(worker.clone()).or_default() += 1,
                None if spec.wasm => job.open_wasm += 1,
                None => job.open_anywhere += 1,
            }
            job.tasks.push(ScheduledTask {
                spec,
                is_waiting: true,
                delayed_until: None,
                attempts: 0,
                result: None,
                deaths: Vec::new(),
                doubts: 0,
                avoid: None,
                losses: 0,
                seconds: 0,
            });
        }
        job
    }

    pub(super) fn task(&self, task: u32) -> Option<&ScheduledTask> {
        self.tasks.get(task as usize)
    }

    pub(super) fn task_mut(&mut self, task: u32) -> Option<&mut ScheduledTask> {
        self.tasks.get_mut(task as usize)
    }

    pub(super) fn attempts_of(&self, task: u32) -> impl Iterator<Item = (u32, &LiveAttempt)> {
        self.attempts.range((task, 0)..=(task, u32::MAX)).map(|((_, attempt), live)| (*attempt, live))
    }

    /// Whether a worker has some other attempt at the task.
    pub(super) fn is_held_elsewhere(&self, task: u32, attempt: u32) -> bool {
        self.attempts_of(task).any(|(other, live)| other != attempt && !live.holders.is_empty())
    }

    /// Whether a result is still expected from an attempt at the task.
    pub(super) fn is_under_way(&self, task: u32) -> bool {
        self.attempts_of(task).any(|(_, live)| !live.is_overdue)
    }

    /// Makes a task wait for a worker, from `until` on where it is given.
    pub(super) fn enqueue(&mut self, task: u32, until: Option<Duration>, max_deaths: usize) {
        let Some(state) = self.tasks.get_mut(task as usize) else { return };
        state.delayed_until = until;
        if let Some(until) = until {
            self.delayed.insert((until, task));
        } else {
            state.is_waiting = true;
            self.waiting.insert(task, &state.spec, state.is_fragile(max_deaths));
        }
    }

    /// Takes a task out of those that wait.
    pub(super) fn dequeue(&mut self, task: u32) {
        let Some(state) = self.tasks.get_mut(task as usize) else { return };
        if let Some(until) = state.delayed_until.take() {
            self.delayed.remove(&(until, task));
        }
        if state.is_waiting {
            state.is_waiting = false;
            self.waiting.remove(task, &state.spec);
        }
    }

    /// Notes the result of a task, which has none yet.
    pub(super) fn note_result(&mut self, task: u32, worker: &str, attempt: u32, took: Option<Duration>) {
        self.dequeue(task);
        let Some(state) = self.tasks.get_mut(task as usize) else { return };
        state.result = Some((worker.to_owned(), attempt));
        self.done += 1;
        match &state.spec.pinned {
            None if state.spec.wasm => self.open_wasm -= 1,
            None => self.open_anywhere -= 1,
            Some(worker) => {
                if let Some(open) = self.open_pinned.get_mut(worker) {
                    *open -= 1;
                    if *open == 0 {
                        self.open_pinned.remove(worker);
                    }
                }
            }
        }
        if let Some(took) = took {
            self.durations.push_back(took);
            if self.durations.len() > REMEMBERED_DURATIONS {
                self.durations.pop_front();
            }
        }
    }

    /// How long its tasks take, as far as some have a result.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut durations: Vec<_> = self.durations.iter().copied().collect();
        let middle = durations.len() / 2;
        (!durations.is_empty()).then(|| *durations.select_nth_unstable(middle).1)
    }

    /// Attempts that workers have.
    pub(super) fn held(&self) -> usize {
        self.attempts.values().filter(|live| !live.holders.is_empty()).count()
    }

    /// Attempts that stand in the shared queue.
    pub(super) fn queued(&self) -> usize {
        self.attempts.values().filter(|live| live.queued_until.is_some() && !live.is_overdue).count()
    }

    /// Whether a worker has one of its tasks, or could get one. `takes` tells whether a worker is ready for such a task.
    pub(super) fn can_go_on(
        &self,
        takes: impl Fn(&str, &TaskSpec) -> bool,
        is_any_ready: bool,
        is_any_wasm_ready: bool,
    ) -> bool {
        let takes_pinned = |worker: &String| match self.waiting.pinned.get(worker) {
            Some(tasks) => {
                tasks.iter().filter_map(|task| self.task(*task)).any(|task| takes(worker, &task.spec))
            }
            None => takes(worker, &TaskSpec::default()),
        };
        (self.open_anywhere > 0 && is_any_ready)
            || (self.open_wasm > 0 && is_any_wasm_ready)
            || self.open_pinned.keys().any(takes_pinned)
            || self.attempts.values().any(|live| !live.holders.is_empty())
    }

    pub(super) fn places(&self) -> Vec<(u32, String, u32)> {
        (0..)
            .zip(&self.tasks)
            .filter_map(|(task, state)| {
                state.result.as_ref().map(|(worker, attempt)| (task, worker.clone(), *attempt))
            })
            .collect()
    }
}
