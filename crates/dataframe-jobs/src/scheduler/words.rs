//! What people are told when something fails.

use std::time::Duration;

use super::job::ScheduledJob;
use crate::failure::{Failure, FailureCode};

pub(super) fn failure(code: FailureCode, message: impl Into<String>) -> Failure {
    Failure { code, message: message.into(), worker: None }
}

pub(super) fn refused(message: impl Into<String>) -> Failure {
    failure(FailureCode::Refused, message)
}

pub(super) fn poisonous(task: u32, deaths: &[String]) -> Failure {
    let message = format!(
        "task {task} is poisonous: the workers {} died while they ran it. The other tasks and the cluster are not to blame; \
         give the workers more memory, or look at what the task reads",
        deaths.join(", ")
    );
    failure(FailureCode::Poisonous, message)
}

pub(super) fn worn_out(task: u32, attempts: u32, why: &str) -> Failure {
    let message = format!(
        "task {task} was given to workers {attempts} times, and no result came back. The last time: {why}"
    );
    failure(FailureCode::Poisonous, message)
}

pub(super) fn no_workers(job: &ScheduledJob, waited: Duration) -> Failure {
    let message = format!(
        "the job waited {} s for {}, and {} of its {} tasks have no result",
        waited.as_secs_f64(),
        missing_worker(job),
        job.tasks.len() - job.done as usize,
        job.tasks.len()
    );
    failure(FailureCode::NoWorkers, message)
}

pub(super) fn no_wasm(why: &str) -> String {
    format!("the job calls WebAssembly modules, and {why}: start workers with --allow-wasm")
}

/// What a job waits for that no worker can go on with.
pub(super) fn missing_worker(job: &ScheduledJob) -> String {
    let mut pins = job.open_pinned.keys();
    match (job.open_anywhere, pins.next()) {
        (0, Some(worker)) => {
            let others = match pins.count() {
                0 => String::new(),
                others => format!(" and {others} other workers"),
            };
            format!("the worker {worker}{others}, which alone can read the files of its tasks")
        }
        (0, None) if job.open_wasm > 0 => {
            "a worker that runs WebAssembly modules (--allow-wasm): none is in the cluster".to_owned()
        }
        _ => "a worker: none is in the cluster".to_owned(),
    }
}
