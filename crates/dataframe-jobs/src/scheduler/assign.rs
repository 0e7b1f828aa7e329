//! Which task goes to which worker next.

use std::sync::Arc;

use super::event::Recipient;
use super::job::ScheduledJob;
use super::members::ClusterMember;
use super::state::SchedulerState;

/// How many tasks stand with the workers and in the shared queue for each slot, so that no worker waits for the master.
const QUEUED_PER_SLOT: usize = 2;

impl SchedulerState {
    /// Gives tasks to workers as long as there are both. The jobs take turns, task by task.
    pub(super) fn assign(&mut self) {
        let mut room = self.queue_room();
        loop {
            let mut found = None;
            for _ in 0..self.turns.len() {
                let Some(job) = self.turns.pop_front() else { break };
                self.turns.push_back(Arc::clone(&job));
                if let Some((task, to)) = self.jobs.get(&job).and_then(|scheduled| self.pick(scheduled, room))
                {
                    found = Some((job, task, to));
                    break;
                }
            }
            let Some((job, task, to)) = found else { return };
            room = room.saturating_sub(usize::from(to == Recipient::AnyWorker));
            self.send(&job, task, to, false);
        }
    }

    /// How many more tasks the shared queue takes.
    fn queue_room(&self) -> usize {
        if !self.config.shared_queue || self.jobs.values().all(|job| job.waiting.is_empty()) {
            return 0;
        }
        let queued: usize = self.jobs.values().map(ScheduledJob::queued).sum();
        let held: usize = self.members.iter().map(|(_, member)| member.attempts.len()).sum();
        (QUEUED_PER_SLOT * self.members.slots()).saturating_sub(queued + held)
    }

    fn pick(&self, job: &ScheduledJob, room: usize) -> Option<(u32, Recipient)> {
        if job.waiting.is_empty() {
            return None;
        }
        let pick = self
            .pick_pinned(job)
            .or_else(|| self.pick_fragile(job))
            .or_else(|| self.pick_wasm(job))
            .or_else(|| self.pick_preferred(job));
        if let Some((task, worker)) = pick {
            return Some((task, Recipient::Worker(worker.to_owned())));
        }
        if self.config.shared_queue {
            let task = others(job).next().filter(|_| room > 0)?;
            return Some((task, Recipient::AnyWorker));
        }
        self.pick_any(job).map(|(task, worker)| (task, Recipient::Worker(worker.to_owned())))
    }

    fn pick_pinned(&self, job: &ScheduledJob) -> Option<(u32, &str)> {
        job.waiting.pinned.iter().find_map(|(worker, tasks)| {
            let (worker, member) = self.with_room(worker)?;
            let takes_fragile = !self.has_fragile(member);
            let fits = |task| job.task(task).is_some_and(|task| member.fits(&task.spec));
            let task =
                tasks.iter().find(|task| fits(**task) && (takes_fragile || !self.is_fragile(job, **task)))?;
            Some((*task, worker))
        })
    }

    fn pick_fragile(&self, job: &ScheduledJob) -> Option<(u32, &str)> {
        let of_kind = |wasm: bool| {
            let mut tasks = job.waiting.fragile.iter();
            tasks.find(|task| job.task(**task).is_some_and(|task| task.spec.wasm == wasm))
        };
        // Tasks of one kind have the same workers to choose from, so that the first of each decides.
        of_kind(false)
            .and_then(|task| self.choose(job, *task))
            .or_else(|| of_kind(true).and_then(|task| self.choose(job, *task)))
    }

    fn pick_wasm(&self, job: &ScheduledJob) -> Option<(u32, &str)> {
        job.waiting.wasm.first().and_then(|task| self.choose(job, *task))
    }

    /// Chooses the worker for a task that does not go through the shared queue.
    fn choose(&self, job: &ScheduledJob, number: u32) -> Option<(u32, &str)> {
        let task = job.task(number)?;
        let is_fragile = self.is_fragile(job, number);
        let fit = self.members.iter().filter(|(_, member)| {
            member.fits(&task.spec)
                && member.has_room(self.config.shared_queue)
                && !(is_fragile && self.has_fragile(member))
        });
        let avoid = task.avoid.as_deref();
        let (worker, _) = fit.max_by_key(|(name, member)| (avoid != Some(name.as_str()), member.free()))?;
        Some((number, worker))
    }

    fn pick_preferred(&self, job: &ScheduledJob) -> Option<(u32, &str)> {
        job.waiting.preferred.iter().find_map(|(worker, tasks)| {
            let (worker, _) = self.with_room(worker).filter(|(_, member)| member.free() > 0)?;
            let task = tasks.iter().find(|task| !self.is_avoided(job, **task, worker))?;
            Some((*task, worker))
        })
    }

    fn pick_any(&self, job: &ScheduledJob) -> Option<(u32, &str)> {
        let mut free: Vec<_> = self.members.iter().filter(|(_, member)| member.free() > 0).collect();
        free.sort_by_key(|(_, member)| std::cmp::Reverse(member.free()));
        free.iter().find_map(|(worker, _)| {
            let task = others(job).find(|task| !self.is_avoided(job, *task, worker))?;
            Some((task, worker.as_str()))
        })
    }

    fn with_room(&self, worker: &str) -> Option<(&str, &ClusterMember)> {
        let (name, member) = self.members.entry(worker)?;
        member.has_room(self.config.shared_queue).then_some((name, member))
    }

    /// Whether a task was lost at this worker, and another one is there.
    fn is_avoided(&self, job: &ScheduledJob, task: u32, worker: &str) -> bool {
        job.task(task).is_some_and(|task| {
            task.avoid.as_deref() == Some(worker) && self.members.is_ready_besides(worker, &task.spec)
        })
    }

    fn is_fragile(&self, job: &ScheduledJob, task: u32) -> bool {
        job.task(task).is_some_and(|task| task.is_fragile(self.config.max_deaths))
    }

    fn has_fragile(&self, member: &ClusterMember) -> bool {
        member
            .attempts
            .keys()
            .any(|key| self.jobs.get(&key.job).is_some_and(|job| self.is_fragile(job, key.task)))
    }

    /// Starts slow tasks a second time, near the end of a job, on workers that have nothing better to do.
    pub(super) fn start_stragglers_again(&mut self) {
        if !self.members.iter().any(|(_, member)| member.free() > 0) {
            return;
        }
        let names: Vec<_> = self.turns.iter().cloned().collect();
        for name in names {
            let slow = self.jobs.get(&name).map(|job| self.stragglers(job)).unwrap_or_default();
            for (task, due, holder) in slow {
                if due > self.now {
                    self.wake_by(due);
                    continue;
                }
                let Some(spec) = self.jobs.get(&name).and_then(|job| job.task(task)).map(|task| &task.spec)
                else {
                    continue;
                };
                let free = self
                    .members
                    .iter()
                    .filter(|(name, member)| **name != holder && member.free() > 0 && member.fits(spec));
                let best = free.max_by_key(|(_, member)| member.free()).map(|(name, _)| name.clone());
                if let Some(worker) = best {
                    self.send(&name, task, Recipient::Worker(worker), true);
                }
            }
        }
    }

    /// The tasks of a job that could be started a second time, when, and the worker that has them.
    fn stragglers(&self, job: &ScheduledJob) -> Vec<(u32, std::time::Duration, String)> {
        let config = &self.config;
        let is_near_end =
            job.waiting.is_empty() && job.delayed.is_empty() && job.done as usize * 2 >= job.tasks.len();
        let Some(median) = is_near_end.then(|| job.median()).flatten() else { return Vec::new() };
        let patience = median.saturating_mul(config.straggler_factor).max(config.straggler_floor);
        let slow = job.attempts.iter().filter_map(|((number, _), live)| {
            let task = job.task(*number)?;
            let [holder] = &live.holders[..] else { return None };
            let may = task.spec.pinned.is_none()
                && !live.is_second
                && task.seconds < 2
                && task.attempts < config.max_attempts
                && !self.is_fragile(job, *number)
                && job.attempts_of(*number).count() == 1;
            let due = holder.begun?.saturating_add(patience);
            may.then(|| (*number, due, holder.worker.clone()))
        });
        slow.collect()
    }
}

/// The waiting tasks that any worker can get: those that prefer no worker first, then those of the worker with the most.
fn others(job: &ScheduledJob) -> impl Iterator<Item = u32> {
    let most = job.waiting.preferred.values().max_by_key(|tasks| tasks.len());
    job.waiting.free.iter().chain(most.into_iter().flatten()).copied()
}
