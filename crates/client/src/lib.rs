//! Actividad 1, the client: sends messages to the server, prints each reply and records it in `respuestas.txt`.
//!
//! Messages are sent without waiting for each other's replies, up to a window; replies come in the same order.
//! A message is never sent twice, because the server could not tell a repetition from a new message. When the connection
//! breaks, the client says how many messages were acknowledged, and ends.

#![allow(missing_docs, reason = "a program's own library: only its binary and tests use it")]

mod exchange;
mod input;
mod replies;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use journal::JournalFile;
use service::net::TcpStream;
use service::{Common, Shutdown, cli, net};

use input::ClientInput;
use replies::ReplyLog;

/// The file with the replies, as the assignment names it.
pub const REPLIES_FILE: &str = "respuestas.txt";

/// Sends messages to the server, prints each reply and records it in respuestas.txt.
///
/// Without a message it sends a greeting. Exit code 0: every message was acknowledged; 1: not so; 2: wrong arguments.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "client",
    version,
    after_help = "Examples:\n  client\n  client \"Hola\" \"¿Qué tal?\"\n  seq 1000 | client -\n\
                  Each flag can also be set in the environment: --server as CLIENT_SERVER."
)]
pub struct ClientArguments {
    /// Messages to send; a lone `-` reads them from standard input, line by line
    #[arg(value_name = "MESSAGE", value_parser = input::one_line)]
    pub messages: Vec<String>,
    /// The server's host and port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000", value_parser = cli::host_and_port)]
    pub server: String,
    /// Folder of respuestas.txt, created if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Longest wait for a server that is not up yet
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = cli::duration)]
    pub wait: Duration,
    /// Longest wait for the reply to a message that was sent
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = cli::duration)]
    pub reply_timeout: Duration,
    #[command(flatten)]
    pub common: Common,
}

/// Sends the messages and records the replies.
///
/// # Errors
/// If a message was not acknowledged.
pub async fn run(arguments: ClientArguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let input = ClientInput::from_arguments(&arguments.messages);
    let (file, recovery) = JournalFile::open(&arguments.data_dir.join(REPLIES_FILE))?;
    if recovery.torn_bytes > 0 {
        tracing::warn!(cut_bytes = recovery.torn_bytes, "respuestas.txt ended in half a record: cut it off");
    }
    let stream = tokio::select! {
        connected = connect(&arguments.server, arguments.wait) => connected?,
        () = shutdown.requested() => anyhow::bail!("stopped before a connection to {} was made", arguments.server),
    };
    let replies = ReplyLog::start(stream.peer_addr()?, file);
    let tally = exchange::run(stream, input, &replies, arguments.reply_timeout, &shutdown).await;
    replies.close().await;
    tally.verdict()
}

/// Connects, and tries again until `wait` has passed: a server that is being started is not an error.
async fn connect(server: &str, wait: Duration) -> anyhow::Result<TcpStream> {
    let started = tokio::time::Instant::now();
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times();
    let attempt = || net::connect(server, wait.saturating_sub(started.elapsed()));
    let connected = attempt
        .retry(backoff)
        .when(|_| started.elapsed() < wait)
        .notify(|error, pause| tracing::debug!(server, %error, ?pause, "no connection yet"))
        .await;
    connected.with_context(|| {
        format!(
            "cannot connect to {server} within {wait:?}: check that the server runs there, or set --server"
        )
    })
}
