//! One connection of an agency: batches in a window, the end, the question for winners.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;

use anyhow::anyhow;
use protocol::lottery::{
    AgencyRequest, BatchWriter, LotteryReply, MAX_BATCH_BYTES, ReplyDecoder, ReplyError, ReplyPart,
};
use service::Shutdown;
use service::frames::FrameReader;
use service::net::{self, TcpStream};
use tokio::io::AsyncWriteExt as _;

use super::bets::{BetReader, BetSource};
use super::config::AgencyConfig;
use crate::action_log::{ActionLog, action, closed};

/// Why a connection went no further.
#[derive(Debug)]
pub enum SessionEnd {
    /// The connection broke: another one may go further.
    Connection(io::Error),
    /// Another connection would not help.
    Fatal(anyhow::Error),
    /// The agency was asked to end, and nothing is on its way.
    Stopped,
}

impl From<io::Error> for SessionEnd {
    fn from(error: io::Error) -> Self {
        match error.downcast::<ReplyError>() {
            Ok(not_of_the_lottery) => Self::Fatal(not_of_the_lottery.into()),
            Err(error) => Self::Connection(error),
        }
    }
}

/// How far the agency has come.
#[derive(Debug, Default)]
pub struct AgencyProgress {
    /// The server knows that all bets are sent: what is left is to ask.
    pub is_finished: bool,
    /// How many bets were refused, in the last pass.
    pub refused: u64,
    /// The log has the lines that are no bets.
    are_refusals_told: bool,
    /// Something was heard on this connection.
    pub heard: bool,
}

/// A connection to the lottery.
pub struct AgencySession<'a> {
    config: &'a AgencyConfig,
    log: &'a ActionLog,
    shutdown: &'a Shutdown,
    progress: &'a mut AgencyProgress,
    replies: FrameReader<TcpStream, ReplyDecoder>,
    sending: Vec<u8>,
    /// How many bets each batch has that has no answer yet.
    unanswered: VecDeque<usize>,
}

impl<'a> AgencySession<'a> {
    pub async fn connect(
        config: &'a AgencyConfig,
        log: &'a ActionLog,
        shutdown: &'a Shutdown,
        progress: &'a mut AgencyProgress,
    ) -> io::Result<Self> {
        let stream = net::connect(&config.server_address, config.wait).await?;
        let replies = FrameReader::new(stream, ReplyDecoder::default());
        let (sending, unanswered) = (Vec::new(), VecDeque::new());
        Ok(Self { config, log, shutdown, progress, replies, sending, unanswered })
    }

    /// Does what is left to do: sends the bets, says that they are all, and asks for the winners.
    pub async fn converse(&mut self) -> Result<(), SessionEnd> {
        if !self.progress.is_finished {
            self.send_bets().await?;
            if self.config.awaits_draw {
                self.finish().await?;
            }
        }
        if self.config.awaits_draw {
            self.await_winners().await?;
        }
        Ok(())
    }

    /// Sends all bets from the first one on, and waits until each batch is answered.
    async fn send_bets(&mut self) -> Result<(), SessionEnd> {
        self.progress.refused = 0;
        let mut reader = self.config.source.open().map_err(SessionEnd::Fatal)?;
        let file = reader.file().map(|name| (name.to_owned(), self.shutdown.hold("file of bets")));
        let sent = self.send_from(&mut reader).await;
        drop(reader);
        if let Some((file, held)) = file {
            drop(held);
            closed!(self.log, self.shutdown, "close_file", client_id = self.config.agency.as_str(), file);
        }
        // The agency waits for the answers to what is on its way also where it was asked to end.
        if let Ok(()) | Err(SessionEnd::Stopped) = &sent {
            while !self.unanswered.is_empty() {
                self.await_answer().await?;
            }
        }
        sent?;
        self.progress.are_refusals_told = true;
        Ok(())
    }

    /// Sends all bets, or those up to the moment when the agency is asked to end.
    async fn send_from(&mut self, reader: &mut BetReader<'_>) -> Result<(), SessionEnd> {
        let mut batch = BatchWriter::new(&self.config.agency, self.config.batch_max_amount, MAX_BATCH_BYTES);
        while let Some(bet) = reader.next().map_err(SessionEnd::Fatal)? {
            let bet = match bet {
                Ok(bet) => bet,
                Err(error) => {
                    self.refuse_line(&error);
                    continue;
                }
            };
            match batch.push(&bet) {
                Ok(true) => {}
                Ok(false) => {
                    self.send(&mut batch).await?;
                    // There is room: the bet fits into an empty message.
                    let _ = batch.push(&bet);
                }
                Err(error) => self.refuse_line(&error),
            }
        }
        self.send(&mut batch).await
    }

    /// Sends a batch when there is room in the window.
    async fn send(&mut self, batch: &mut BatchWriter) -> Result<(), SessionEnd> {
        if batch.count() == 0 {
            return Ok(());
        }
        while self.unanswered.len() >= self.config.window {
            self.await_answer().await?;
        }
        self.stop_if_asked()?;
        self.unanswered.push_back(batch.count());
        batch.finish_message(&mut self.sending);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), SessionEnd> {
        self.replies.stream_mut().write_all(&self.sending).await?;
        self.sending.clear();
        Ok(())
    }

    /// Fails if nothing new is to be begun.
    fn stop_if_asked(&self) -> Result<(), SessionEnd> {
        if self.shutdown.is_requested() { Err(SessionEnd::Stopped) } else { Ok(()) }
    }

    /// Waits for the answer to the oldest batch.
    async fn await_answer(&mut self) -> Result<(), SessionEnd> {
        let part = self.next_part().await?;
        let bets = self.unanswered.pop_front().unwrap_or_default();
        match part {
            ReplyPart::Reply(LotteryReply::Acknowledged) => self.tell_sent(),
            ReplyPart::Reply(LotteryReply::Refused) => {
                self.progress.refused += bets as u64;
                let error = "the server refused the batch: its log tells why";
                action!(self.log, ERROR, "apuesta_enviada", "fail", cantidad = bets, error);
            }
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// Says that all bets are sent.
    async fn finish(&mut self) -> Result<(), SessionEnd> {
        self.stop_if_asked()?;
        AgencyRequest::write_finished(&self.config.agency, &mut self.sending);
        self.flush().await?;
        match self.next_part().await? {
            ReplyPart::Reply(LotteryReply::Acknowledged) => self.progress.is_finished = true,
            ReplyPart::Reply(LotteryReply::Refused) => {
                return Err(SessionEnd::Fatal(anyhow!("the server cannot note that all bets are sent")));
            }
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// Asks until the draw was held, and tells how many have won.
    async fn await_winners(&mut self) -> Result<(), SessionEnd> {
        loop {
            self.stop_if_asked()?;
            AgencyRequest::write_winners(&self.config.agency, &mut self.sending);
            self.flush().await?;
            match self.next_part().await? {
                ReplyPart::Reply(LotteryReply::Wait) => tokio::select! {
                    () = self.shutdown.requested() => {}
                    () = tokio::time::sleep(self.config.ask_period) => {}
                },
                ReplyPart::WinnersBegin => break,
                ReplyPart::Reply(LotteryReply::Refused) => {
                    return Err(SessionEnd::Fatal(anyhow!("the server refuses to tell the winners")));
                }
                other => return Err(unexpected(&other)),
            }
        }
        let mut winners = 0u64;
        loop {
            match self.next_part().await? {
                ReplyPart::Winner(_) => winners += 1,
                ReplyPart::WinnersEnd => break,
                other => return Err(unexpected(&other)),
            }
        }
        action!(self.log, INFO, "consulta_ganadores", "success", cant_ganadores = winners);
        Ok(())
    }

    /// Returns the next part of what the server says.
    async fn next_part(&mut self) -> Result<ReplyPart, SessionEnd> {
        let part = self.replies.next().await?.ok_or(io::ErrorKind::UnexpectedEof);
        let part = part.map_err(io::Error::from)?;
        self.progress.heard = true;
        Ok(part)
    }

    /// Tells of a single bet. The server tells of batches.
    fn tell_sent(&self) {
        if let BetSource::Single([_, _, document, _, number]) = &self.config.source {
            let digits = number.trim_start_matches('0');
            let number = if digits.is_empty() { "0" } else { digits };
            action!(self.log, INFO, "apuesta_enviada", "success", dni = document, numero = number);
        }
    }

    /// Tells of a bet that is not sent, in the first pass only.
    fn refuse_line(&mut self, error: &dyn Display) {
        self.progress.refused += 1;
        if !self.progress.are_refusals_told {
            action!(self.log, ERROR, "apuesta_enviada", "fail", error = %error);
        }
    }
}

fn unexpected(part: &ReplyPart) -> SessionEnd {
    SessionEnd::Fatal(anyhow!("the server says what was not asked: {part:?}"))
}
