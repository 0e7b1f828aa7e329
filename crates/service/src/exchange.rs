//! One connection of a server: it reads the requests that have arrived as a batch, sends the replies, and ends idle and
//! slow connections.
//!
//! Reading stops while a batch is being answered. TCP therefore slows down a peer that sends faster than it is served,
//! and no memory fills up here.
//!
//! A server may also let the silence of the peer end a request: see [`Silence`].

use std::future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::codec::Decoder;

use crate::frames::FrameReader;
use crate::{Shutdown, net};

/// Memory that a connection keeps for its replies between batches, in bytes.
const KEPT_BYTES: usize = 4 * 1024;

/// Why the server ended a connection, or how the connection broke.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ExchangeEnded {
    #[error("no whole message for {0:?}")]
    Idle(Duration),
    #[error("the peer takes no replies for {0:?}")]
    NotReading(Duration),
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// How long a peer may take. A peer that takes longer is disconnected.
#[derive(Debug, Clone, Copy)]
pub struct PeerLimits {
    /// Time for a peer to complete a request.
    pub idle: Duration,
    /// Time for a peer to read the replies to one batch.
    pub send: Duration,
}

/// How the silence of a peer ends a request that the peer sends without an end.
pub struct Silence<D: Decoder> {
    /// How long the peer has to be silent for its silence to count.
    pub limit: Duration,
    /// Returns whether silence can end the open request, given the bytes that were received and not yet decoded. The
    /// silence is timed only then, so a peer that ends its requests costs nothing more.
    pub is_open: fn(&D, &[u8]) -> bool,
    /// Decodes the open request, given how many times in a row the peer has been silent for the limit. Returns `None`
    /// if there is nothing to answer, or if one more silence is needed.
    pub decode: fn(&mut D, &mut BytesMut, u32) -> Option<D::Item>,
}

/// The state of waiting for the silence of a peer.
struct Watch<D: Decoder> {
    silence: Silence<D>,
    /// When the present silence began, or `None` before the first wait for it.
    since: Option<Instant>,
    /// How many silences have followed each other.
    count: u32,
    /// The timer is moved only when it fires, as the idle timer is. So it costs one system call per elapsed limit, not
    /// one per read. Idle connections have no such timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<D: Decoder> Watch<D> {
    fn interrupt(&mut self) {
        self.since = None;
        self.count = 0;
    }

    /// Waits until the peer has been silent for the limit. Only time spent in this function counts: while the server is
    /// busy, bytes may have arrived that it has not read.
    async fn wait(&mut self) {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.silence.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            timer.as_mut().await;
            if Instant::now() >= deadline {
                return;
            }
            timer.as_mut().reset(deadline);
        }
    }
}

/// A connection whose requests, decoded by `D`, are answered batch by batch.
pub struct Exchange<S, D: Decoder> {
    frames: FrameReader<S, D>,
    limits: PeerLimits,
    /// The one timer of the connection. It is moved only when it fires, because setting a timer for each read costs a
    /// system call.
    idle: Pin<Box<Sleep>>,
    watch: Option<Watch<D>>,
}

impl<S, D> Exchange<S, D>
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Decoder<Error = io::Error>,
{
    /// Returns a connection over `stream`. A peer that exceeds `limits` is disconnected.
    #[must_use]
    pub fn new(stream: S, decoder: D, limits: PeerLimits) -> Self {
        Self {
            frames: FrameReader::new(stream, decoder),
            limits,
            idle: Box::pin(sleep_until(Instant::now() + limits.idle)),
            watch: None,
        }
    }

    /// Applies `limits` from the next batch on. They must not be shorter than before: a shorter idle time would take
    /// effect late.
    pub fn set_limits(&mut self, limits: PeerLimits) {
        self.limits = limits;
    }

    /// Returns the decoder, to change how further requests are decoded.
    pub fn decoder_mut(&mut self) -> &mut D {
        self.frames.decoder_and_unfinished().0
    }

    /// Lets the silence of the peer end requests too, if `silence` is given.
    #[must_use]
    pub fn with_silence(mut self, silence: Option<Silence<D>>) -> Self {
        self.watch = silence.map(|silence| Watch { silence, since: None, count: 0, timer: None });
        self
    }

    /// Returns the decoder, which may know what the peer is sending.
    pub fn decoder(&self) -> &D {
        self.frames.decoder()
    }

    /// Waits for requests, and puts those that have arrived into `batch`, at most `max`. The batch stays empty at the
    /// end of the stream and when `shutdown` is requested.
    ///
    /// The future may be dropped while it waits: no request is lost.
    ///
    /// # Errors
    /// Fails if the peer has completed no request within the idle limit, or if the connection breaks.
    pub async fn next_batch(
        &mut self,
        batch: &mut Vec<D::Item>,
        max: usize,
        shutdown: &Shutdown,
    ) -> Result<(), ExchangeEnded> {
        batch.clear();
        let deadline = Instant::now() + self.limits.idle;
        loop {
            self.frames.decode(batch, max)?;
            if !batch.is_empty() || self.frames.is_at_end() {
                return Ok(());
            }
            let (decoder, unfinished) = (self.frames.decoder(), self.frames.unfinished());
            let is_open =
                self.watch.as_ref().is_some_and(|watch| (watch.silence.is_open)(decoder, unfinished));
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                // The timer comes before reading, so that a stream that never pauses cannot outrun its deadline.
                () = &mut self.idle => {
                    if Instant::now() >= deadline {
                        return Err(ExchangeEnded::Idle(self.limits.idle));
                    }
                    self.idle.as_mut().reset(deadline);
                }
                read = self.frames.fill() => {
                    read?;
                    if let Some(watch) = &mut self.watch {
                        watch.interrupt();
                    }
                }
                // The silence comes after reading, because bytes that have arrived by now interrupt it.
                () = silent(self.watch.as_mut()), if is_open => batch.extend(self.decode_silence()),
            }
        }
    }

    fn decode_silence(&mut self) -> Option<D::Item> {
        let watch = self.watch.as_mut()?;
        watch.since = None;
        watch.count += 1;
        let (decoder, unfinished) = self.frames.decoder_and_unfinished();
        let item = (watch.silence.decode)(decoder, unfinished, watch.count);
        if item.is_some() {
            watch.interrupt();
        }
        item
    }

    /// Returns the bytes that have arrived of an incomplete request.
    #[must_use]
    pub fn unfinished(&self) -> &[u8] {
        self.frames.unfinished()
    }

    /// Sends `replies` and empties the vector.
    ///
    /// # Errors
    /// Fails if the peer has not read the replies within the send limit, or if the connection breaks.
    pub async fn send(&mut self, replies: &mut Vec<u8>) -> Result<(), ExchangeEnded> {
        let limit = self.limits.send;
        let sent = timeout(limit, self.frames.stream_mut().write_all(replies)).await;
        sent.map_err(|_| ExchangeEnded::NotReading(limit))??;
        replies.clear();
        replies.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Closes the connection so that the peer still receives what was last sent.
    pub async fn close(self) {
        net::close(self.frames.into_stream()).await;
    }
}

/// Waits for the silence of the peer. Waits for ever if silence ends no requests.
async fn silent<D: Decoder>(watch: Option<&mut Watch<D>>) {
    match watch {
        Some(watch) => watch.wait().await,
        None => future::pending().await,
    }
}
