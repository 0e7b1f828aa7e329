//! `store-client`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run(
        "STORE_CLIENT",
        |arguments: &store_client::StoreClientArguments| &arguments.settings.0.common,
        store_client::run,
    )
}
