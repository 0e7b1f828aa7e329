//! One agency's connection: requests in, replies and action lines out, in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::lottery::{
    Bets, Frame, Malformed, Rejection, Reply, Request, RequestDecoder, end_winners, start_winners,
};
use service::Shutdown;
use service::exchange::{self, Exchange, ExchangeEnded};
use tokio::io::{AsyncRead, AsyncWrite};

use super::csv_line;
use super::store::{Claims, NewBatch, Outcome, Pending, Store};
use crate::action_log::{ActionLog, action, closed};

/// Messages that are answered together.
const BATCH_MESSAGES: usize = 64;
/// Room for the lines of a batch: more than its message, since the agency stands in front of each bet.
const GROWTH: usize = 3;

/// What all connections share.
pub struct Shared {
    pub log: ActionLog,
    /// How long an agency may take to complete a message, or to take its replies.
    pub timeout: Duration,
    pub store: Store,
    pub shutdown: Shutdown,
}

/// Why a connection ended before its agency ended it.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Ended(#[from] ExchangeEnded),
    #[error("cannot read the winners: {0}")]
    Winners(std::io::Error),
    #[error("nothing more can be stored")]
    Storage,
}

/// Why a message is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("this connection is of agency {known}, not of {given}")]
    OtherAgency { known: Arc<str>, given: String },
    #[error("{0}")]
    Stored(String),
}

/// Serves one agency until it ends, breaks off, or the server shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = exchange::PeerLimits { idle: shared.timeout, send: shared.timeout };
    let exchange = Exchange::new(stream, RequestDecoder::default(), limits);
    let mut connection = Connection {
        exchange,
        shared: &shared,
        agency: None,
        claims: Arc::default(),
        waiting: VecDeque::new(),
        replies: Vec::new(),
    };
    let ended = connection.run().await;
    let exchange = connection.exchange;
    if let Err(error) = &ended {
        tracing::warn!(%peer, %error, "connection broken");
    }
    if !matches!(
        ended,
        Err(Failed::Ended(ExchangeEnded::Broken(_) | ExchangeEnded::NotReading(_)) | Failed::Storage)
    ) {
        exchange.close().await;
    }
    closed!(shared.log, shared.shutdown, "close_connection", ip = %peer.ip());
}

/// Who the agency is, and the beginning of its lines in `bets.csv`.
struct Agency {
    name: Arc<str>,
    prefix: Vec<u8>,
}

struct Connection<'a, S> {
    exchange: Exchange<S, RequestDecoder>,
    shared: &'a Shared,
    agency: Option<Agency>,
    claims: Arc<Claims>,
    /// Batches whose outcome is not known yet, in order.
    waiting: VecDeque<Waiting>,
    replies: Vec<u8>,
}

struct Waiting {
    pending: Pending,
    bets: u32,
    /// Document and number, of a batch of one bet.
    single: Option<(String, u32)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self) -> Result<(), Failed> {
        let mut frames = Vec::new();
        loop {
            self.exchange.next_batch(&mut frames, BATCH_MESSAGES, &self.shared.shutdown).await?;
            if frames.is_empty() {
                return Ok(());
            }
            for frame in frames.drain(..) {
                self.answer(frame).await?;
            }
            self.settle().await?;
            self.exchange.send(&mut self.replies).await?;
        }
    }

    async fn answer(&mut self, frame: Result<Frame, Rejection>) -> Result<(), Failed> {
        let text = match frame.as_ref().map_err(Clone::clone).and_then(Frame::text) {
            Ok(text) => text,
            Err(rejection) => return self.refuse(0, &rejection.into()).await,
        };
        let request = match self.read(text) {
            Ok(request) => request,
            Err(refused) => return self.refuse(bets_in(text), &refused).await,
        };
        let Some(Agency { name, prefix }) = &self.agency else { return Ok(()) };
        let name = name.clone();
        match request {
            Request::Bets { bets, .. } => match batch(bets, prefix, GROWTH * text.len()) {
                Err(malformed) => self.refuse(bets_in(text), &malformed.into()).await,
                Ok((lines, bets, single)) => {
                    let batch = NewBatch { agency: name, lines, bets, claims: self.claims.clone() };
                    let pending = self.shared.store.submit(batch).await;
                    self.waiting.push_back(Waiting { pending, bets, single });
                    Ok(())
                }
            },
            Request::Finished { .. } => {
                self.settle().await?;
                match self.shared.store.finish(name).await {
                    Outcome::Done | Outcome::Stored(_) | Outcome::Repeated => self.reply(Reply::Acknowledged),
                    Outcome::Unknown => return Err(Failed::Storage),
                    Outcome::NoSpace(failure) => self.warn_refused(&failure),
                    Outcome::Refused(refusal) => self.warn_refused(&refusal),
                }
                Ok(())
            }
            Request::Winners { .. } => {
                self.settle().await?;
                self.tell_winners(&name).await
            }
        }
    }

    /// Reads a message, and holds the connection to its agency.
    fn read<'f>(&mut self, text: &'f str) -> Result<Request<'f>, Refused> {
        let request = Request::parse(text)?;
        let given = request.agency();
        match &self.agency {
            None => {
                self.agency = Some(Agency { name: given.into(), prefix: csv_line::agency_prefix(given) });
            }
            Some(agency) if *agency.name == *given => {}
            Some(agency) => {
                return Err(Refused::OtherAgency { known: agency.name.clone(), given: given.to_owned() });
            }
        }
        Ok(request)
    }

    /// Refuses a message of so many bets, after all before it are answered.
    async fn refuse(&mut self, bets: usize, why: &Refused) -> Result<(), Failed> {
        self.settle().await?;
        self.tell_refused(bets as u64, why);
        Ok(())
    }

    fn tell_refused(&mut self, bets: u64, why: &Refused) {
        action!(self.shared.log, ERROR, "apuesta_recibida", "fail", cantidad = bets, error = %why);
        self.reply(Reply::Refused);
    }

    fn warn_refused(&mut self, why: &dyn std::fmt::Display) {
        tracing::error!(%why, "the end of an agency is not stored");
        self.reply(Reply::Refused);
    }

    fn reply(&mut self, reply: Reply) {
        self.replies.extend_from_slice(reply.as_bytes());
    }

    /// Waits for the outcome of all batches, and answers them.
    async fn settle(&mut self) -> Result<(), Failed> {
        while let Some(Waiting { pending, bets, single }) = self.waiting.pop_front() {
            match pending.outcome().await {
                Outcome::Stored(new) => {
                    if new < bets {
                        tracing::info!(bets, new, "some bets of a batch are stored already");
                    }
                    if let Some((document, number)) = single {
                        let log = &self.shared.log;
                        action!(log, INFO, "apuesta_almacenada", "success", dni = document, numero = number);
                    }
                    action!(self.shared.log, INFO, "apuesta_recibida", "success", cantidad = new);
                    self.reply(Reply::Acknowledged);
                }
                Outcome::Done | Outcome::Repeated => {
                    tracing::info!(bets, "a batch that is stored already came again: acknowledged");
                    self.reply(Reply::Acknowledged);
                }
                Outcome::Refused(refusal) => {
                    self.tell_refused(bets.into(), &Refused::Stored(refusal.to_string()));
                }
                Outcome::NoSpace(failure) => {
                    self.tell_refused(bets.into(), &Refused::Stored(failure.to_string()));
                }
                // Neither yes nor no would be true: the agency will ask again.
                Outcome::Unknown => return Err(Failed::Storage),
            }
        }
        Ok(())
    }

    /// Sends the winners as they are read, or tells to wait.
    async fn tell_winners(&mut self, agency: &str) -> Result<(), Failed> {
        let Some(mut winners) = self.shared.store.winners(agency) else {
            self.reply(Reply::Wait);
            return Ok(());
        };
        self.replies.extend_from_slice(start_winners());
        loop {
            let (next, out, more) =
                winners.next(std::mem::take(&mut self.replies)).await.map_err(Failed::Winners)?;
            (winners, self.replies) = (next, out);
            if !more {
                break;
            }
            // Also while the server shuts down: half a list would be worth nothing.
            self.exchange.send(&mut self.replies).await?;
        }
        self.replies.extend_from_slice(end_winners());
        Ok(())
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Ended(error.into())
    }
}

type Lines = (Vec<u8>, u32, Option<(String, u32)>);

/// The lines of a batch for `bets.csv`, how many they are, and who bets on what if there is one only.
fn batch(bets: Bets<'_>, prefix: &[u8], room: usize) -> Result<Lines, Malformed> {
    let mut lines = Vec::with_capacity(room.min(16 * 1024));
    let (mut count, mut single) = (0, None);
    for bet in bets {
        let bet = bet?;
        csv_line::push(prefix, &bet, &mut lines);
        count += 1;
        single = (count == 1).then_some(bet);
    }
    Ok((lines, count, single.map(|bet| (bet.document().to_owned(), bet.number()))))
}

/// How many bets a message that cannot be taken seems to hold.
fn bets_in(text: &str) -> usize {
    let Some((_, bets)) = text.split_once(":4:") else { return 0 };
    bets.lines().count()
}
