//! Actividad 1, the server: logs each message and its sender to `log.txt`, and acknowledges it.
//!
//! A message passes these steps: bytes → line ([`protocol::line`]) → record ([`journal`]) → disk → reply. Every
//! connection has its own task. All tasks share one journal, whose group commit lets many messages share one
//! `fdatasync`.
//!
//! The server does not recognise repeated messages (a message that is sent twice is logged twice), encrypt, or rotate
//! `log.txt`.

mod connection;
mod metrics;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use journal::{Journal, JournalFile};
use metrics::{ServerMetrics, ServerMonitor};
use page::{MetricsArguments, PageConfig};
use protocol::actividad1::{MAX_TEXT_BYTES, RefusalCode, ServerReply};
use protocol::line::DEFAULT_MAX_LINE_BYTES;
use service::net::{self, TcpListener};
use service::{Common, Shutdown, cli};

/// The name of the log file, as the assignment requires. A message is logged as the line `<time> <sender> "<message>"`.
/// A refused message is logged as `<time> <sender> ERROR <code> "<reason>"`, followed by its bytes (see
/// [`journal::record::RecordWriter::bytes`]) if they are the reason for the refusal.
pub const LOG_FILE: &str = "log.txt";

/// Logs each message and its sender to log.txt, and acknowledges it once it is on disk.
///
/// A message is one line of UTF-8 text over TCP; try: nc -N localhost 5000 <<< Hola
///
/// A message without a line end is complete when its sender is silent for a moment: see --quiet.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "server",
    version,
    after_help = "Each flag can also be set in the environment: --idle-timeout as SERVER_IDLE_TIMEOUT."
)]
pub struct ServerArguments {
    /// Address and port to listen on; port 0 chooses a free port
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,
    /// Folder of log.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Limits on what clients may do
    #[command(flatten)]
    pub limits: ServerLimits,
    /// Where metrics and health are served
    #[command(flatten)]
    pub metrics: MetricsArguments,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

/// Limits on what clients may do.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct ServerLimits {
    /// Longest message in bytes, 1 to 16777216
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_LINE_BYTES, value_parser = cli::count(1..=MAX_TEXT_BYTES))]
    pub max_message_bytes: usize,
    /// Connections served at the same time, 1 to 1000000; further ones are refused with a reason
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = cli::count(1..=1_000_000))]
    pub max_connections: usize,
    /// How long a client may take to complete a message, or to read its replies, before it is disconnected
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = cli::duration)]
    pub idle_timeout: Duration,
    /// How long a sender must be silent to end a message that has no line end; 0: only a line end ends a message
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = cli::duration_or_zero)]
    pub quiet: Duration,
}

/// Runs the server until `shutdown`.
///
/// # Errors
/// Fails if the server cannot start, or if `log.txt` fails so that nothing more can be acknowledged.
pub async fn run(arguments: ServerArguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let ServerArguments { listen, data_dir, limits, metrics: monitor, common: _ } = arguments;
    let monitor = PageConfig::from(monitor);
    net::make_room_for(limits.max_connections + monitor.connections()).map_err(anyhow::Error::msg)?;
    let log = open_log(&data_dir)?;
    let monitor = page::bind(&monitor)?;
    let listener = net::listen(listen)?;
    let (journal, metrics) = (Journal::start(log), ServerMetrics::new());
    let monitor = monitor.map(|listener| {
        let source = ServerMonitor::new(&metrics, journal.clone(), LOG_FILE);
        let serving = page::serve(listener, source, shutdown.clone());
        service::run_beside("metrics", serving)
    });
    let _monitor = monitor.transpose().context("cannot start the thread of the metrics")?;
    serve_counted(listener, journal, metrics, limits, shutdown).await
}

fn open_log(folder: &Path) -> anyhow::Result<JournalFile> {
    let path = folder.join(LOG_FILE);
    let (file, recovery) = JournalFile::open(&path)?;
    if recovery.torn_bytes > 0 {
        let cut_bytes = recovery.torn_bytes;
        tracing::warn!(
            cut_bytes,
            "log.txt ended in half a record that was never acknowledged: it was cut off"
        );
    }
    tracing::info!(path = %path.display(), bytes = recovery.whole_bytes, "log.txt opened");
    Ok(file)
}

/// Serves connections from `listener`, and logs their messages to `log`, until `shutdown` or until `log` fails.
///
/// # Errors
/// Fails if `log` fails. Every waiting client has received a refusal by then.
pub async fn serve(
    listener: TcpListener,
    log: JournalFile,
    limits: ServerLimits,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    serve_counted(listener, Journal::start(log), ServerMetrics::new(), limits, shutdown).await
}

async fn serve_counted(
    listener: TcpListener,
    journal: Journal,
    metrics: ServerMetrics,
    limits: ServerLimits,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("cannot tell the listening address")?;
    tracing::info!(%address, "listening");
    let log_open = shutdown.hold(LOG_FILE);
    let reason =
        format!("the server serves its {} connections already: try again later", limits.max_connections);
    let refusal =
        format!("{}\n", ServerReply::Refused { code: RefusalCode::TooManyConnections, reason: &reason });
    let max_connections = limits.max_connections;
    let context = Arc::new(connection::ServerContext {
        journal: journal.clone(),
        limits,
        metrics,
        shutdown: shutdown.clone(),
    });
    let handle = |stream, peer| {
        let context = context.clone();
        async move {
            match connection::serve(stream, peer, &context).await {
                Ok(()) => tracing::debug!(%peer, "connection closed"),
                Err(error) => tracing::warn!(%peer, %error, "connection closed"),
            }
        }
    };
    let watched = journal.clone();
    let watcher = shutdown.request_on_failure(LOG_FILE, async move { watched.failure().wait().await });
    net::serve(listener, max_connections, refusal, &shutdown, handle).await;
    drop(watcher);
    journal.close().await;
    drop(log_open);
    tracing::info!("log.txt closed");
    journal.failure().get().map_or(Ok(()), |failure| Err(failure.into()))
}
