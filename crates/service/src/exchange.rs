//! One connection of a server: takes what has come as a batch, sends the replies, knows idle and slow peers.
//!
//! Reading stops while a batch is being answered, so a peer that sends faster than it can be served is slowed down by
//! TCP and not by memory here.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::codec::Decoder;

use crate::{Shutdown, net};

/// How much is read at a time: from the first for idle connections by the thousand to the second for busy ones.
const READ_BYTES: std::ops::RangeInclusive<usize> = 512..=64 * 1024;
/// Memory that a connection keeps for its replies between batches, in bytes.
const KEPT_BYTES: usize = 4 * 1024;

/// Why a connection was ended from this side, or broke.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Ended {
    #[error("no whole message for {0:?}")]
    Idle(Duration),
    #[error("the peer takes no replies for {0:?}")]
    NotReading(Duration),
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To complete a request.
    pub idle: Duration,
    /// To take its replies.
    pub send: Duration,
}

/// A connection on which requests, decoded by `D`, are answered batch by batch.
#[derive(Debug)]
pub struct Exchange<S, D> {
    stream: S,
    decoder: D,
    received: BytesMut,
    read_bytes: usize,
    at_end: bool,
    limits: Limits,
    /// One timer for the whole connection, moved only when it fires: setting one for each read costs a system call.
    idle: Pin<Box<Sleep>>,
}

impl<S, D> Exchange<S, D>
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Decoder<Error = io::Error>,
{
    /// A peer that goes beyond `limits` is given up.
    #[must_use]
    pub fn new(stream: S, decoder: D, limits: Limits) -> Self {
        Self {
            stream,
            decoder,
            received: BytesMut::new(),
            read_bytes: *READ_BYTES.start(),
            at_end: false,
            limits,
            idle: Box::pin(sleep_until(Instant::now() + limits.idle)),
        }
    }

    /// Waits for requests and puts those that have come into `batch`, at most `max`; none at the end of the stream or
    /// when `shutdown` is requested.
    ///
    /// May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn next_batch(
        &mut self,
        batch: &mut Vec<D::Item>,
        max: usize,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        batch.clear();
        let deadline = Instant::now() + self.limits.idle;
        loop {
            self.decode(batch, max)?;
            if !batch.is_empty() || self.at_end {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                // Before reading: a stream that always has something to read must not outrun its deadline.
                () = &mut self.idle => {
                    if Instant::now() >= deadline {
                        return Err(Ended::Idle(self.limits.idle));
                    }
                    self.idle.as_mut().reset(deadline);
                }
                read = read(&mut self.stream, &mut self.received, self.read_bytes) => {
                    let read = read?;
                    self.at_end = read == 0;
                    self.adapt(read);
                }
            }
        }
    }

    fn decode(&mut self, batch: &mut Vec<D::Item>, max: usize) -> io::Result<()> {
        while batch.len() < max {
            let decode = if self.at_end { D::decode_eof } else { D::decode };
            match decode(&mut self.decoder, &mut self.received)? {
                Some(item) => batch.push(item),
                None => break,
            }
        }
        if self.received.is_empty() && self.received.capacity() > 2 * self.read_bytes {
            self.received = BytesMut::new();
        }
        Ok(())
    }

    /// Sends `replies` and empties it.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn send(&mut self, replies: &mut Vec<u8>) -> Result<(), Ended> {
        let limit = self.limits.send;
        let sent = timeout(limit, self.stream.write_all(replies)).await;
        sent.map_err(|_| Ended::NotReading(limit))??;
        replies.clear();
        replies.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Closes the connection so that the peer gets what was last sent.
    pub async fn close(self) {
        net::close(self.stream).await;
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
