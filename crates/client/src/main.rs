//! `client`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("CLIENT", |arguments: &client::ClientArguments| &arguments.common, client::run)
}
