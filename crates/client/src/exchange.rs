//! Sends messages and receives their replies, both at the same time.

use std::io;
use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::BytesMut;
use protocol::actividad1::{MAX_REPLY_BYTES, MAX_TEXT_BYTES, ServerReply};
use protocol::line::{AtEof, HALF_CHARACTER_SILENCES, LineCodec};
use service::Shutdown;
use service::frames::FrameReader;
use service::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::input::ClientInput;
use crate::replies::ReplyLog;

/// Messages that may be on their way without a reply.
const WINDOW: u64 = 256;
/// A server that is silent for this long has ended its reply, even without a line end.
const REPLY_SILENCE: Duration = Duration::from_millis(200);

/// The numbers of messages by what became of them.
#[derive(Debug, Default)]
pub struct ExchangeTally {
    /// Messages that were put on the connection.
    pub sent: u64,
    /// Messages that the server acknowledged.
    pub acknowledged: u64,
    /// Messages that the server refused, or that were not sent because they cannot travel.
    pub refused: u64,
    /// The error that ended the exchange early.
    pub broken: Option<anyhow::Error>,
}

impl ExchangeTally {
    /// Succeeds if every message was acknowledged.
    ///
    /// # Errors
    /// Says what happened to the others.
    pub fn verdict(self) -> anyhow::Result<()> {
        let Self { sent, acknowledged, refused, broken } = self;
        if let Some(broken) = broken {
            return Err(broken.context(format!("{acknowledged} of {sent} messages sent were acknowledged")));
        }
        ensure!(refused == 0, "{acknowledged} messages were acknowledged, {refused} were refused");
        ensure!(sent == acknowledged, "{acknowledged} of {sent} messages sent were acknowledged");
        Ok(())
    }
}

/// Sends all of `input` and gives each reply to `replies`. A requested shutdown ends the input; replies to what was
/// sent are still waited for.
pub async fn run(
    stream: TcpStream,
    input: ClientInput,
    replies: &ReplyLog,
    reply_timeout: Duration,
    shutdown: &Shutdown,
) -> ExchangeTally {
    let (reader, writer) = stream.into_split();
    let progress = watch::Sender::new(ExchangeProgress::default());
    let frames = FrameReader::new(reader, LineCodec::new(MAX_REPLY_BYTES, AtEof::Reject));
    let receiving = Receiver { frames, replies, reply_timeout, progress: &progress }.run();
    let sending = async {
        let sent = send(writer, input, &progress, shutdown).await;
        progress.send_modify(|progress| progress.all_sent = true);
        sent
    };
    tokio::pin!(receiving, sending);
    // When the server has ended, what is still being typed has nowhere to go.
    let (sent, received) = tokio::select! {
        received = &mut receiving => (None, received),
        sent = &mut sending => (Some(sent), receiving.await),
    };
    let sent_error = sent.and_then(Result::err).map(|error| anyhow::Error::new(error).context("cannot send"));
    let ExchangeProgress { sent, acknowledged, refused, unsendable, .. } = *progress.borrow();
    ExchangeTally { sent, acknowledged, refused: refused + unsendable, broken: received.err().or(sent_error) }
}

/// Counts what sender and receiver have done so far; both watch it.
#[derive(Debug, Default)]
struct ExchangeProgress {
    sent: u64,
    acknowledged: u64,
    refused: u64,
    unsendable: u64,
    all_sent: bool,
}

impl ExchangeProgress {
    /// Returns the number of messages without a reply. (A server may also send an error that answers no message.)
    fn waiting(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged + self.refused)
    }

    fn is_complete(&self) -> bool {
        self.all_sent && self.waiting() == 0
    }
}

async fn send(
    mut writer: impl AsyncWrite + Unpin,
    mut input: ClientInput,
    progress: &watch::Sender<ExchangeProgress>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let mut codec = LineCodec::new(MAX_TEXT_BYTES, AtEof::Accept);
    let mut bytes = BytesMut::new();
    let mut watched = progress.subscribe();
    loop {
        let messages = tokio::select! {
            () = shutdown.requested() => Vec::new(),
            messages = input.next() => messages?,
        };
        if messages.is_empty() {
            return writer.shutdown().await;
        }
        let (mut sent, mut unsendable) = (0, 0);
        for message in messages {
            match message {
                Ok(message) => {
                    codec.encode(message.as_str(), &mut bytes)?;
                    sent += 1;
                }
                Err(rejection) => {
                    tracing::error!(%rejection, "not sent");
                    unsendable += 1;
                }
            }
        }
        // Waiting cannot fail: the caller holds the other side.
        let _ = watched.wait_for(|progress| progress.waiting() < WINDOW).await;
        progress.send_modify(|progress| {
            progress.sent += sent;
            progress.unsendable += unsendable;
        });
        writer.write_all(&bytes).await?;
        bytes.clear();
    }
}

struct Receiver<'a, R> {
    frames: FrameReader<R, LineCodec>,
    replies: &'a ReplyLog,
    reply_timeout: Duration,
    progress: &'a watch::Sender<ExchangeProgress>,
}

/// What the connection brought.
enum Came {
    Bytes,
    /// The connection brought nothing for [`REPLY_SILENCE`].
    Silence,
    End,
}

impl<R: AsyncRead + Unpin> Receiver<'_, R> {
    /// Receives until every message has its reply.
    async fn run(mut self) -> anyhow::Result<()> {
        loop {
            // A server of somebody else may send no line end. A reply of this protocol has one, so it is waited for.
            let unfinished = self.frames.unfinished();
            let heeds_silence =
                self.frames.decoder().is_mid_line(unfinished) && !ServerReply::can_begin_with(unfinished);
            let Some(came) = self.read_some(heeds_silence).await? else { return Ok(()) };
            let (codec, received) = self.frames.decoder_and_unfinished();
            let mut lines = Vec::new();
            while let Some(line) = codec.decode(received)? {
                lines.push(line?);
            }
            if !matches!(came, Came::Bytes) && !ServerReply::can_begin_with(received) {
                lines.extend(codec.decode_silence(received, HALF_CHARACTER_SILENCES).transpose()?);
            }
            if !lines.is_empty() {
                self.note(&lines).await?;
            }
            if let Came::End = came {
                // Half a reply is an error of its own.
                self.frames.next().await?.transpose()?;
                ensure!(self.progress.borrow().is_complete(), "the server closed the connection");
            }
        }
    }

    /// Reads once, for as long as the server may take, which is for ever while it owes no reply. Returns `None` once
    /// every message is answered.
    async fn read_some(&mut self, heeds_silence: bool) -> anyhow::Result<Option<Came>> {
        let (mut complete, mut owing) = (self.progress.subscribe(), self.progress.subscribe());
        let owed_too_long = async {
            // Waiting cannot fail: `self` holds the other side.
            let _ = owing.wait_for(|progress| progress.waiting() > 0).await;
            tokio::time::sleep(self.reply_timeout).await;
        };
        tokio::select! {
            biased;
            _ = complete.wait_for(ExchangeProgress::is_complete) => Ok(None),
            read = self.frames.fill() => Ok(Some(if read? == 0 { Came::End } else { Came::Bytes })),
            () = tokio::time::sleep(REPLY_SILENCE), if heeds_silence => Ok(Some(Came::Silence)),
            () = owed_too_long => bail!("no reply for {:?}", self.reply_timeout),
        }
    }

    /// Records and prints replies, whatever they say, and counts them.
    async fn note(&mut self, lines: &[String]) -> anyhow::Result<()> {
        self.replies.record(lines).await?;
        let replies: Vec<_> = lines.iter().map(|line| ServerReply::parse(line)).collect();
        let (mut acknowledged, mut refused) = (0, 0);
        for reply in replies.iter().flatten() {
            match reply {
                ServerReply::Received(_) => acknowledged += 1,
                ServerReply::Refused { .. } => refused += 1,
            }
        }
        self.progress.send_modify(|progress| {
            progress.acknowledged += acknowledged;
            progress.refused += refused;
        });
        for reply in replies {
            reply?;
        }
        Ok(())
    }
}
