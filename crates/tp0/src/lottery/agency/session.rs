//! One connection of an agency: batches in a window, the end, the question for winners.

use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;
use protocol::lottery::{BatchWriter, MAX_BATCH_BYTES, Part, Reply, ReplyDecoder, ReplyError, Request};
use service::net::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::codec::Decoder as _;

use super::bets::Reader;
use super::{Client, Progress};
use crate::action_log::{action, closed};

const READ_BYTES: usize = 16 * 1024;

/// Why a connection went no further.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection broke: another one may go further.
    Connection(anyhow::Error),
    /// Another one would not help.
    Fatal(anyhow::Error),
    /// The agency was asked to end, and nothing is on its way.
    Stopped,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Connection(error.into())
    }
}

impl From<ReplyError> for Broken {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Broken(error) => error.into(),
            other => Self::Fatal(other.into()),
        }
    }
}

/// A connection.
pub(super) struct Session {
    stream: TcpStream,
    decoder: ReplyDecoder,
    received: BytesMut,
    sending: Vec<u8>,
    /// Bets of each batch that has no answer yet.
    waiting: VecDeque<usize>,
}

impl Session {
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            decoder: ReplyDecoder::default(),
            received: BytesMut::new(),
            sending: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    /// Sends all bets from the first one on, and waits until each batch is answered.
    pub async fn send_bets(&mut self, client: &Client<'_>, progress: &mut Progress) -> Result<(), Broken> {
        progress.refused = 0;
        let mut reader = client.source.open().map_err(Broken::Fatal)?;
        let held = reader.file().map(|_| client.shutdown.hold("file of bets"));
        let sent = self.send_from(&mut reader, client, progress).await;
        if let Some(file) = reader.close() {
            drop(held);
            closed!(client.log, client.shutdown, "close_file", client_id = client.config.id, file);
        }
        // What is on its way is answered also where the agency was asked to end.
        if let Ok(()) | Err(Broken::Stopped) = &sent {
            while !self.waiting.is_empty() {
                self.take_answer(client, progress).await?;
            }
        }
        sent?;
        progress.told = true;
        Ok(())
    }

    /// Sends all bets, or those up to the moment when the agency is asked to end.
    async fn send_from(
        &mut self,
        reader: &mut Reader<'_>,
        client: &Client<'_>,
        progress: &mut Progress,
    ) -> Result<(), Broken> {
        let mut batch = BatchWriter::new(&client.agency, client.config.batch_max_amount, MAX_BATCH_BYTES);
        while let Some(bet) = reader.next().map_err(Broken::Fatal)? {
            let bet = match bet {
                Ok(bet) => bet,
                Err(error) => {
                    client.refuse_line(progress, &error);
                    continue;
                }
            };
            let fits = match batch.push(&bet) {
                Ok(fits) => fits,
                Err(error) => {
                    client.refuse_line(progress, &error);
                    continue;
                }
            };
            if !fits {
                self.send(&mut batch, client, progress).await?;
                // There is room: it fits into an empty message.
                let _ = batch.push(&bet);
            }
        }
        self.send(&mut batch, client, progress).await
    }

    /// Sends a batch when there is room in the window.
    async fn send(
        &mut self,
        batch: &mut BatchWriter,
        client: &Client<'_>,
        progress: &mut Progress,
    ) -> Result<(), Broken> {
        if batch.count() == 0 {
            return Ok(());
        }
        while self.waiting.len() >= usize::from(client.arguments.window) {
            self.take_answer(client, progress).await?;
        }
        client.goes_on()?;
        self.waiting.push_back(batch.count());
        batch.take(&mut self.sending);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        self.stream.write_all(&self.sending).await?;
        self.sending.clear();
        Ok(())
    }

    /// Takes the answer to the oldest batch.
    async fn take_answer(&mut self, client: &Client<'_>, progress: &mut Progress) -> Result<(), Broken> {
        let part = self.part(progress).await?;
        let bets = self.waiting.pop_front().unwrap_or_default();
        match part {
            Part::Reply(Reply::Acknowledged) => client.tell_sent(),
            Part::Reply(Reply::Refused) => client.tell_refused(bets, progress),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// Says that all is sent.
    pub async fn finish(&mut self, client: &Client<'_>, progress: &mut Progress) -> Result<(), Broken> {
        client.goes_on()?;
        Request::write_finished(&client.agency, &mut self.sending);
        self.flush().await?;
        match self.part(progress).await? {
            Part::Reply(Reply::Acknowledged) => progress.finished = true,
            Part::Reply(Reply::Refused) => {
                return Err(Broken::Fatal(anyhow::anyhow!("the server cannot note that all bets are sent")));
            }
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// Asks until the draw was held, and tells how many have won.
    pub async fn await_winners(
        &mut self,
        client: &Client<'_>,
        progress: &mut Progress,
    ) -> Result<(), Broken> {
        loop {
            client.goes_on()?;
            Request::write_winners(&client.agency, &mut self.sending);
            self.flush().await?;
            match self.part(progress).await? {
                Part::Reply(Reply::Wait) => tokio::select! {
                    () = client.shutdown.requested() => {}
                    () = tokio::time::sleep(client.config.loop_period.duration()) => {}
                },
                Part::WinnersBegin => break,
                Part::Reply(Reply::Refused) => {
                    return Err(Broken::Fatal(anyhow::anyhow!("the server refuses to tell the winners")));
                }
                other => return Err(unexpected(&other)),
            }
        }
        let mut winners = 0u64;
        loop {
            match self.part(progress).await? {
                Part::Winner(_) => winners += 1,
                Part::WinnersEnd => break,
                other => return Err(unexpected(&other)),
            }
        }
        action!(client.log, INFO, "consulta_ganadores", "success", cant_ganadores = winners);
        Ok(())
    }

    /// The next part of what the server says.
    async fn part(&mut self, progress: &mut Progress) -> Result<Part, Broken> {
        loop {
            if let Some(part) = self.decoder.decode(&mut self.received)? {
                progress.heard = true;
                return Ok(part);
            }
            self.received.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

fn unexpected(part: &Part) -> Broken {
    Broken::Fatal(anyhow::anyhow!("the server says what was not asked: {part:?}"))
}

impl Client<'_> {
    /// A single bet has its line; a batch is told by the server.
    fn tell_sent(&self) {
        if let super::Source::Single([_, _, document, _, number]) = &self.source {
            let digits = number.trim_start_matches('0');
            let number = if digits.is_empty() { "0" } else { digits };
            action!(self.log, INFO, "apuesta_enviada", "success", dni = document, numero = number);
        }
    }

    fn tell_refused(&self, bets: usize, progress: &mut Progress) {
        progress.refused += bets as u64;
        let error = "the server refused the batch: its log tells why";
        action!(self.log, ERROR, "apuesta_enviada", "fail", cantidad = bets, error);
    }

    /// A bet that is not sent; told in the first pass only.
    fn refuse_line(&self, progress: &mut Progress, error: &dyn std::fmt::Display) {
        progress.refused += 1;
        if !progress.told {
            action!(self.log, ERROR, "apuesta_enviada", "fail", error = %error);
        }
    }
}
