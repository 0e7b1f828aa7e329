//! One connection of a server: takes what has come as a batch, sends the replies, knows idle and slow peers.
//!
//! Reading stops while a batch is being answered, so a peer that sends faster than it can be served is slowed down by
//! TCP and not by memory here.
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

/// How the silence of a peer ends a request that it sends without an end.
pub struct Silence<D: Decoder> {
    /// How long the peer has to be silent.
    pub limit: Duration,
    /// Whether a request is open that silence can end, given what was received and not yet decoded. Only then is time
    /// taken, so a peer that ends its requests costs nothing more.
    pub is_open: fn(&D, &[u8]) -> bool,
    /// Decodes the open request, given how many times in a row the peer has been silent for the limit; `None` if there
    /// is nothing to answer, or if it takes another silence.
    pub decode: fn(&mut D, &mut BytesMut, u32) -> Option<D::Item>,
}

/// A silence that is being waited for.
struct Watch<D: Decoder> {
    silence: Silence<D>,
    /// When the present silence began, as far as it has been waited for.
    since: Option<Instant>,
    /// Silences in a row.
    count: u32,
    /// Moved only when it fires, as the idle timer is: it costs one system call for each limit that passes, not one for
    /// each read. Idle connections have none.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<D: Decoder> Watch<D> {
    fn interrupt(&mut self) {
        self.since = None;
        self.count = 0;
    }

    /// Waits until the peer has been silent for the limit. Only time spent here counts: while a server is busy, bytes
    /// may have come that it has not seen.
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

/// A connection on which requests, decoded by `D`, are answered batch by batch.
pub struct Exchange<S, D: Decoder> {
    frames: FrameReader<S, D>,
    limits: Limits,
    /// One timer for the whole connection, moved only when it fires: setting one for each read costs a system call.
    idle: Pin<Box<Sleep>>,
    watch: Option<Watch<D>>,
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
            frames: FrameReader::new(stream, decoder),
            limits,
            idle: Box::pin(sleep_until(Instant::now() + limits.idle)),
            watch: None,
        }
    }

    /// Holds the peer to wider limits from the next batch on. (A shorter idle time would be noticed late.)
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What decodes the requests.
    pub fn decoder_mut(&mut self) -> &mut D {
        self.frames.decoder_and_unfinished().0
    }

    /// Lets silence end requests too, if this is given.
    #[must_use]
    pub fn with_silence(mut self, silence: Option<Silence<D>>) -> Self {
        self.watch = silence.map(|silence| Watch { silence, since: None, count: 0, timer: None });
        self
    }

    /// The decoder, which may know what the peer is sending.
    pub fn decoder(&self) -> &D {
        self.frames.decoder()
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
                // Before reading: a stream that always has something to read must not outrun its deadline.
                () = &mut self.idle => {
                    if Instant::now() >= deadline {
                        return Err(Ended::Idle(self.limits.idle));
                    }
                    self.idle.as_mut().reset(deadline);
                }
                read = self.frames.fill() => {
                    read?;
                    if let Some(watch) = &mut self.watch {
                        watch.interrupt();
                    }
                }
                // After reading: bytes that have come by now break the silence.
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

    /// What has come of a request that is not complete.
    #[must_use]
    pub fn unfinished(&self) -> &[u8] {
        self.frames.unfinished()
    }

    /// Sends `replies` and empties it.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn send(&mut self, replies: &mut Vec<u8>) -> Result<(), Ended> {
        let limit = self.limits.send;
        let sent = timeout(limit, self.frames.stream_mut().write_all(replies)).await;
        sent.map_err(|_| Ended::NotReading(limit))??;
        replies.clear();
        replies.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Closes the connection so that the peer gets what was last sent.
    pub async fn close(self) {
        net::close(self.frames.into_stream()).await;
    }
}

/// Waits for the silence of the peer; for ever where silence ends nothing.
async fn silent<D: Decoder>(watch: Option<&mut Watch<D>>) {
    match watch {
        Some(watch) => watch.wait().await,
        None => future::pending().await,
    }
}
