//! One client's connection: reads what has come, logs it as one batch, answers in order.
//!
//! Reading stops while a batch is on its way to the disk, so a client that sends faster than the disk takes is slowed
//! down by TCP and not by memory here.

use std::io;
use std::io::Write as _;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use chrono::Utc;
use journal::{AppendError, Batch, Checksum, Journal, Quoted, timestamp};
use protocol::greeting::{ErrorCode, Reply};
use protocol::line::{AtEof, LineCodec, Rejection};
use service::{Shutdown, net};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::Decoder as _;

use crate::Limits;

/// Messages that are logged and answered together, so that a flood of empty lines cannot be blown up in memory.
const BATCH_MESSAGES: usize = 1024;
/// How much is read at a time: from the first for idle connections by the thousand to the second for busy ones.
const READ_BYTES: std::ops::RangeInclusive<usize> = 512..=64 * 1024;
/// Memory that a connection keeps between batches for its records and its replies each, in bytes.
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
    #[error("no whole message for {0:?}")]
    Idle(Duration),
    #[error("the client takes no replies for {0:?}")]
    NotReading(Duration),
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error("{0}")]
    Storage(AppendError),
}

/// Serves one client until it ends, breaks the rules, or the server shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, context: &Context) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        stream,
        peer,
        context,
        codec: LineCodec::new(context.limits.max_message_bytes, AtEof::Accept),
        received: BytesMut::new(),
        read_bytes: *READ_BYTES.start(),
        messages: Vec::new(),
        batch: Batch::new(Checksum::None),
        replies: Vec::new(),
    };
    let result = connection.run().await;
    if let Err(Ended::Idle(limit)) = &result {
        let reason = format!("no whole message for {limit:?}: connect again to send more");
        // The connection closes either way.
        let _ = connection.say(&Reply::Refused { code: ErrorCode::IdleTimeout, reason: &reason }).await;
    }
    if !matches!(result, Err(Ended::Broken(_) | Ended::NotReading(_))) {
        net::close(connection.stream).await;
    }
    result
}

struct Connection<'a, S> {
    stream: S,
    peer: SocketAddr,
    context: &'a Context,
    codec: LineCodec,
    received: BytesMut,
    read_bytes: usize,
    messages: Vec<Result<String, Rejection>>,
    batch: Batch,
    replies: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self) -> Result<(), Ended> {
        let idle_timeout = self.context.limits.idle_timeout;
        let mut deadline = Instant::now() + idle_timeout;
        // One timer for the whole connection, moved only when it fires: setting one for each read costs a system call.
        let idle = sleep_until(deadline);
        tokio::pin!(idle);
        let mut at_end = false;
        loop {
            while self.take_messages(at_end)? {
                self.log_and_answer().await?;
                deadline = Instant::now() + idle_timeout;
            }
            if at_end {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.context.shutdown.requested() => return Ok(()),
                // Before reading: a stream that always has something to read must not outrun its deadline.
                () = &mut idle => {
                    if Instant::now() >= deadline {
                        return Err(Ended::Idle(idle_timeout));
                    }
                    idle.as_mut().reset(deadline);
                }
                read = read(&mut self.stream, &mut self.received, self.read_bytes) => {
                    let read = read?;
                    at_end = read == 0;
                    self.adapt(read);
                }
            }
        }
    }

    /// Decodes what has come, up to a batch; `false` if there is no whole message.
    fn take_messages(&mut self, at_end: bool) -> io::Result<bool> {
        while self.messages.len() < BATCH_MESSAGES {
            let decode = if at_end { LineCodec::decode_eof } else { LineCodec::decode };
            match decode(&mut self.codec, &mut self.received)? {
                Some(message) => self.messages.push(message),
                None => break,
            }
        }
        if self.received.is_empty() && self.received.capacity() > 2 * self.read_bytes {
            self.received = BytesMut::new();
        }
        Ok(!self.messages.is_empty())
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
        let sent = self.send_replies().await;
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

    async fn say(&mut self, reply: &Reply<'_>) -> Result<(), Ended> {
        put(&mut self.replies, reply);
        self.send_replies().await
    }

    async fn send_replies(&mut self) -> Result<(), Ended> {
        let limit = self.context.limits.idle_timeout;
        let sent = timeout(limit, self.stream.write_all(&self.replies)).await;
        sent.map_err(|_| Ended::NotReading(limit))??;
        self.replies.clear();
        self.replies.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Reads in larger pieces while they come full, in smaller ones while they do not.
    fn adapt(&mut self, read: usize) {
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 4).min(*READ_BYTES.end());
        } else if read < self.read_bytes / 8 {
            self.read_bytes = (self.read_bytes / 2).max(*READ_BYTES.start());
        }
    }
}

async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    bytes: usize,
) -> io::Result<usize> {
    received.reserve(bytes);
    stream.read_buf(received).await
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
