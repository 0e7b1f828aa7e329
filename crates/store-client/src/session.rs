//! Gives messages to the headnode until each is saved or has failed for a reason.
//!
//! A message keeps its id, however often it is sent, so the store can tell a repetition from a second message:
//!
//! - Up to a window of messages are on their way at a time; replies come in order.
//! - A temporary error delays its message alone, by pauses that double; the others go on.
//! - When the connection breaks, is refused, or gives no reply in time, the session makes a new one and sends all that was
//!   not acknowledged again, in the same order.
//! - After [`SessionOptions::wait`] the session gives a message up. If the message was under way just then, nobody knows
//!   whether it is stored, and [`PutFailure::GivenUp`] says so.
//! - The session believes that a message is saved only if the reply names a place and the checksum of what was sent.
//!
//! All timing is tokio's and all randomness the caller's, so a run on a simulated network can be repeated exactly.
//!
//! ```
//! use protocol::store::types::ulid;
//! use rand::SeedableRng as _;
//! use store_client::session::{OutgoingMessage, PutOutcome, SessionOptions, put_all};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connect = || tokio::net::TcpStream::connect("127.0.0.1:5000");
//! let mut messages = ["Hola", "¿Qué tal?"]
//!     .into_iter()
//!     .zip(1..)
//!     .map(|(text, random)| OutgoingMessage { id: ulid(1_700_000_000_000, random), text: text.to_owned() });
//! let rng = rand::rngs::StdRng::seed_from_u64(7);
//! let shutdown = service::Shutdown::new();
//! put_all(connect, &mut messages, SessionOptions::default(), rng, &shutdown, |outcome| match outcome {
//!     PutOutcome::Saved(saved) => println!("{} is in {:?}", saved.id, saved.places),
//!     PutOutcome::Failed(failed) => println!("{}: {}", failed.id, failed.failure),
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use protocol::line::{AtEof, LineCodec, Rejection};
use protocol::store::client_api::HeadnodeReply;
use protocol::store::json::{self, MAX_FRAME_BYTES};
use rand::rngs::StdRng;
use service::Shutdown;
use service::frames::FrameReader;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::backoff::{next_pause, pauses};
pub use crate::message::{
    DEFAULT_WINDOW, OutgoingMessage, PutFailure, PutOutcome, SavedMessage, SessionOptions, UnsavedMessage,
};
use crate::outbox::Outbox;

/// The session gathers requests up to this many bytes before it gives them to the system.
const WRITE_BYTES: usize = 64 * 1024;
/// The number of groups of outcomes that may wait for their reader.
const WAITING_OUTCOMES: usize = 4;

/// The session cuts longer times to this one, so that no date leaves the range of the clock.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Makes connections to the headnode. Any `FnMut() -> impl Future<Output = io::Result<S>>` is one.
pub trait Connector {
    /// The type of a connection. What is written to it must need no flush, as with TCP.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;
    /// Tries once to connect.
    fn connect(&mut self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl<F, Fut, S> Connector for F
where
    F: FnMut() -> Fut,
    Fut: Future<Output = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    type Stream = S;

    fn connect(&mut self) -> impl Future<Output = io::Result<S>> {
        self()
    }
}

/// Supplies a session with messages. Any iterator of [`OutgoingMessage`]s is a source.
pub trait MessageSource {
    /// Returns up to `most` further messages; none at the end. Dropping the future before it is ready, polled or not, must
    /// lose nothing.
    fn next_messages(&mut self, most: usize) -> impl Future<Output = io::Result<Vec<OutgoingMessage>>>;
}

impl<I: Iterator<Item = OutgoingMessage>> MessageSource for I {
    // The iterator may not move before the future is polled: a future that is dropped unpolled would lose messages.
    async fn next_messages(&mut self, most: usize) -> io::Result<Vec<OutgoingMessage>> {
        Ok(self.take(most).collect())
    }
}

/// Says why a session ended before its messages did.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The source failed. The messages that it gave before have their outcome.
    #[error("cannot read the messages: {0}")]
    Source(io::Error),
    /// Nobody receives the outcomes any more.
    #[error("nobody takes the outcomes any more")]
    Unheard,
}

/// Gives the messages of `source` to the headnode, and tells `outcome` what became of each, in the order in which that is
/// known. Returns when all messages have their outcome. After `shutdown` the session reads no more from `source`.
///
/// # Errors
/// [`SessionError::Source`].
pub async fn put_all<C: Connector, S: MessageSource>(
    connector: C,
    source: &mut S,
    options: SessionOptions,
    rng: StdRng,
    shutdown: &Shutdown,
    mut outcome: impl FnMut(PutOutcome),
) -> Result<(), SessionError> {
    let (outcomes, mut told) = mpsc::channel(WAITING_OUTCOMES);
    let telling = async {
        while let Some(group) = told.recv().await {
            Vec::into_iter(group).for_each(&mut outcome);
        }
    };
    let (ended, ()) = tokio::join!(run(connector, source, options, rng, shutdown, outcomes), telling);
    ended
}

/// Does what [`put_all`] does, and sends the outcomes to a channel, those that came together as one group. A full channel
/// holds the session up.
///
/// # Errors
/// [`SessionError`].
pub async fn run<C: Connector, S: MessageSource>(
    mut connector: C,
    source: &mut S,
    options: SessionOptions,
    mut rng: StdRng,
    shutdown: &Shutdown,
    outcomes: mpsc::Sender<Vec<PutOutcome>>,
) -> Result<(), SessionError> {
    let SessionOptions { wait, reply_timeout, window } = options;
    let options = SessionOptions {
        wait: wait.min(FOREVER),
        reply_timeout: reply_timeout.min(FOREVER),
        window: window.max(1),
    };
    let mut reconnect = pauses(&mut rng);
    let mut work = SessionWork {
        source,
        outbox: Outbox::new(options, rng),
        outcomes,
        shutdown,
        ended: Vec::new(),
        lines: Vec::new(),
        reading: true,
        stopping: false,
        source_error: None,
    };
    while work.something_to_send().await? {
        let connecting = tokio::time::timeout(options.reply_timeout, connector.connect());
        // Without a result, all that was to be sent has been given up meanwhile.
        let Some(connected) = work.during(connecting).await? else { continue };
        let trouble = match connected {
            Ok(Ok(stream)) => {
                let Some(BrokenConnection { why, answered }) = exchange(&mut work, stream).await? else {
                    continue;
                };
                if answered {
                    reconnect = pauses(work.outbox.rng());
                }
                why
            }
            Ok(Err(error)) => format!("cannot connect: {error}"),
            Err(_) => format!("cannot connect: no answer for {:?}", options.reply_timeout),
        };
        work.outbox.broken(&trouble);
        let pause = next_pause(&mut reconnect);
        tracing::debug!(%trouble, ?pause, "no connection for now");
        work.during(tokio::time::sleep(pause)).await?;
    }
    work.source_error.map_or(Ok(()), |error| Err(SessionError::Source(error)))
}

/// The work that goes on whether or not there is a connection.
struct SessionWork<'a, S> {
    source: &'a mut S,
    outbox: Outbox,
    outcomes: mpsc::Sender<Vec<PutOutcome>>,
    shutdown: &'a Shutdown,
    /// Outcomes that nobody was told yet.
    ended: Vec<PutOutcome>,
    /// Room for the lines of one read.
    lines: Vec<Result<String, Rejection>>,
    reading: bool,
    stopping: bool,
    source_error: Option<io::Error>,
}

impl<S: MessageSource> SessionWork<'_, S> {
    /// Waits for a message to send. Returns `false` when there are no more.
    async fn something_to_send(&mut self) -> Result<bool, SessionError> {
        loop {
            self.tell().await?;
            if !self.outbox.is_empty() || !self.reading {
                return Ok(!self.outbox.is_empty());
            }
            self.step().await;
        }
    }

    /// Waits for `doing`. Returns `None` if nothing is left to send before that.
    async fn during<T>(&mut self, doing: impl Future<Output = T>) -> Result<Option<T>, SessionError> {
        let mut doing = pin!(doing);
        loop {
            self.tell().await?;
            if self.outbox.is_empty() {
                return Ok(None);
            }
            tokio::select! {
                biased;
                done = &mut doing => return Ok(Some(done)),
                () = self.step() => {}
            }
        }
    }

    /// Waits for one event that has nothing to do with a connection, and handles it. Dropping the future loses nothing.
    async fn step(&mut self) {
        let room = self.outbox.room();
        tokio::select! {
            biased;
            () = self.shutdown.requested(), if !self.stopping => self.stop(),
            // `tell` returns that as an error.
            () = self.outcomes.closed() => {}
            () = sleep_until(self.outbox.wakes_at()) => {
                let given_up = self.outbox.tick(Instant::now());
                self.ended.extend(given_up);
            }
            messages = self.source.next_messages(room), if self.reading && room > 0 => self.admit(messages),
        }
    }

    fn admit(&mut self, messages: io::Result<Vec<OutgoingMessage>>) {
        let messages = messages.unwrap_or_else(|error| {
            self.source_error = Some(error);
            Vec::new()
        });
        self.reading = !messages.is_empty();
        let now = Instant::now();
        self.ended.extend(messages.into_iter().filter_map(|message| self.outbox.admit(now, message)));
    }

    fn stop(&mut self) {
        (self.stopping, self.reading) = (true, false);
        let unsent = self.outbox.stop(|| self.shutdown.hold("messages sent and not acknowledged"));
        self.ended.extend(unsent);
    }

    async fn tell(&mut self) -> Result<(), SessionError> {
        if self.outcomes.is_closed() {
            return Err(SessionError::Unheard);
        }
        if self.ended.is_empty() {
            return Ok(());
        }
        self.outcomes.send(std::mem::take(&mut self.ended)).await.map_err(|_| SessionError::Unheard)
    }

    /// Gives the outbox the replies that have come.
    fn note_replies<R: AsyncRead + Unpin>(
        &mut self,
        frames: &mut FrameReader<R, LineCodec>,
    ) -> Result<(), String> {
        frames.decode(&mut self.lines, usize::MAX).map_err(|error| error.to_string())?;
        let now = Instant::now();
        for line in self.lines.drain(..) {
            let line = line.map_err(|rejection| rejection.to_string())?;
            let reply: HeadnodeReply = json::decode(line.as_bytes())
                .map_err(|error| format!("what answers is no headnode: {error}"))?;
            self.ended.extend(self.outbox.answer(now, reply)?);
        }
        if frames.is_at_end() { Err("the headnode closed the connection".to_owned()) } else { Ok(()) }
    }
}

/// A connection that ended before the messages did.
struct BrokenConnection {
    why: String,
    /// The connection brought at least one reply.
    answered: bool,
}

/// Uses a connection until it breaks. Returns `None` if it ended with nothing left to answer.
async fn exchange<S: MessageSource>(
    work: &mut SessionWork<'_, S>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<Option<BrokenConnection>, SessionError> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut frames = FrameReader::new(reader, LineCodec::new(MAX_FRAME_BYTES, AtEof::Reject));
    let (mut unsent, mut line) = (BytesMut::new(), Vec::new());
    let mut writable = true;
    let why = loop {
        work.tell().await?;
        if work.outbox.is_empty() && !work.reading {
            // The result no longer matters: everything is acknowledged.
            let _ = writer.shutdown().await;
            return Ok(None);
        }
        while unsent.len() < WRITE_BYTES
            && let Some(request) = work.outbox.send_next(Instant::now())
        {
            line.clear();
            request.encode(&mut line);
            unsent.extend_from_slice(&line);
        }
        let reply_due = work.outbox.reply_due();
        tokio::select! {
            biased;
            read = frames.fill() => {
                let noted = match read {
                    Ok(_) => work.note_replies(&mut frames),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(why) = noted {
                    break why;
                }
            }
            // After a failed write, reading goes on: a reply with the reason may be on its way.
            written = writer.write_buf(&mut unsent), if writable && !unsent.is_empty() => {
                writable = written.is_ok();
            }
            () = sleep_until(reply_due) => break "no reply came in time".to_owned(),
            () = work.step() => {}
        }
    };
    if work.outbox.is_empty() {
        // An idle connection may end; the next message makes another.
        tracing::debug!(why, "connection closed while idle");
        work.outbox.forget_connection();
        return Ok(None);
    }
    Ok(Some(BrokenConnection { answered: work.outbox.has_answer(), why }))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
