//! The program `server`. The library of this crate does all the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("SERVER", |arguments: &server::ServerArguments| &arguments.common, server::run)
}
