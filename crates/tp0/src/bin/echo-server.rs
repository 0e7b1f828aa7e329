//! `echo-server`: see [`tp0::echo`].

use std::process::ExitCode;

use tp0::echo::server::{self, Arguments};

fn main() -> ExitCode {
    tp0::start::run_on_threads(
        "ECHO_SERVER",
        |arguments: &Arguments| &arguments.common,
        |arguments| arguments.threads,
        server::run,
    )
}
