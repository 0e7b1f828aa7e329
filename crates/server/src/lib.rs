//! Actividad 1, the server: logs each message and its sender to `log.txt`, and acknowledges it.
//!
//! The way of a message: bytes → line ([`protocol::line`]) → record ([`journal`]) → disk → reply. Every connection has
//! a task of its own; all share one journal, whose group commit lets many messages share one `fdatasync`.
//!
//! What it does not do: tell clients apart (who sends twice is logged twice), encrypt, or rotate `log.txt`.

mod connection;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use journal::{Journal, JournalFile};
use protocol::actividad1::{MAX_TEXT_BYTES, RefusalCode, ServerReply};
use protocol::line::DEFAULT_MAX_LINE_BYTES;
use service::net::{self, TcpListener};
use service::{Common, Shutdown, cli};

/// The file of the assignment. A message is the line `<time> <sender> "<message>"`; one that was refused is
/// `<time> <sender> ERROR <code> "<reason>"`, followed by its bytes (see [`journal::record::RecordWriter::bytes`]) where they
/// are what was wrong with it.
pub const LOG_FILE: &str = "log.txt";

/// Logs each message and its sender to log.txt, and acknowledges it once it is on disk.
///
/// A message is one line of UTF-8 text over TCP; try: nc -N localhost 5000 <<< Hola
/// A sender that writes no line end and waits for the reply is understood too: see --quiet.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "server",
    version,
    after_help = "Each flag can also be set in the environment: --idle-timeout as SERVER_IDLE_TIMEOUT."
)]
pub struct Arguments {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,
    /// Folder of log.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Limits for what clients may do
    #[command(flatten)]
    pub limits: Limits,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

/// What clients may do.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Longest message in bytes, 1 to 16777216
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_LINE_BYTES, value_parser = cli::count(1..=MAX_TEXT_BYTES))]
    pub max_message_bytes: usize,
    /// Connections served at the same time, 1 to 1000000; further ones are refused with a reason
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = cli::count(1..=1_000_000))]
    pub max_connections: usize,
    /// How long a connection may go without completing a message, or without taking its replies
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = cli::duration)]
    pub idle_timeout: Duration,
    /// How long a sender is silent when its message ends without a line end; 0: only a line end ends a message
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = cli::duration_or_zero)]
    pub quiet: Duration,
}

/// Runs the server until `shutdown`.
///
/// # Errors
/// If it cannot start, or if `log.txt` fails so that nothing more can be acknowledged.
pub async fn run(arguments: Arguments, shutdown: Shutdown) -> anyhow::Result<()> {
    net::make_room_for(arguments.limits.max_connections).map_err(anyhow::Error::msg)?;
    let log = open_log(&arguments.data_dir)?;
    let listener = net::listen(arguments.listen)?;
    serve(listener, log, arguments.limits, shutdown).await
}

fn open_log(folder: &Path) -> anyhow::Result<JournalFile> {
    let path = folder.join(LOG_FILE);
    let (file, recovery) = JournalFile::open(&path)?;
    if recovery.torn_bytes > 0 {
        let cut_bytes = recovery.torn_bytes;
        tracing::warn!(cut_bytes, "log.txt ended in half a record that was never acknowledged: cut it off");
    }
    tracing::info!(path = %path.display(), bytes = recovery.whole_bytes, "log.txt opened");
    Ok(file)
}

/// Serves connections from `listener` and logs their messages to `log`, until `shutdown` or until `log` fails.
///
/// # Errors
/// If `log` fails; every waiting client has then been told.
pub async fn serve(
    listener: TcpListener,
    log: JournalFile,
    limits: Limits,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("cannot tell the listening address")?;
    tracing::info!(%address, "listening");
    let journal = Journal::start(log);
    let log_open = shutdown.hold(LOG_FILE);
    let reason =
        format!("the server serves its {} connections already: try again later", limits.max_connections);
    let refusal =
        format!("{}\n", ServerReply::Refused { code: RefusalCode::TooManyConnections, reason: &reason });
    let max_connections = limits.max_connections;
    let context =
        Arc::new(connection::Context { journal: journal.clone(), limits, shutdown: shutdown.clone() });
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
