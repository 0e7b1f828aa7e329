//! `echo-server`: see [`tp0::echo`].

use std::process::ExitCode;

use tp0::echo::server::{self, EchoServerArguments};

fn main() -> ExitCode {
    tp0::start::run_on_threads(
        "ECHO_SERVER",
        |arguments: &EchoServerArguments| &arguments.common,
        |arguments| arguments.threads,
        server::run,
    )
}
