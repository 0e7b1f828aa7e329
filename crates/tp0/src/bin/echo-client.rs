//! `echo-client`: see [`tp0::echo`].

use std::process::ExitCode;

use tp0::echo::client::{self, EchoClientArguments};

fn main() -> ExitCode {
    tp0::start::run("ECHO_CLIENT", |arguments: &EchoClientArguments| &arguments.common, client::run)
}
