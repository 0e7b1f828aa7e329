//! Start and end of all four programs: arguments, configuration, logs, signals, and the exit code.
//!
//! The exit code is 0 if all went well, 1 if the program failed and said why, and 2 after wrong arguments or a wrong
//! configuration, which it names in one line. Standard output carries the action log and nothing else; diagnostics go to stderr,
//! warnings and worse unless `--log-level` asks for more.

use std::future::Future;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use service::cli::{self, LogFormat, LogLevel};
use service::{Shutdown, logging};
use tokio::runtime::{Builder, Runtime};

use crate::action_log::{ActionLog, action};
use crate::config::{ProgramConfig, environment_variable};

/// How long background threads get to end after a program that nobody asked to end.
const RUNTIME_END: Duration = Duration::from_millis(500);
/// The name of each worker thread, as the system shows it.
const WORKER: &str = "worker";

/// Flags that all four programs have.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Running")]
pub struct ProgramArguments {
    /// Configuration file instead of config.ini (servers) or config.yaml (clients) in the current folder
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Least severe diagnostics on stderr; the configuration has the level of the action log on standard output
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: LogLevel,
    /// How diagnostics look on stderr
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// How long the program may finish what is in flight after SIGTERM or SIGINT, before it exits anyway
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = cli::duration)]
    pub shutdown_deadline: Duration,
}

/// All that a program runs with.
#[derive(Debug)]
pub struct ProgramContext<A, C> {
    pub arguments: A,
    pub config: C,
    pub log: ActionLog,
    /// Requested by SIGTERM or SIGINT.
    pub shutdown: Shutdown,
}

/// Runs a program from its arguments to its exit code, on one thread.
///
/// `prefix` is put before the name of each flag to give its environment variable.
pub fn run<A, C, F, Fut>(prefix: &'static str, common: fn(&A) -> &ProgramArguments, program: F) -> ExitCode
where
    A: clap::Parser,
    C: ProgramConfig,
    F: FnOnce(ProgramContext<A, C>) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    run_on_threads(prefix, common, |_| 1, program)
}

/// Runs a program as [`run`] does, with as many threads for its tasks as `threads` says.
///
/// One thread is the caller's. More than one are workers beside it, which the caller joins at the end.
pub fn run_on_threads<A, C, F, Fut>(
    prefix: &'static str,
    common: fn(&A) -> &ProgramArguments,
    threads: fn(&A) -> usize,
    program: F,
) -> ExitCode
where
    A: clap::Parser,
    C: ProgramConfig,
    F: FnOnce(ProgramContext<A, C>) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let arguments: A = match cli::parse(prefix, std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let flags = common(&arguments).clone();
    let _events = logging::start(&service::Common {
        log_level: flags.log_level,
        log_format: flags.log_format,
        shutdown_deadline: flags.shutdown_deadline,
    });
    let config = match C::read(flags.config.as_deref(), &environment_variable) {
        Ok(config) => config,
        Err(error) => {
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            return ExitCode::from(cli::USAGE);
        }
    };
    let (log, mut flush) = ActionLog::stdout(config.log_level());
    let outcome = Shutdown::on_signals(flags.shutdown_deadline).map_err(Into::into).and_then(|shutdown| {
        let runtime = runtime(threads(&arguments))?;
        let client_id = config.client_id().map(str::to_owned);
        let context = ProgramContext { arguments, config, log: log.clone(), shutdown: shutdown.clone() };
        let outcome = runtime.block_on(program(context));
        if shutdown.is_requested() {
            end(runtime, &log, &shutdown, client_id.as_deref(), &outcome);
            flush.wait_for(flags.shutdown_deadline);
        } else {
            runtime.shutdown_timeout(RUNTIME_END);
        }
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

fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(threads).thread_name(WORKER).enable_all().build()
}

/// Ends a program that was asked to: waits for its threads, and writes the last line. Another thread keeps the deadline.
fn end(
    runtime: Runtime,
    log: &ActionLog,
    shutdown: &Shutdown,
    client_id: Option<&str>,
    outcome: &anyhow::Result<()>,
) {
    let held = shutdown.hold("threads");
    drop(runtime);
    drop(held);
    action!(log, INFO, "join_thread", "success", thread = "runtime", client_id);
    match outcome {
        Ok(()) => action!(log, INFO, "shutdown", "success", client_id),
        Err(error) => {
            action!(log, ERROR, "shutdown", "fail", error = %format_args!("{error:#}"), client_id);
        }
    }
}
