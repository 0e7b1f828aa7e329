//! `minicluster`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "simulation")]
    if std::env::args_os().nth(1).is_some_and(|word| word == "simulate") {
        return minicluster::simulate::main(std::env::args_os().skip(1));
    }
    service::run(
        "MINICLUSTER",
        |arguments: &minicluster::MiniclusterArguments| &arguments.common,
        minicluster::run,
    )
}
