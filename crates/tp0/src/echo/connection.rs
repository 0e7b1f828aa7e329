//! One connection of the echo server.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use protocol::actividad1::{RefusalCode, ServerReply};
use protocol::line::{AtEof, DEFAULT_MAX_LINE_BYTES, LineCodec, Rejection};
use service::Shutdown;
use service::exchange::{self, Exchange, ExchangeEnded};
use tokio::io::{AsyncRead, AsyncWrite};

use super::metrics::EchoMetrics;
use crate::action_log::{ActionLog, action, closed};

/// The most lines that are echoed together where connections are kept.
const BATCH_LINES: usize = 1024;

/// What all connections share.
pub struct EchoShared {
    pub log: ActionLog,
    /// How long a client may take to complete a line, or to take its echo.
    pub timeout: Duration,
    /// Whether all lines are echoed, and not the first one only.
    pub keep: bool,
    pub metrics: EchoMetrics,
    pub shutdown: Shutdown,
}

/// Why a message got no echo.
#[derive(Debug, thiserror::Error)]
enum EchoConnectionError {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Ended(#[from] ExchangeEnded),
    #[error("the client closed the connection without a message")]
    Nothing,
}

/// Returns the line for a client that comes while `max_connections` are served.
pub fn refusal(max_connections: usize) -> String {
    let reason = format!("the server serves its {max_connections} connections already: try again later");
    format!("{}\n", ServerReply::Refused { code: RefusalCode::TooManyConnections, reason: &reason })
}

pub async fn serve<S>(stream: S, peer: SocketAddr, shared: &EchoShared)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _open = shared.metrics.connections.open();
    // A line comes back as it came, also one that ends in `\r\n`.
    let codec = LineCodec::new(DEFAULT_MAX_LINE_BYTES, AtEof::Reject).keeping_carriage_returns();
    let limits = exchange::PeerLimits { idle: shared.timeout, send: shared.timeout };
    let exchange = Exchange::new(stream, codec, limits);
    let ip = peer.ip();
    let mut connection =
        EchoConnection { exchange, ip, shared, lines: Vec::new(), echo: Vec::new(), received: 0 };
    if let Err(failed) = connection.run().await {
        shared.metrics.count_failure(&failed);
        action!(shared.log, ERROR, "receive_message", "fail", ip = %ip, error = %failed);
        connection.tell(&failed).await;
        if matches!(
            failed,
            EchoConnectionError::Ended(ExchangeEnded::Broken(_) | ExchangeEnded::NotReading(_))
        ) {
            return closed!(shared.log, shared.shutdown, "close_connection", ip = %ip);
        }
    }
    connection.exchange.close().await;
    closed!(shared.log, shared.shutdown, "close_connection", ip = %ip);
}

struct EchoConnection<'a, S> {
    exchange: Exchange<S, LineCodec>,
    ip: IpAddr,
    shared: &'a EchoShared,
    lines: Vec<Result<String, Rejection>>,
    echo: Vec<u8>,
    received: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> EchoConnection<'_, S> {
    async fn run(&mut self) -> Result<(), EchoConnectionError> {
        let at_once = if self.shared.keep { BATCH_LINES } else { 1 };
        loop {
            self.exchange.next_batch(&mut self.lines, at_once, &self.shared.shutdown).await?;
            if self.lines.is_empty() {
                let ended_early = self.received == 0 && !self.shared.shutdown.is_requested();
                return if ended_early { Err(EchoConnectionError::Nothing) } else { Ok(()) };
            }
            self.echo_lines().await?;
            if !self.shared.keep {
                return Ok(());
            }
        }
    }

    /// Sends back the lines before the first one that cannot be echoed.
    async fn echo_lines(&mut self) -> Result<(), EchoConnectionError> {
        let mut rejected = None;
        let shared = self.shared;
        let received = self.received;
        shared.log.together(|| {
            for line in mem::take(&mut self.lines) {
                match line {
                    Ok(line) => self.echo(&line),
                    Err(rejection) => {
                        rejected = Some(rejection);
                        break;
                    }
                }
            }
        });
        let (began, bytes) = (Instant::now(), self.echo.len() as u64);
        self.exchange.send(&mut self.echo).await?;
        let metrics = &shared.metrics;
        metrics.send_duration.record(began.elapsed());
        metrics.echoed.inc_by(self.received - received);
        metrics.echoed_bytes.inc_by(bytes);
        rejected.map_or(Ok(()), |rejection| Err(rejection.into()))
    }

    fn echo(&mut self, line: &str) {
        self.received += 1;
        action!(self.shared.log, INFO, "receive_message", "success", ip = %self.ip, msg = line.trim_end());
        self.echo.extend_from_slice(line.as_bytes());
        self.echo.push(b'\n');
    }

    /// Tells the client why there is no echo, where it may still listen.
    async fn tell(&mut self, failed: &EchoConnectionError) {
        let code = match failed {
            EchoConnectionError::Rejected(Rejection::TooLong { .. }) => RefusalCode::MessageTooLong,
            EchoConnectionError::Rejected(Rejection::InvalidUtf8 { .. }) => RefusalCode::InvalidUtf8,
            EchoConnectionError::Ended(ExchangeEnded::Idle(_)) => RefusalCode::IdleTimeout,
            _ => return,
        };
        let reason = failed.to_string();
        self.echo.clear();
        let told = write_line(&mut self.echo, &ServerReply::Refused { code, reason: &reason });
        if told.is_ok() {
            // The connection closes either way.
            let _ = self.exchange.send(&mut self.echo).await;
        }
    }
}

impl EchoMetrics {
    /// Counts a line that got no echo.
    fn count_failure(&self, failed: &EchoConnectionError) {
        let counter = match failed {
            EchoConnectionError::Rejected(Rejection::TooLong { .. }) => &self.too_long,
            EchoConnectionError::Rejected(Rejection::Unterminated { .. }) => &self.unterminated,
            EchoConnectionError::Rejected(Rejection::InvalidUtf8 { .. }) => &self.invalid_utf8,
            EchoConnectionError::Ended(ExchangeEnded::Idle(_)) => &self.idle,
            EchoConnectionError::Ended(_) | EchoConnectionError::Nothing => return,
        };
        counter.inc();
    }
}

fn write_line(bytes: &mut Vec<u8>, reply: &ServerReply<'_>) -> io::Result<()> {
    io::Write::write_fmt(bytes, format_args!("{reply}\n"))
}
