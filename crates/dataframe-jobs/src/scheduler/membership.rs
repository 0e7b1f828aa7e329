//! Workers come and go.

use super::event::{GoneCause, LossCause, SchedulerAction};
use super::members::{Admission, AttemptKey, ClusterMember, RunEnd, TaskKey};
use super::state::{Loss, SchedulerState};
use super::words::refused;
use crate::message::{TaskId, WorkerInfo, WorkerState};

impl SchedulerState {
    /// Takes a worker in or refuses it. Tells whether it is in.
    pub(super) fn admit(&mut self, mut info: WorkerInfo, invited: bool) -> bool {
        let added_at = match self.members.get(&info.name) {
            _ if invited => info.address.clone(),
            Some(member) if member.info.incarnation == info.incarnation => member.added_at.clone(),
            _ => None,
        };
        if added_at.is_some() {
            info.address.clone_from(&added_at);
        }
        let admission = match self.members.check(&info, invited, &self.config) {
            Ok(admission) => admission,
            Err(failure) => {
                self.actions.push(SchedulerAction::Refuse { worker: info.name, failure });
                return false;
            }
        };
        let (name, incarnation) = (info.name.clone(), info.incarnation.clone());
        match admission {
            Admission::Known | Admission::Back => self.welcome_again(info),
            Admission::New => self.members.insert(info, self.now, &self.config),
            Admission::Successor => {
                self.lose(&name, GoneCause::Replaced, "another run of it has its place");
                self.members.remove(&name, Some(RunEnd::Replaced));
                self.members.insert(info, self.now, &self.config);
            }
        }
        if let Some(member) = self.members.get_mut(&name) {
            member.added_at = added_at;
        }
        self.wake_by(self.now.saturating_add(self.config.worker_timeout));
        if admission != Admission::Known {
            self.actions.push(SchedulerAction::Admit { worker: name, incarnation });
        }
        true
    }

    fn welcome_again(&mut self, info: WorkerInfo) {
        let (now, timeout) = (self.now, self.config.worker_timeout);
        let Some(member) = self.members.get_mut(&info.name) else { return };
        let name = info.name.clone();
        member.info = info;
        member.last_seen = now;
        // What it sent before it died may come after its reply broke off. A sign of life that comes much later is a real one.
        member.suspected.retain(|(_, since)| now.saturating_sub(*since) < timeout / 2);
        if member.state == WorkerState::Lost {
            member.state = WorkerState::Ready;
            for task in std::mem::take(&mut member.mourned) {
                self.forget_death(&task, &name);
            }
        }
    }

    /// A worker tells what it runs.
    pub(super) fn heartbeat(&mut self, info: WorkerInfo, running: &[TaskId]) {
        let name = info.name.clone();
        if !self.admit(info, false) {
            return;
        }
        for id in running {
            self.sign_of_life(id, &name);
        }
        if self.members.state_of(&name) == Some(WorkerState::Draining) {
            self.actions.push(SchedulerAction::TellDraining { worker: name });
        }
    }

    /// A worker is lost: its tasks start elsewhere, and those that it had begun have killed it for all that is known.
    pub(super) fn lose(&mut self, name: &str, cause: GoneCause, why: &str) {
        let rounds = |state: &Self, key: &AttemptKey| TaskKey {
            job: key.job.clone(),
            round: state.jobs.get(&key.job).map_or(0, |job| job.round),
            task: key.task,
        };
        let Some(member) = self.members.get_mut(name).filter(|member| member.state != WorkerState::Lost)
        else {
            return;
        };
        member.state = WorkerState::Lost;
        let incarnation = member.info.incarnation.clone();
        let held = std::mem::take(&mut member.attempts);
        let mut died_on: Vec<_> =
            std::mem::take(&mut member.suspected).into_iter().map(|(task, _)| task).collect();
        died_on.extend(held.iter().filter(|(_, begun)| **begun).map(|(key, _)| rounds(self, key)));
        died_on.sort();
        died_on.dedup();
        for key in held.keys() {
            self.take_from(key, name);
            self.note_loss(key, Some(name), LossCause::WorkerGone);
        }
        let mourned = self.blame(died_on, name);
        if let Some(member) = self.members.get_mut(name) {
            member.mourned = mourned;
        }
        let why = format!("the worker {name} is lost: {why}");
        for key in held.keys() {
            self.start_again(key, Loss::WithWorker, &why);
        }
        self.actions.push(SchedulerAction::WorkerGone { worker: name.to_owned(), incarnation, cause, why });
    }

    /// Notes a death on each of these tasks, and returns them. If one of them is poisonous, the others are not to blame and keep
    /// their chances.
    fn blame(&mut self, mut tasks: Vec<TaskKey>, worker: &str) -> Vec<TaskKey> {
        if tasks.iter().any(|task| self.is_known_poison(&task.job, task.round, task.task)) {
            return Vec::new();
        }
        tasks.sort_by_key(|task| std::cmp::Reverse(self.suspicion(task)));
        let poisonous = tasks.iter().position(|task| self.note_death(task, worker));
        if let Some(place) = poisonous {
            tasks.truncate(place);
        }
        tasks
    }

    /// A worker goes for a reason that no task is to blame for.
    pub(super) fn dismiss(&mut self, name: &str, cause: GoneCause, why: &str, end: Option<RunEnd>) {
        let Some(member) = self.members.get_mut(name) else { return };
        let (incarnation, is_here) = (member.info.incarnation.clone(), member.state != WorkerState::Lost);
        let held: Vec<_> = std::mem::take(&mut member.attempts).into_keys().collect();
        self.members.remove(name, end);
        for key in held {
            self.take_from(&key, name);
            self.note_loss(&key, Some(name), LossCause::WorkerGone);
            let task = self.id(&key);
            self.actions.push(SchedulerAction::Stop { task, worker: name.to_owned() });
            self.start_again(&key, Loss::WithWorker, why);
        }
        if is_here {
            let (worker, why) = (name.to_owned(), why.to_owned());
            self.actions.push(SchedulerAction::WorkerGone { worker, incarnation, cause, why });
        }
    }

    /// A person removes or drains a worker, which is named or whose address is given.
    pub(super) fn send_away(&mut self, name_or_address: &str, at_once: bool) {
        let Some(name) = self.members.find(name_or_address) else {
            let message = format!("no worker is called {name_or_address}, and none is at such an address");
            let action =
                SchedulerAction::Refuse { worker: name_or_address.to_owned(), failure: refused(message) };
            self.actions.push(action);
            return;
        };
        match self.members.get_mut(&name) {
            Some(member) if !at_once && member.state != WorkerState::Lost => {
                member.state = WorkerState::Draining;
            }
            _ => self.dismiss(&name, GoneCause::Removed, "it was removed", Some(RunEnd::Removed)),
        }
    }

    /// Lets drained workers go.
    pub(super) fn release_drained(&mut self) {
        let drained = |(name, member): (&String, &ClusterMember)| {
            (member.state == WorkerState::Draining && member.attempts.is_empty()).then(|| name.clone())
        };
        let names: Vec<_> = self.members.iter().filter_map(drained).collect();
        for name in names {
            self.dismiss(&name, GoneCause::Drained, "it is drained", Some(RunEnd::Removed));
        }
    }
}
