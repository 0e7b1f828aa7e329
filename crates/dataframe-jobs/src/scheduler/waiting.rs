//! The tasks of one job that wait for a worker, in the order in which workers get them.

use std::collections::{BTreeMap, BTreeSet};

use super::event::TaskSpec;

/// The waiting tasks of one job.
#[derive(Debug, Default)]
pub(super) struct WaitingTasks {
    /// By the only worker that can run them.
    pub pinned: BTreeMap<String, BTreeSet<u32>>,
    /// Tasks whose next death fails the job. No worker gets two of them at a time, so that an innocent task is not blamed
    /// for the one beside it.
    pub fragile: BTreeSet<u32>,
    /// Tasks for workers that run WebAssembly modules. They never stand in the shared queue, from which any worker takes them.
    pub wasm: BTreeSet<u32>,
    /// By the worker that has their files nearby.
    pub preferred: BTreeMap<String, BTreeSet<u32>>,
    /// All others.
    pub free: BTreeSet<u32>,
}

impl WaitingTasks {
    pub(super) fn insert(&mut self, task: u32, spec: &TaskSpec, is_fragile: bool) {
        if let Some(worker) = &spec.pinned {
            self.pinned.entry(worker.clone()).or_default().insert(task);
        } else if is_fragile {
            self.fragile.insert(task);
        } else if spec.wasm {
            self.wasm.insert(task);
        } else if let Some(worker) = &spec.prefers {
            self.preferred.entry(worker.clone()).or_default().insert(task);
        } else {
            self.free.insert(task);
        }
    }

    pub(super) fn remove(&mut self, task: u32, spec: &TaskSpec) {
        self.fragile.remove(&task);
        self.wasm.remove(&task);
        self.free.remove(&task);
        remove_from(&mut self.pinned, spec.pinned.as_ref(), task);
        remove_from(&mut self.preferred, spec.prefers.as_ref(), task);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pinned.is_empty()
            && self.fragile.is_empty()
            && self.wasm.is_empty()
            && self.preferred.is_empty()
            && self.free.is_empty()
    }
}

fn remove_from(sets: &mut BTreeMap<String, BTreeSet<u32>>, worker: Option<&String>, task: u32) {
    if let Some(worker) = worker
        && let Some(set) = sets.get_mut(worker)
    {
        set.remove(&task);
        if set.is_empty() {
            sets.remove(worker);
        }
    }
}
