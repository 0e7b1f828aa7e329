//! `datanode`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("DATANODE", |arguments: &datanode::Arguments| &arguments.common, datanode::run)
}
