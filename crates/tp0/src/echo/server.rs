//! `echo-server`: sends back each line, to many clients at once.

use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use page::{MetricsArguments, PageConfig};
use service::{cli, net};

use super::connection;
use super::metrics::{EchoMetrics, EchoMonitor};
use crate::config::ServerConfig;
use crate::listener::LoggedListener;
use crate::start::{ProgramArguments, ProgramContext};

const MAX_THREADS: usize = 1024;

/// Sends back the line that a client sends, one on each connection.
///
/// Configured by config.ini in the current folder and by the environment: SERVER_PORT, SERVER_IP, SERVER_LISTEN_BACKLOG,
/// LOGGING_LEVEL, CONNECTION_TIMEOUT. Try: nc localhost 12345 <<< Hola
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "echo-server",
    version,
    after_help = "Each flag can also be set in the environment: --keep-connections as ECHO_SERVER_KEEP_CONNECTIONS=true."
)]
pub struct EchoServerArguments {
    /// Echoes every line of a connection until the client ends it, and not the first line only
    #[arg(long)]
    pub keep_connections: bool,
    /// Connections served at the same time, 1 to 1000000; the server refuses further ones and closes them
    #[arg(long, value_name = "COUNT", default_value_t = 4000, value_parser = cli::count(1..=1_000_000))]
    pub max_connections: usize,
    /// Threads that serve connections in parallel, 1 to 1024; by default one for each processor
    #[arg(long, value_name = "COUNT", default_value_t = processors(), value_parser = cli::count(1..=MAX_THREADS))]
    pub threads: usize,
    /// Where metrics and health are served
    #[command(flatten)]
    pub metrics: MetricsArguments,
    /// Flags that all programs of TP0 have
    #[command(flatten)]
    pub common: ProgramArguments,
}

/// Returns the number of processors that this process may use.
fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot listen.
pub async fn run(context: ProgramContext<EchoServerArguments, ServerConfig>) -> anyhow::Result<()> {
    let ProgramContext { arguments, config, log, shutdown } = context;
    config.tell(&log);
    let (monitor, metrics) = (PageConfig::from(arguments.metrics), EchoMetrics::new());
    net::make_room_for(arguments.max_connections + monitor.connections()).map_err(anyhow::Error::msg)?;
    let monitor = page::bind(&monitor)?.map(|listener| {
        let source = Arc::new(EchoMonitor::new(&metrics));
        service::run_beside("metrics", page::serve(listener, source, shutdown.clone()))
    });
    let _monitor = monitor.transpose().context("cannot start the thread of the metrics")?;
    let listener = LoggedListener::open(&config, log.clone())?;
    let shared = Arc::new(connection::EchoShared {
        log,
        timeout: config.connection_timeout.duration(),
        keep: arguments.keep_connections,
        metrics,
        shutdown: shutdown.clone(),
    });
    let handle = |stream, peer| {
        let shared = shared.clone();
        async move { connection::serve(stream, peer, &shared).await }
    };
    let refusal = connection::refusal(arguments.max_connections);
    net::serve(listener, arguments.max_connections, refusal, &shutdown, handle).await;
    Ok(())
}
