//! The program `dataframe-master`. The library of this crate does all the work.

use std::process::ExitCode;

use dataframe_cluster::MasterArguments;

fn main() -> ExitCode {
    service::run(
        "DATAFRAME_MASTER",
        |arguments: &MasterArguments| &arguments.common,
        dataframe_cluster::run_master,
    )
}
