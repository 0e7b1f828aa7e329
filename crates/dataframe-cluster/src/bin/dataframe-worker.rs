//! The program `dataframe-worker`. The library of this crate does all the work.

use std::process::ExitCode;

use dataframe_cluster::WorkerArguments;

fn main() -> ExitCode {
    service::run(
        "DATAFRAME_WORKER",
        |arguments: &WorkerArguments| &arguments.common,
        dataframe_cluster::run_worker,
    )
}
