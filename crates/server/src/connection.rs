//! One client's connection: logs the messages that have arrived as one batch, and answers them in order.
//!
//! A refused message is logged as well, before its reply is sent. The reason stands in place of the text.

use std::io::Write as _;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chrono::Utc;
use journal::record::RecordWriter;
use journal::{AppendError, Batch, Checksum, Journal};
use protocol::actividad1::{RefusalCode, ServerReply};
use protocol::line::{AtEof, LineCodec, Rejection};
use service::Shutdown;
use service::exchange::{Exchange, ExchangeEnded, PeerLimits, Silence};
use text::{Quoted, timestamp};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::ServerLimits;
use crate::metrics::ServerMetrics;

/// How many messages are logged and answered together. The limit bounds the memory that a flood of empty lines takes.
const BATCH_MESSAGES: usize = 1024;
/// What a record takes besides its text, in bytes: time, sender, quotes and the line end.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// How many bytes of a message the terminal shows. `log.txt` holds the whole message.
const SHOWN_BYTES: usize = 1024;

/// What all connections of the server share.
pub struct ServerContext {
    pub journal: Journal,
    pub limits: ServerLimits,
    pub metrics: ServerMetrics,
    pub shutdown: Shutdown,
}

/// Why the server ended a connection, or how the connection broke.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionEnded {
    #[error(transparent)]
    Exchange(#[from] ExchangeEnded),
    #[error("{0}")]
    Storage(AppendError),
}

/// Serves one client until it disconnects, breaks the rules, or the server shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, context: &ServerContext) -> Result<(), ConnectionEnded>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _open = context.metrics.connection();
    let codec = LineCodec::new(context.limits.max_message_bytes, AtEof::Accept);
    let limit = context.limits.idle_timeout;
    let quiet = context.limits.quiet;
    let silence = (!quiet.is_zero()).then_some(Silence {
        limit: quiet,
        is_open: LineCodec::is_mid_line,
        decode: LineCodec::decode_silence,
    });
    let exchange = Exchange::new(stream, codec, PeerLimits { idle: limit, send: limit });
    let mut connection = ClientConnection {
        exchange: exchange.with_silence(silence),
        peer,
        context,
        messages: Vec::new(),
        replies: Vec::new(),
    };
    let result = connection.run().await;
    if let Err(ConnectionEnded::Exchange(ExchangeEnded::Idle(limit))) = &result {
        connection.time_out(*limit).await;
    }
    if !matches!(
        result,
        Err(ConnectionEnded::Exchange(ExchangeEnded::Broken(_) | ExchangeEnded::NotReading(_)))
    ) {
        connection.exchange.close().await;
    }
    result
}

struct ClientConnection<'a, S> {
    exchange: Exchange<S, LineCodec>,
    peer: SocketAddr,
    context: &'a ServerContext,
    messages: Vec<Result<String, Rejection>>,
    replies: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientConnection<'_, S> {
    async fn run(&mut self) -> Result<(), ConnectionEnded> {
        loop {
            self.exchange.next_batch(&mut self.messages, BATCH_MESSAGES, &self.context.shutdown).await?;
            if self.messages.is_empty() {
                return Ok(());
            }
            self.log_and_answer().await?;
        }
    }

    async fn log_and_answer(&mut self) -> Result<(), ConnectionEnded> {
        let messages = mem::take(&mut self.messages);
        let now = timestamp(Utc::now());
        let text_bytes: usize = messages.iter().flatten().map(String::len).sum();
        let mut batch =
            Batch::with_capacity(Checksum::None, text_bytes + messages.len() * RECORD_OVERHEAD_BYTES);
        for message in &messages {
            batch.push(|record| {
                record.word(&now).word(self.peer);
                match message {
                    Ok(text) => record.text(text),
                    Err(why) => refused(record, code(why), &why.to_string(), bytes(why)),
                };
            });
        }
        // The replies are prepared before the disk answers, while there is time. If logging fails, others replace them.
        self.answer(&messages, None);
        let began = Instant::now();
        let logged = self.append(batch).await;
        self.context.metrics.count(&messages, text_bytes, logged.as_ref().err(), began.elapsed());
        if let Err(error) = &logged {
            self.answer(&messages, Some(error));
        }
        let sent = self.exchange.send(&mut self.replies).await;
        for message in &messages {
            self.report(message, logged.is_ok());
        }
        sent?;
        match logged {
            Err(error @ (AppendError::Fatal(_) | AppendError::Closed)) => {
                Err(ConnectionEnded::Storage(error))
            }
            _ => Ok(()),
        }
    }

    /// Tells a client that completed no message in time that its connection closes. The bytes that have arrived of a
    /// message are logged as refused. The bytes of a line that was too long are not: that line is logged already.
    async fn time_out(&mut self, limit: Duration) {
        self.context.metrics.count_idle();
        let reason = format!("no whole message for {limit:?}");
        let unfinished = self.exchange.unfinished();
        // A lone `\r` is the first half of a line end, not a part of a message.
        let unfinished = unfinished.strip_suffix(b"\r").unwrap_or(unfinished);
        let logged = if unfinished.is_empty() {
            Ok(())
        } else {
            let mut batch = Batch::new(Checksum::None);
            batch.push(|record| {
                record.word(timestamp(Utc::now())).word(self.peer);
                refused(record, RefusalCode::IdleTimeout, &reason, unfinished);
            });
            self.append(batch).await
        };
        let (code, reason) = match &logged {
            Ok(()) => (RefusalCode::IdleTimeout, format!("{reason}: connect again to send more")),
            Err(error) => failure(error),
        };
        put(&mut self.replies, &ServerReply::Refused { code, reason: &reason });
        // The connection closes whether or not the client reads this.
        let _ = self.exchange.send(&mut self.replies).await;
    }

    /// Puts the batch on disk.
    async fn append(&self, batch: Batch) -> Result<(), AppendError> {
        let logged = self.context.journal.append(batch).await;
        if let Err(error) = &logged {
            tracing::error!(peer = %self.peer, %error, "messages not logged");
        }
        logged.map(|_offset| ())
    }

    /// Logs an event about a message for the operator.
    fn report(&self, message: &Result<String, Rejection>, logged: bool) {
        match message {
            Ok(text) if logged => {
                let shown = &text[..text.floor_char_boundary(SHOWN_BYTES)];
                let cut = (shown.len() < text.len()).then_some(text.len());
                tracing::info!(peer = %self.peer, text = %Quoted(shown), bytes = cut, "message logged");
            }
            Ok(_) => {}
            Err(rejection) => tracing::warn!(peer = %self.peer, %rejection, "message rejected"),
        }
    }

    /// Prepares the replies to `messages`. If they could not be logged, `failed` says why.
    fn answer(&mut self, messages: &[Result<String, Rejection>], failed: Option<&AppendError>) {
        self.replies.clear();
        for message in messages {
            answer(message, failed, &mut self.replies);
        }
    }
}

/// Writes why a message was refused where its text would stand. A message stands between quotes, and `ERROR` does not,
/// so no message can look like a refusal.
fn refused<'a, 'b>(
    record: &'a mut RecordWriter<'b>,
    code: RefusalCode,
    reason: &str,
    bytes: &[u8],
) -> &'a mut RecordWriter<'b> {
    record.word("ERROR").word(code).text(reason);
    if bytes.is_empty() { record } else { record.bytes(bytes) }
}

fn code(rejection: &Rejection) -> RefusalCode {
    match rejection {
        Rejection::InvalidUtf8 { .. } => RefusalCode::InvalidUtf8,
        Rejection::TooLong { .. } | Rejection::Unterminated { .. } => RefusalCode::MessageTooLong,
    }
}

/// Returns the bytes of a rejected message that are logged.
fn bytes(rejection: &Rejection) -> &[u8] {
    match rejection {
        Rejection::InvalidUtf8 { bytes, .. } => bytes,
        Rejection::TooLong { .. } | Rejection::Unterminated { .. } => &[],
    }
}

/// Writes the reply to one message. If its batch could not be logged, `failed` says why.
fn answer(message: &Result<String, Rejection>, failed: Option<&AppendError>, replies: &mut Vec<u8>) {
    let (code, reason) = match (failed, message) {
        (Some(error), _) => failure(error),
        (None, Ok(text)) => return put(replies, &ServerReply::Received(text)),
        (None, Err(rejection @ Rejection::InvalidUtf8 { .. })) => {
            (code(rejection), format!("{rejection}; send UTF-8 text"))
        }
        (None, Err(rejection)) => (code(rejection), format!("{rejection}; send it in shorter lines")),
    };
    put(replies, &ServerReply::Refused { code, reason: &reason });
}

/// Returns the reply to a message that could not be logged.
fn failure(error: &AppendError) -> (RefusalCode, String) {
    let (code, reason) = match error {
        AppendError::NoSpace(_) => (
            RefusalCode::DiskFull,
            "the server has no space for the message: it is not logged, try again later",
        ),
        AppendError::Fatal(_) | AppendError::Closed => (
            RefusalCode::StorageFailed,
            "the server cannot write to its disk and stops: the message may be lost",
        ),
    };
    (code, reason.to_owned())
}

fn put(replies: &mut Vec<u8>, reply: &ServerReply<'_>) {
    writeln!(replies, "{reply}").expect("writing to a Vec cannot fail");
}

#[cfg(test)]
mod tests;
