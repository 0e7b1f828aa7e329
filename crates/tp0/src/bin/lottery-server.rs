//! `lottery-server`: see [`tp0::lottery`].

use std::process::ExitCode;

use tp0::lottery::server::{self, Arguments};

fn main() -> ExitCode {
    tp0::start::run("LOTTERY_SERVER", |arguments: &Arguments| &arguments.common, server::run)
}
