//! `minicluster`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run(
        "MINICLUSTER",
        |arguments: &minicluster::MiniclusterArguments| &arguments.common,
        minicluster::run,
    )
}
