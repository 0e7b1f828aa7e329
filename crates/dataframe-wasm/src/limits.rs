//! What an instance and a task may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What modules may use. One unit of fuel is about one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WasmLimits {
    /// The memory of an instance in bytes. There are at most as many instances as threads.
    pub memory_bytes: usize,
    /// The fuel for each row. A function by batch gets that of all rows of its batch together.
    pub fuel_per_row: u64,
    /// The fuel for all rows of a task.
    pub fuel_per_task: u64,
}

impl WasmLimits {
    /// 64 MiB.
    pub const MEMORY_BYTES: u64 = 64 << 20;
    /// A million: a few milliseconds.
    pub const FUEL_PER_ROW: u64 = 1_000_000;
    /// A million millions: an hour or more.
    pub const FUEL_PER_TASK: u64 = 1_000_000_000_000;
}

impl Default for WasmLimits {
    fn default() -> Self {
        Self {
            memory_bytes: usize::try_from(Self::MEMORY_BYTES).unwrap_or(usize::MAX),
            fuel_per_row: Self::FUEL_PER_ROW,
            fuel_per_task: Self::FUEL_PER_TASK,
        }
    }
}

/// What all calls of one task share: the fuel that is left, and whether the task was stopped. Clones are the same budget.
#[derive(Debug, Clone)]
pub struct TaskBudget {
    limits: WasmLimits,
    shared: Arc<SharedBudget>,
}

#[derive(Debug)]
struct SharedBudget {
    fuel: AtomicU64,
    stopped: AtomicBool,
}

impl TaskBudget {
    /// The budget of a task that begins.
    #[must_use]
    pub fn new(limits: WasmLimits) -> Self {
        let shared =
            SharedBudget { fuel: AtomicU64::new(limits.fuel_per_task), stopped: AtomicBool::new(false) };
        Self { limits, shared: Arc::new(shared) }
    }

    /// The limits of the task.
    #[must_use]
    pub fn limits(&self) -> WasmLimits {
        self.limits
    }

    /// Stops all calls of the task, those under way within a slice of fuel.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether a call of the task has used fuel.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.fuel() < self.limits.fuel_per_task
    }

    /// Stops the task when the guard is dropped, whether it has ended or was given up.
    #[must_use]
    pub fn stop_on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn fuel(&self) -> u64 {
        self.shared.fuel.load(Ordering::Relaxed)
    }

    pub(crate) fn charge(&self, used: u64) {
        let take = |fuel: u64| Some(fuel.saturating_sub(used));
        // The closure always gives a value.
        let _ = self.shared.fuel.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }
}

/// Stops a task when it is dropped. A call under way cannot be dropped itself.
#[derive(Debug)]
pub struct StopOnDrop(TaskBudget);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
