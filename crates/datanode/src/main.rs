//! The program `datanode`. The library of this crate does all the work.

use std::process::ExitCode;

use datanode::{DatanodeArguments, DatanodeConfig};

fn main() -> ExitCode {
    service::run(
        "DATANODE",
        |arguments: &DatanodeArguments| &arguments.common,
        |arguments, shutdown| async { datanode::run(DatanodeConfig::try_from(arguments)?, shutdown).await },
    )
}
