//! `lottery-agency`: see [`tp0::lottery`].

use std::process::ExitCode;

use tp0::lottery::agency::{self, Arguments};

fn main() -> ExitCode {
    tp0::start::run("LOTTERY_AGENCY", |arguments: &Arguments| &arguments.common, agency::run)
}
