//! `echo-client`: see [`tp0::echo`].

use std::process::ExitCode;

use tp0::echo::client::{self, Arguments};

fn main() -> ExitCode {
    tp0::start::run("ECHO_CLIENT", |arguments: &Arguments| &arguments.common, client::run)
}
