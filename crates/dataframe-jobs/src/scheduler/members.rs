//! The workers of the cluster, and the check at the door.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::config::SchedulerConfig;
use super::event::TaskSpec;
use super::words::refused;
use crate::failure::Failure;
use crate::message::{WorkerInfo, WorkerState};

/// Runs of workers that are not taken in again.
const REMEMBERED_RUNS: usize = 1024;
const MAX_NAME_BYTES: usize = 256;

/// Names an attempt inside the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttemptKey {
    pub job: Arc<str>,
    pub task: u32,
    pub attempt: u32,
}

/// Names a task inside the scheduler, for as long as its job has the same plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskKey {
    pub job: Arc<str>,
    pub round: u32,
    pub task: u32,
}

/// One worker.
#[derive(Debug)]
pub(super) struct ClusterMember {
    pub info: WorkerInfo,
    /// The address by which a person added this run. It is good for the master, whatever the worker thinks of its own.
    pub added_at: Option<String>,
    pub state: WorkerState,
    pub last_seen: Duration,
    pub finished: u64,
    /// The attempts that it has, and whether it has begun them.
    pub attempts: BTreeMap<AttemptKey, bool>,
    /// Tasks whose reply broke off at this worker, and when. If the worker turns out to be dead, it died on them.
    pub suspected: Vec<(TaskKey, Duration)>,
    /// Tasks on which it died, as far as anybody knew. It takes these deaths back if it comes back alive.
    pub mourned: Vec<TaskKey>,
}

impl ClusterMember {
    fn new(info: WorkerInfo, now: Duration) -> Self {
        Self {
            info,
            added_at: None,
            state: WorkerState::Ready,
            last_seen: now,
            finished: 0,
            attempts: BTreeMap::new(),
            suspected: Vec::new(),
            mourned: Vec::new(),
        }
    }

    /// Slots without a task.
    pub(super) fn free(&self) -> usize {
        match self.state {
            WorkerState::Ready => (self.info.slots as usize).saturating_sub(self.attempts.len()),
            WorkerState::Draining | WorkerState::Lost => 0,
        }
    }

    /// Whether it is able to run a task, whatever it does at the moment.
    pub(super) fn fits(&self, spec: &TaskSpec) -> bool {
        self.info.wasm || !spec.wasm
    }

    /// Whether it can be sent a task that is meant for it. Behind a broker the task may stand in the worker's own queue while
    /// tasks of the shared queue take its slots.
    pub(super) fn has_room(&self, shared_queue: bool) -> bool {
        let sent = self.attempts.values().filter(|begun| !**begun).count();
        self.free() > 0
            || (shared_queue && self.state == WorkerState::Ready && sent < self.info.slots as usize)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.attempts.values().filter(|begun| **begun).count() >= self.info.slots as usize
    }
}

/// How a worker came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It was here all the time.
    Known,
    /// It was lost, and is back.
    Back,
    /// Its name is new.
    New,
    /// Its name is that of a run that has ended.
    Successor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// A person removed or drained it.
    Removed,
    /// Another run has its name.
    Replaced,
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct ClusterMembers {
    by_name: BTreeMap<String, ClusterMember>,
    ended_runs: VecDeque<(String, String, RunEnd)>,
}

impl ClusterMembers {
    pub(super) fn get(&self, name: &str) -> Option<&ClusterMember> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut ClusterMember> {
        self.by_name.get_mut(name)
    }

    /// Whether the worker of this name is in this run.
    pub(super) fn is_run(&self, name: &str, incarnation: &str) -> bool {
        self.get(name).is_some_and(|member| member.info.incarnation == incarnation)
    }

    /// A worker, with its name as it is kept here.
    pub(super) fn entry(&self, name: &str) -> Option<(&str, &ClusterMember)> {
        self.by_name.get_key_value(name).map(|(name, member)| (name.as_str(), member))
    }

    /// Whether some other worker gets tasks such as this one.
    pub(super) fn is_ready_besides(&self, name: &str, spec: &TaskSpec) -> bool {
        let mut others = self.by_name.iter().filter(|(other, _)| *other != name);
        others.any(|(_, member)| member.state == WorkerState::Ready && member.fits(spec))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &ClusterMember)> {
        self.by_name.iter()
    }

    pub(super) fn state_of(&self, name: &str) -> Option<WorkerState> {
        self.get(name).map(|member| member.state)
    }

    pub(super) fn is_any_ready(&self) -> bool {
        self.by_name.values().any(|member| member.state == WorkerState::Ready)
    }

    /// Whether some worker that runs WebAssembly modules gets tasks.
    pub(super) fn is_any_wasm_ready(&self) -> bool {
        self.by_name.values().any(|member| member.state == WorkerState::Ready && member.info.wasm)
    }

    /// The slots of all workers that get tasks.
    pub(super) fn slots(&self) -> usize {
        let ready = self.by_name.values().filter(|member| member.state == WorkerState::Ready);
        ready.map(|member| member.info.slots as usize).sum()
    }

    /// The name of the worker with this name or address. A worker that is not lost goes first.
    pub(super) fn find(&self, name_or_address: &str) -> Option<String> {
        if self.by_name.contains_key(name_or_address) {
            return Some(name_or_address.to_owned());
        }
        let at_address = self.by_name.iter().filter(|(_, member)| is_at(&member.info, name_or_address));
        at_address.min_by_key(|(_, member)| member.state == WorkerState::Lost).map(|(name, _)| name.clone())
    }

    /// Whether a person removed the worker of this name, and no other one has the name.
    pub(super) fn is_removed(&self, name: &str) -> bool {
        !self.by_name.contains_key(name)
            && self.ended_runs.iter().any(|(other, _, end)| other == name && *end == RunEnd::Removed)
    }

    /// Checks a worker at the door.
    pub(super) fn check(
        &self,
        info: &WorkerInfo,
        invited: bool,
        config: &SchedulerConfig,
    ) -> Result<Admission, Failure> {
        check_alone(info, config)?;
        let known = self.by_name.get(&info.name);
        let is_same_run = known.is_some_and(|member| member.info.incarnation == info.incarnation);
        let ended = self
            .ended_runs
            .iter()
            .find(|(name, run, _)| *name == info.name && *run == info.incarnation)
            .map(|(_, _, end)| *end);
        match ended {
            Some(RunEnd::Removed) if !invited => {
                return Err(refused(format!(
                    "the worker {} was removed: add it with `nodes add`, or start it again",
                    info.name
                )));
            }
            Some(RunEnd::Replaced) if !is_same_run => {
                return Err(refused(format!("another run of the worker {} has taken its place", info.name)));
            }
            _ => {}
        }
        if let Some(address) = &info.address
            && let Some((other, _)) = self.by_name.iter().find(|(name, member)| {
                **name != info.name && member.state != WorkerState::Lost && is_at(&member.info, address)
            })
        {
            return Err(refused(format!("the worker {other} is at the address {address} already")));
        }
        let Some(member) = known else {
            let is_full = self.by_name.len() >= config.max_workers;
            if is_full && self.by_name.values().all(|member| member.state != WorkerState::Lost) {
                return Err(refused(format!(
                    "the cluster has {} workers, and takes no more",
                    config.max_workers
                )));
            }
            return Ok(Admission::New);
        };
        // Two programs cannot listen at one address, so that a worker at the same address is the next run of the same one.
        let is_same_place = info.address.as_ref().is_some_and(|address| is_at(&member.info, address));
        match member.state {
            WorkerState::Lost if is_same_run => Ok(Admission::Back),
            WorkerState::Ready | WorkerState::Draining if is_same_run => Ok(Admission::Known),
            WorkerState::Lost => Ok(Admission::Successor),
            WorkerState::Ready | WorkerState::Draining if is_same_place => Ok(Admission::Successor),
            WorkerState::Ready | WorkerState::Draining => Err(refused(format!(
                "the name {} is taken by another worker, which is alive: choose another name",
                info.name
            ))),
        }
    }

    /// Takes a worker in that passed [`ClusterMembers::check`] and whose name is free.
    pub(super) fn insert(&mut self, info: WorkerInfo, now: Duration, config: &SchedulerConfig) {
        self.ended_runs.retain(|(name, run, _)| *name != info.name || *run != info.incarnation);
        if self.by_name.len() >= config.max_workers {
            let lost = self.by_name.iter().filter(|(_, member)| member.state == WorkerState::Lost);
            let oldest = lost.min_by_key(|(_, member)| member.last_seen).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.by_name.remove(&name));
        }
        self.by_name.insert(info.name.clone(), ClusterMember::new(info, now));
    }

    /// Forgets a worker that has no attempts.
    pub(super) fn remove(&mut self, name: &str, end: Option<RunEnd>) {
        if let Some(member) = self.by_name.remove(name)
            && let Some(end) = end
        {
            self.ended_runs.push_back((name.to_owned(), member.info.incarnation, end));
            if self.ended_runs.len() > REMEMBERED_RUNS {
                self.ended_runs.pop_front();
            }
        }
    }
}

fn is_at(info: &WorkerInfo, address: &str) -> bool {
    info.address.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(address))
}

fn check_alone(info: &WorkerInfo, config: &SchedulerConfig) -> Result<(), Failure> {
    let WorkerInfo { name, datafusion, release, .. } = info;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(refused(format!("the name of a worker has 1 to {MAX_NAME_BYTES} bytes")));
    }
    if *datafusion != config.datafusion {
        return Err(refused(format!(
            "the worker {name} has DataFusion {datafusion}, and the master has {}: their plans differ. Run the same release on both",
            config.datafusion
        )));
    }
    if *release != config.release {
        return Err(refused(format!(
            "the worker {name} is release {release}, and the master is release {}: run the same release on both",
            config.release
        )));
    }
    if info.slots == 0 {
        return Err(refused(format!("the worker {name} has no slots: it must have at least one")));
    }
    match &info.address {
        Some(address) if config.own_addresses.iter().any(|own| own.eq_ignore_ascii_case(address)) => {
            Err(refused(format!("{address} is the master's own address, and not that of the worker {name}")))
        }
        _ => Ok(()),
    }
}
