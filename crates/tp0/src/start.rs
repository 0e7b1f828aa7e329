//! What all four programs do first: arguments, configuration, logs, signals; and last: the exit code.
//!
//! Exit code 0: all well; 1: it failed and said why; 2: wrong arguments or configuration, told in one line. Standard output
//! carries the action log and nothing else; what else there is to say goes to stderr, warnings and worse unless
//! `--log-level` asks for more.

use std::future::Future;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use service::cli::{self, LogFormat, LogLevel};
use service::{Shutdown, logging};

use crate::action_log::{ActionLog, Level};
use crate::config::{ClientConfig, ConfigError, ServerConfig};

/// How long background threads get to end once the program has.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// Flags that all four programs have.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Running")]
pub struct Common {
    /// Configuration file instead of config.ini (servers) or config.yaml (clients) in the current folder
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Least severe diagnostics on stderr; the action log on standard output has its level in the configuration
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: LogLevel,
    /// How diagnostics look on stderr
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// After SIGTERM or SIGINT: how long to finish what is in flight before exiting anyway
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = cli::duration)]
    pub shutdown_deadline: Duration,
}

/// A program's configuration.
pub trait Configuration: Sized {
    /// Reads it from the environment and from this file, or else the usual one in the current folder.
    ///
    /// # Errors
    /// What is wrong, for a person.
    fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError>;

    /// The level of the action log.
    fn log_level(&self) -> Level;
}

impl Configuration for ServerConfig {
    fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        Self::load(file)
    }

    fn log_level(&self) -> Level {
        self.logging_level
    }
}

impl Configuration for ClientConfig {
    fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        Self::load(file)
    }

    fn log_level(&self) -> Level {
        self.log_level
    }
}

/// What a program is given to run with.
#[derive(Debug)]
pub struct Context<A, C> {
    /// Its flags.
    pub arguments: A,
    /// Its configuration.
    pub config: C,
    /// Where its action lines go.
    pub log: ActionLog,
    /// SIGTERM or SIGINT.
    pub shutdown: Shutdown,
}

/// Runs a program from its arguments to its exit code, on one thread.
///
/// `prefix` is put before the name of each flag to give its environment variable.
pub fn run<A, C, F, Fut>(prefix: &'static str, common: fn(&A) -> &Common, program: F) -> ExitCode
where
    A: clap::Parser,
    C: Configuration,
    F: FnOnce(Context<A, C>) -> Fut,
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
    let config = match C::load(flags.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            return ExitCode::from(cli::USAGE);
        }
    };
    let outcome = ActionLog::stdout(config.log_level()).map_err(Into::into).and_then(|(log, _flush)| {
        let shutdown = Shutdown::on_signals(flags.shutdown_deadline)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(program(Context { arguments, config, log, shutdown }));
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
