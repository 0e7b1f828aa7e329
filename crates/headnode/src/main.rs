//! `headnode`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("HEADNODE", |arguments: &headnode::Arguments| &arguments.common, headnode::run)
}
