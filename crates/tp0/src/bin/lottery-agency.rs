//! `lottery-agency`: see [`tp0::lottery`].

use std::process::ExitCode;

use tp0::lottery::agency::{self, AgencyArguments};

fn main() -> ExitCode {
    tp0::start::run("LOTTERY_AGENCY", |arguments: &AgencyArguments| &arguments.common, agency::run)
}
