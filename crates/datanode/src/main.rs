//! `datanode`: see the library.

use std::process::ExitCode;

use datanode::{DatanodeArguments, DatanodeConfig};

fn main() -> ExitCode {
    service::run(
        "DATANODE",
        |arguments: &DatanodeArguments| &arguments.common,
        |arguments, shutdown| async { datanode::run(DatanodeConfig::try_from(arguments)?, shutdown).await },
    )
}
