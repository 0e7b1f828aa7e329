//! `server`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("SERVER", |arguments: &server::Arguments| &arguments.common, server::run)
}
