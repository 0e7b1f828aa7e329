//! `lottery-server`: see [`tp0::lottery`].

use std::process::ExitCode;

use tp0::lottery::server::{self, LotteryServerArguments};

fn main() -> ExitCode {
    tp0::start::run("LOTTERY_SERVER", |arguments: &LotteryServerArguments| &arguments.common, server::run)
}
