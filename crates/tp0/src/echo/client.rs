//! `echo-client`: sends messages one by one, each on a connection of its own, and reads their echoes.

use std::io;
use std::time::Duration;

use anyhow::bail;
use protocol::line::{AtEof, DEFAULT_MAX_LINE_BYTES, LineCodec, Rejection};
use service::Shutdown;
use service::exchange::{self, Exchange, ExchangeEnded};
use service::net::{self, TcpStream};
use tokio::time::{Instant, sleep};

use crate::action_log::{ActionLog, action, closed};
use crate::config::ClientConfig;
use crate::start::{ProgramArguments, ProgramContext};

/// How long the server may take to accept a connection, to take a message, and to send its echo.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the client waits for an echo after SIGTERM.
const GRACE: Duration = Duration::from_millis(300);

/// Sends `loop.amount` messages to an echo server and checks what comes back.
///
/// Configured by config.yaml in the current folder and by the environment: CLI_ID, CLI_SERVER_ADDRESS, CLI_LOOP_AMOUNT,
/// CLI_LOOP_LAPSE, CLI_LOOP_PERIOD, CLI_LOG_LEVEL.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "echo-client",
    version,
    after_help = "Each flag can also be set in the environment: --config as ECHO_CLIENT_CONFIG."
)]
pub struct EchoClientArguments {
    /// Flags that all programs of TP0 have
    #[command(flatten)]
    pub common: ProgramArguments,
}

/// Why a message was not echoed.
#[derive(Debug, thiserror::Error)]
enum EchoFailure {
    #[error("no answer for {0:?}")]
    NoAnswer(Duration),
    #[error("the server closed the connection without an answer")]
    Closed,
    #[error("the answer is another message: {0}")]
    Other(String),
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Network(#[from] io::Error),
}

impl EchoFailure {
    fn of_connecting(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::NoAnswer(PATIENCE) } else { Self::Network(error) }
    }
}

impl From<ExchangeEnded> for EchoFailure {
    fn from(ended: ExchangeEnded) -> Self {
        match ended {
            ExchangeEnded::Idle(limit) | ExchangeEnded::NotReading(limit) => Self::NoAnswer(limit),
            ExchangeEnded::Broken(error) => Self::Network(error),
        }
    }
}

/// Sends the messages; ends early at SIGTERM or SIGINT, or at the first message that is not echoed.
///
/// # Errors
/// If a message was not echoed.
pub async fn run(context: ProgramContext<EchoClientArguments, ClientConfig>) -> anyhow::Result<()> {
    let ProgramContext { config, log, shutdown, .. } = context;
    config.tell(&log);
    let client = EchoLoop { config: &config, log: &log, shutdown: &shutdown };
    client.send_all().await
}

struct EchoLoop<'a> {
    config: &'a ClientConfig,
    log: &'a ActionLog,
    shutdown: &'a Shutdown,
}

impl EchoLoop<'_> {
    async fn send_all(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let lapse = self.config.loop_lapse.duration();
        for number in 1..=self.config.loop_amount {
            if !lapse.is_zero() && started.elapsed() >= lapse {
                action!(self.log, INFO, "timeout_detected", "success", client_id = self.config.id);
                break;
            }
            self.send_one(&format!("[CLIENT {}] Message N°{number}", self.config.id)).await?;
            tokio::select! {
                () = self.shutdown.requested() => {}
                () = sleep(self.config.loop_period.duration()) => {}
            }
            if self.shutdown.is_requested() {
                return Ok(());
            }
        }
        action!(self.log, INFO, "loop_finished", "success", client_id = self.config.id);
        Ok(())
    }

    /// Sends a message on a connection of its own; returns without an echo at a shutdown.
    async fn send_one(&self, message: &str) -> anyhow::Result<()> {
        let stream = tokio::select! {
            () = self.shutdown.requested() => return Ok(()),
            connected = net::connect(&self.config.server_address, PATIENCE) => {
                match connected.map_err(EchoFailure::of_connecting) {
                    Ok(stream) => stream,
                    Err(error) => {
                        action!(self.log, ERROR, "connect", "fail", client_id = self.config.id, error = %error);
                        bail!("connect: {error}");
                    }
                }
            }
        };
        let echoed = tokio::select! {
            biased;
            echoed = exchange(stream, message) => Some(echoed),
            () = async { self.shutdown.requested().await; sleep(GRACE).await } => None,
        };
        if let Some(Ok(echo)) = &echoed {
            action!(self.log, INFO, "receive_message", "success", client_id = self.config.id, msg = echo);
        }
        closed!(self.log, self.shutdown, "close_connection", client_id = self.config.id);
        if let Some(Err(error)) = echoed {
            action!(self.log, ERROR, "receive_message", "fail", client_id = self.config.id, error = %error);
            bail!("receive_message: {error}");
        }
        Ok(())
    }
}

/// Sends `message` and returns its echo; closes the connection in any case.
async fn exchange(stream: TcpStream, message: &str) -> Result<String, EchoFailure> {
    let codec = LineCodec::new(DEFAULT_MAX_LINE_BYTES, AtEof::Reject);
    let mut exchange = Exchange::new(stream, codec, exchange::PeerLimits { idle: PATIENCE, send: PATIENCE });
    exchange.send(&mut format!("{message}\n").into_bytes()).await?;
    let mut lines = Vec::with_capacity(1);
    // The caller watches for the shutdown, and leaves the echo a moment more.
    exchange.next_batch(&mut lines, 1, &Shutdown::new()).await?;
    match lines.pop() {
        None => Err(EchoFailure::Closed),
        Some(Err(rejection)) => Err(rejection.into()),
        Some(Ok(echo)) if echo != message => Err(EchoFailure::Other(echo)),
        Some(Ok(echo)) => Ok(echo),
    }
}
