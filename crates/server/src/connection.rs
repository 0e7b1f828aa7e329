//! One client's connection: logs what has come as one batch, answers in order.

use std::io::Write as _;
use std::mem;
use std::net::SocketAddr;

use chrono::Utc;
use journal::{AppendError, Batch, Checksum, Journal, Quoted, timestamp};
use protocol::greeting::{ErrorCode, Reply};
use protocol::line::{AtEof, LineCodec, Rejection};
use service::Shutdown;
use service::exchange::{self, Exchange};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Limits;

/// Messages that are logged and answered together, so that a flood of empty lines cannot be blown up in memory.
const BATCH_MESSAGES: usize = 1024;
/// Memory that a connection keeps between batches for its records, in bytes.
const KEPT_BYTES: usize = 4 * 1024;
/// How much of a message the terminal shows; `log.txt` has all of it.
const SHOWN_BYTES: usize = 1024;

/// What all connections share.
pub struct Context {
    pub journal: Journal,
    pub limits: Limits,
    pub shutdown: Shutdown,
}

/// Why a connection was ended from this side, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error(transparent)]
    Exchange(#[from] exchange::Ended),
    #[error("{0}")]
    Storage(AppendError),
}

/// Serves one client until it ends, breaks the rules, or the server shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, context: &Context) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let codec = LineCodec::new(context.limits.max_message_bytes, AtEof::Accept);
    let limit = context.limits.idle_timeout;
    let mut connection = Connection {
        exchange: Exchange::new(stream, codec, exchange::Limits { idle: limit, send: limit }),
        peer,
        context,
        messages: Vec::new(),
        batch: Batch::new(Checksum::None),
        replies: Vec::new(),
    };
    let result = connection.run().await;
    if let Err(Ended::Exchange(exchange::Ended::Idle(limit))) = &result {
        let reason = format!("no whole message for {limit:?}: connect again to send more");
        put(&mut connection.replies, &Reply::Refused { code: ErrorCode::IdleTimeout, reason: &reason });
        // The connection closes either way.
        let _ = connection.exchange.send(&mut connection.replies).await;
    }
    if !matches!(result, Err(Ended::Exchange(exchange::Ended::Broken(_) | exchange::Ended::NotReading(_)))) {
        connection.exchange.close().await;
    }
    result
}

struct Connection<'a, S> {
    exchange: Exchange<S, LineCodec>,
    peer: SocketAddr,
    context: &'a Context,
    messages: Vec<Result<String, Rejection>>,
    batch: Batch,
    replies: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self) -> Result<(), Ended> {
        loop {
            self.exchange.next_batch(&mut self.messages, BATCH_MESSAGES, &self.context.shutdown).await?;
            if self.messages.is_empty() {
                return Ok(());
            }
            self.log_and_answer().await?;
        }
    }

    async fn log_and_answer(&mut self) -> Result<(), Ended> {
        let messages = mem::take(&mut self.messages);
        let now = timestamp(Utc::now());
        for message in messages.iter().flatten() {
            self.batch.push(|record| {
                record.word(&now).word(self.peer).text(message);
            });
        }
        // The replies are made up while there is time, before the disk answers; a failure makes up others.
        self.answer(&messages, None);
        let logged =
            if self.batch.is_empty() { Ok(0) } else { self.context.journal.append(&self.batch).await };
        self.batch.clear(KEPT_BYTES);
        if let Err(error) = &logged {
            tracing::error!(peer = %self.peer, %error, "messages not logged");
            self.answer(&messages, Some(error));
        }
        let sent = self.exchange.send(&mut self.replies).await;
        for message in &messages {
            self.report(message, logged.is_ok());
        }
        sent?;
        match logged {
            Err(error @ (AppendError::Fatal(_) | AppendError::Closed)) => Err(Ended::Storage(error)),
            _ => Ok(()),
        }
    }

    /// The event for the operator's terminal.
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

    /// Makes up the replies to `messages`, given why they could not be logged.
    fn answer(&mut self, messages: &[Result<String, Rejection>], failed: Option<&AppendError>) {
        self.replies.clear();
        for message in messages {
            answer(message, failed, &mut self.replies);
        }
    }
}

/// The reply to one message, given why its batch was not logged.
fn answer(message: &Result<String, Rejection>, failed: Option<&AppendError>, replies: &mut Vec<u8>) {
    let (code, reason) = match (message, failed) {
        (Ok(text), None) => return put(replies, &Reply::Received(text)),
        (Ok(_), Some(AppendError::NoSpace(_))) => (
            ErrorCode::DiskFull,
            "the server has no space for the message: it is not logged, try again later".to_owned(),
        ),
        (Ok(_), Some(_)) => (
            ErrorCode::StorageFailed,
            "the server cannot write to its disk and stops: the message may be lost".to_owned(),
        ),
        (Err(rejection @ Rejection::InvalidUtf8 { .. }), _) => {
            (ErrorCode::InvalidUtf8, format!("{rejection}; send UTF-8 text"))
        }
        (Err(rejection), _) => (ErrorCode::MessageTooLong, format!("{rejection}; send it in shorter lines")),
    };
    put(replies, &Reply::Refused { code, reason: &reason });
}

fn put(replies: &mut Vec<u8>, reply: &Reply<'_>) {
    writeln!(replies, "{reply}").expect("writing to a Vec cannot fail");
}
