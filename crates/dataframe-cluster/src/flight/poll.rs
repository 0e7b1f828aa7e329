//! The progress of a job for clients that do not want to wait in one call until it has ended.

use std::time::Duration;

use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo};
use dataframe_jobs::message::Progress;
use serde_json::json;
use tonic::Status;

use super::answers::internal;
use super::command::JobList;

/// A client that has seen the progress of a job waits so long at most until there is more of it.
pub(super) const NEWS: Duration = Duration::from_secs(5);

/// What a client gets of a job that runs. The descriptor for the next call holds the whole job, so that nothing is kept for it, and
/// another master that leads by then can begin it anew.
pub(super) fn running(list: &JobList, job: &str, progress: &Progress) -> Result<PollInfo, Status> {
    let command = json!({
        "operations": list.operations,
        "job": job,
        "explain": list.explain,
        "seen": [progress.done, progress.total],
    });
    // Without endpoints: no row is there before the job has ended. Its id is what CancelFlightInfo needs.
    let info = FlightInfo::new().with_app_metadata(job.to_owned()).with_ordered(true);
    PollInfo::new()
        .with_info(info)
        .with_descriptor(FlightDescriptor::new_cmd(command.to_string()))
        .try_with_progress(share(progress))
        .map_err(internal)
}

/// What a client gets of a job that has ended well.
pub(super) fn ended(info: FlightInfo) -> Result<PollInfo, Status> {
    PollInfo::new().with_info(info).try_with_progress(1.0).map_err(internal)
}

/// A job that is being planned has not begun, and one whose tasks are done still puts their results together.
fn share(progress: &Progress) -> f64 {
    f64::from(progress.done.min(progress.total)) / (f64::from(progress.total) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_grows_and_is_whole_at_the_end_only() {
        let at = |done, total| share(&Progress { done, total, running: 0, waiting_for: None });
        assert_eq!(at(0, 0), 0.0);
        assert!(at(0, 3) < at(1, 3) && at(1, 3) < at(3, 3) && at(3, 3) < 1.0);
        assert!((0.0..1.0).contains(&at(u32::MAX, u32::MAX)));
    }
}
