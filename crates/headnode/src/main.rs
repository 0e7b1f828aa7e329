//! The program `headnode`. The library of this crate does all the work.

use std::process::ExitCode;

use headnode::{HeadnodeArguments, HeadnodeConfig};

fn main() -> ExitCode {
    let run = |arguments, shutdown| headnode::run(HeadnodeConfig::from(arguments), shutdown);
    service::run("HEADNODE", |arguments: &HeadnodeArguments| &arguments.common, run)
}
