//! What a scheduler is told once.

use std::time::Duration;

/// What a [`Scheduler`](crate::scheduler) is told once. `SchedulerConfig::default()` has values for everything but the versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Whether the middleware has a queue from which any free worker takes tasks (`Capabilities::shared_queue`). Without one
    /// the scheduler chooses a worker with a free slot for each task.
    pub shared_queue: bool,
    /// The version of DataFusion that workers must have, because the format of plans is tied to it.
    pub datafusion: String,
    /// The release that workers must have.
    pub release: String,
    /// The master's own addresses. A worker that gives one of them is refused.
    pub own_addresses: Vec<String>,
    /// How long an attempt at a task lasts without a sign of life. 10 s.
    pub lease: Duration,
    /// How long a worker may be silent before it counts as lost. 5 s.
    pub worker_timeout: Duration,
    /// How many workers may die on a task before the job fails. 3.
    pub max_deaths: usize,
    /// How often a task is started before the job fails, whatever became of the attempts. 30.
    pub max_attempts: u32,
    /// A task is started a second time when it has run this many times as long as the median task of its job. 2.
    pub straggler_factor: u32,
    /// A task that has run for less than this is no straggler. 1 s.
    pub straggler_floor: Duration,
    /// Workers in the cluster, lost ones included. 1,024.
    pub max_workers: usize,
    /// Jobs that have not ended. 256.
    pub max_jobs: usize,
    /// Tasks of one job. 100,000.
    pub max_tasks: usize,
    /// Jobs that have ended and are remembered. 1,024.
    pub max_ended: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            shared_queue: false,
            datafusion: String::new(),
            release: String::new(),
            own_addresses: Vec::new(),
            lease: Duration::from_secs(10),
            worker_timeout: Duration::from_secs(5),
            max_deaths: 3,
            max_attempts: 30,
            straggler_factor: 2,
            straggler_floor: Duration::from_secs(1),
            max_workers: 1024,
            max_jobs: 256,
            max_tasks: 100_000,
            max_ended: 1024,
        }
    }
}
