//! `client`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("CLIENT", |arguments: &client::Arguments| &arguments.common, client::run)
}
