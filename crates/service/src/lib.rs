//! All assignments, what every program needs, written once.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | arguments: flags over environment over default, one-line errors, exit codes |
//! | [`logging`] | events to stderr, as text or JSON, never waiting for a slow terminal |
//! | [`shutdown`] | SIGTERM and SIGINT, an ordered end, a deadline |
//! | [`net`] | the network: TCP, UDP multicast, a bounded accept loop; another one can take its place |
//! | [`frames`] | frames from a byte stream, a batch at a time |
//! | [`exchange`] | one connection: requests in batches, replies in order, idle and slow peers told apart |
//!
//! A program's `main` is [`run`] and nothing else:
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
pub use environment::{Environment, new_ulid};
pub use shutdown::Shutdown;

/// How long background threads get to end once the program has, before the process ends without them.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// Runs a program from its arguments to its exit code: 0, 1 (it failed, and said why), or 2 (wrong arguments).
///
/// `prefix` is put before the name of each flag to give its environment variable. The program runs on one thread: the
/// work here is small per message, and a thread less to wake is latency saved.
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
