//! All assignments: the parts that every program needs.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | arguments from flags, environment and defaults, one-line errors, exit codes |
//! | [`logging`] | events to stderr, as text or JSON, without waiting for a slow terminal |
//! | [`shutdown`] | SIGTERM and SIGINT, an orderly end, a deadline |
//! | [`net`] | the network: TCP, UDP multicast and a bounded accept loop; a simulation can replace it |
//! | [`frames`] | frames from a byte stream, a batch at a time |
//! | [`exchange`] | one connection: requests in batches, replies in order, limits for idle and slow peers |
//!
//! A program's `main` only calls [`run`]:
//!
//! ```no_run
//! #[derive(clap::Parser)]
//! struct Arguments {
//!     #[command(flatten)]
//!     common: service::Common,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     service::run("EXAMPLE", |arguments: &Arguments| &arguments.common, |_arguments, shutdown| async move {
//!         shutdown.requested().await;
//!         Ok(())
//!     })
//! }
//! ```

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

pub mod cli;
mod environment;
pub mod exchange;
pub mod frames;
pub mod logging;
pub mod net;
pub mod shutdown;

pub use cli::Common;
pub use environment::{Environment, WallClock, new_ulid, run_beside};
pub use shutdown::Shutdown;

/// Time for background threads to end after the program. Then the process ends without them.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// Runs a program from its arguments to its exit code: 0 for success, 1 if the program failed and logged why, or 2 for
/// wrong arguments.
///
/// `prefix` and the name of a flag make the name of the flag's environment variable. The program runs on one thread:
/// the work per message is small, and a second thread would add the latency of waking it.
pub fn run<A, F, Fut>(prefix: &'static str, common: fn(&A) -> &Common, program: F) -> ExitCode
where
    A: clap::Parser,
    F: FnOnce(A, Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let arguments: A = match cli::parse(prefix, std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let common = common(&arguments).clone();
    let _flush_at_exit = logging::start(&common);
    let outcome = Shutdown::on_signals(common.shutdown_deadline).map_err(Into::into).and_then(|shutdown| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(program(arguments, shutdown));
        runtime.shutdown_timeout(RUNTIME_END);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
