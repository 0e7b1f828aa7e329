//! One agency's connection: requests in, replies and action lines out, in order.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use batching::{PendingOutcome, Stopped};
use journal::WriteFailure;
use protocol::lottery::{
    AgencyFrame, AgencyRequest, BetLines, FrameRejection, LotteryReply, MalformedRequest, RequestDecoder,
    end_winners, start_winners,
};
use service::Shutdown;
use service::exchange::{self, Exchange, ExchangeEnded};
use tokio::io::{AsyncRead, AsyncWrite};

use super::board::LotteryBoard;
use super::csv_line;
use super::event::{BrokenCause, LotteryHappening, RefusedCause};
use super::store::{BetStore, Claims, JobOutcome, NewBatch, StoreWork};
use crate::action_log::{ActionLog, action, closed};

/// The most messages that are answered together.
const BATCH_MESSAGES: usize = 64;
/// Room for the lines of a batch, in lengths of its message: the agency stands in front of each bet.
const GROWTH: usize = 3;

/// What all connections share.
pub struct LotteryShared {
    pub log: ActionLog,
    /// How long an agency may take to complete a message, or to take its replies.
    pub timeout: Duration,
    pub store: BetStore,
    pub board: Arc<LotteryBoard>,
    pub shutdown: Shutdown,
}

/// Why a connection ended before its agency ended it.
#[derive(Debug, thiserror::Error)]
enum AgencyConnectionError {
    #[error(transparent)]
    Ended(#[from] ExchangeEnded),
    #[error("cannot read the winners: {0}")]
    Winners(std::io::Error),
    #[error("nothing more can be stored")]
    Storage,
}

impl AgencyConnectionError {
    fn cause(&self) -> BrokenCause {
        match self {
            Self::Ended(ExchangeEnded::Idle(_)) => BrokenCause::Idle,
            Self::Ended(ExchangeEnded::NotReading(_)) => BrokenCause::NotReading,
            Self::Ended(_) => BrokenCause::Cut,
            Self::Winners(_) | Self::Storage => BrokenCause::Files,
        }
    }
}

/// Why a message is refused.
#[derive(Debug, thiserror::Error)]
enum RefusedMessage {
    #[error(transparent)]
    Rejected(#[from] FrameRejection),
    #[error(transparent)]
    Malformed(#[from] MalformedRequest),
    #[error("this connection is of agency {known}, not of {given}")]
    OtherAgency { known: Arc<str>, given: String },
    #[error("{0}")]
    Stored(String),
}

impl RefusedMessage {
    /// Returns the cause for the board. What the store has refused, it has told the board itself.
    fn cause(&self) -> Option<RefusedCause> {
        match self {
            Self::Rejected(_) => Some(RefusedCause::Rejected),
            Self::Malformed(_) => Some(RefusedCause::Malformed),
            Self::OtherAgency { .. } => Some(RefusedCause::OtherAgency),
            Self::Stored(_) => None,
        }
    }
}

/// Serves one agency until it ends, breaks off, or the server shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, shared: Arc<LotteryShared>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _open = shared.board.metrics.connections.open();
    let limits = exchange::PeerLimits { idle: shared.timeout, send: shared.timeout };
    let exchange = Exchange::new(stream, RequestDecoder::default(), limits);
    let mut connection = AgencyConnection {
        exchange,
        shared: &shared,
        agency: None,
        claims: Arc::default(),
        waiting: VecDeque::new(),
        replies: Vec::new(),
        is_telling_winners: false,
    };
    let ended = connection.run().await;
    let (exchange, agency) = (connection.exchange, connection.agency);
    if let Err(error) = &ended {
        tracing::warn!(%peer, %error, "connection broken");
        if let Some(KnownAgency { name, .. }) = agency {
            shared.board.note(Some(name), LotteryHappening::Broken(error.cause()));
        }
    }
    if !matches!(
        ended,
        Err(AgencyConnectionError::Ended(ExchangeEnded::Broken(_) | ExchangeEnded::NotReading(_))
            | AgencyConnectionError::Storage)
    ) {
        exchange.close().await;
    }
    closed!(shared.log, shared.shutdown, "close_connection", ip = %peer.ip());
}

/// The agency of a connection, and the beginning of its lines in `bets.csv`.
struct KnownAgency {
    name: Arc<str>,
    prefix: Vec<u8>,
}

struct AgencyConnection<'a, S> {
    exchange: Exchange<S, RequestDecoder>,
    shared: &'a LotteryShared,
    agency: Option<KnownAgency>,
    claims: Arc<Claims>,
    /// Batches whose outcome is not known yet, in order.
    waiting: VecDeque<UnansweredBatch>,
    replies: Vec<u8>,
    /// Whether the end of a list of winners is among the replies.
    is_telling_winners: bool,
}

struct UnansweredBatch {
    pending: PendingOutcome<StoreWork>,
    bets: u32,
    /// Document and number, in a batch of one bet.
    single: Option<(String, u32)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AgencyConnection<'_, S> {
    async fn run(&mut self) -> Result<(), AgencyConnectionError> {
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
            if let Some(agency) = &self.agency
                && mem::take(&mut self.is_telling_winners)
            {
                self.shared.board.told(&agency.name);
            }
        }
    }

    async fn answer(
        &mut self,
        frame: Result<AgencyFrame, FrameRejection>,
    ) -> Result<(), AgencyConnectionError> {
        let text = match frame.as_ref().map_err(Clone::clone).and_then(AgencyFrame::text) {
            Ok(text) => text,
            Err(rejection) => return self.refuse(0, &rejection.into()).await,
        };
        let request = match self.read(text) {
            Ok(request) => request,
            Err(refused) => return self.refuse(bets_in(text), &refused).await,
        };
        let Some(KnownAgency { name, prefix }) = &self.agency else { return Ok(()) };
        let name = name.clone();
        match request {
            AgencyRequest::Bets { bets, .. } => match batch(bets, prefix, GROWTH * text.len()) {
                Err(malformed) => self.refuse(bets_in(text), &malformed.into()).await,
                Ok((lines, bets, single)) => {
                    let batch = NewBatch { agency: name, lines, bets, claims: self.claims.clone() };
                    let Ok(pending) = self.shared.store.enqueue(batch).await else {
                        // The batches before it may be stored.
                        self.settle().await?;
                        return Err(AgencyConnectionError::Storage);
                    };
                    self.waiting.push_back(UnansweredBatch { pending, bets, single });
                    Ok(())
                }
            },
            AgencyRequest::Finished { .. } => {
                self.settle().await?;
                match self.shared.store.finish(name).await? {
                    JobOutcome::Finished | JobOutcome::Stored(_) | JobOutcome::Repeated => {
                        self.reply(LotteryReply::Acknowledged);
                    }
                    JobOutcome::NoSpace(failure) => self.warn_refused(&failure),
                    JobOutcome::Refused(refusal) => self.warn_refused(&refusal),
                }
                Ok(())
            }
            AgencyRequest::Winners { .. } => {
                self.settle().await?;
                self.tell_winners(&name).await
            }
        }
    }

    /// Reads a message, and holds the connection to its agency.
    fn read<'f>(&mut self, text: &'f str) -> Result<AgencyRequest<'f>, RefusedMessage> {
        let request = AgencyRequest::parse(text)?;
        let given = request.agency();
        match &self.agency {
            None => {
                let name: Arc<str> = given.into();
                self.shared.board.note(Some(name.clone()), LotteryHappening::Connected);
                self.agency = Some(KnownAgency { name, prefix: csv_line::agency_prefix(given) });
            }
            Some(agency) if *agency.name == *given => {}
            Some(agency) => {
                return Err(RefusedMessage::OtherAgency {
                    known: agency.name.clone(),
                    given: given.to_owned(),
                });
            }
        }
        Ok(request)
    }

    /// Refuses a message with this number of bets, after all messages before it are answered.
    async fn refuse(&mut self, bets: usize, why: &RefusedMessage) -> Result<(), AgencyConnectionError> {
        self.settle().await?;
        self.tell_refused(bets as u64, why);
        Ok(())
    }

    fn tell_refused(&mut self, bets: u64, why: &RefusedMessage) {
        if let Some(cause) = why.cause() {
            let agency = self.agency.as_ref().map(|agency| agency.name.clone());
            self.shared.board.refused(agency, cause);
        }
        action!(self.shared.log, ERROR, "apuesta_recibida", "fail", cantidad = bets, error = %why);
        self.reply(LotteryReply::Refused);
    }

    fn warn_refused(&mut self, why: &dyn std::fmt::Display) {
        tracing::error!(%why, "the end of an agency is not stored");
        self.reply(LotteryReply::Refused);
    }

    fn reply(&mut self, reply: LotteryReply) {
        self.replies.extend_from_slice(reply.as_bytes());
    }

    /// Waits for the outcome of all batches, and answers them.
    async fn settle(&mut self) -> Result<(), AgencyConnectionError> {
        while let Some(UnansweredBatch { pending, bets, single }) = self.waiting.pop_front() {
            match pending.outcome().await? {
                JobOutcome::Stored(new) => {
                    if new < bets {
                        tracing::info!(bets, new, "some bets of a batch are stored already");
                    }
                    if let Some((document, number)) = single {
                        let log = &self.shared.log;
                        action!(log, INFO, "apuesta_almacenada", "success", dni = document, numero = number);
                    }
                    action!(self.shared.log, INFO, "apuesta_recibida", "success", cantidad = new);
                    self.reply(LotteryReply::Acknowledged);
                }
                JobOutcome::Finished | JobOutcome::Repeated => {
                    tracing::info!(bets, "a batch that is stored already came again: acknowledged");
                    self.reply(LotteryReply::Acknowledged);
                }
                JobOutcome::Refused(refusal) => {
                    self.tell_refused(bets.into(), &RefusedMessage::Stored(refusal.to_string()));
                }
                JobOutcome::NoSpace(failure) => {
                    self.tell_refused(bets.into(), &RefusedMessage::Stored(failure.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Sends the winners as they are read, or tells the agency to wait.
    async fn tell_winners(&mut self, agency: &str) -> Result<(), AgencyConnectionError> {
        let requests = &self.shared.board.metrics.winner_requests;
        let Some(mut winners) = self.shared.store.winners(agency) else {
            requests.wait.inc();
            self.reply(LotteryReply::Wait);
            return Ok(());
        };
        self.replies.extend_from_slice(start_winners());
        loop {
            let (next, out, more) = winners
                .next(mem::take(&mut self.replies))
                .await
                .map_err(AgencyConnectionError::Winners)
                .inspect_err(|_| _ = requests.failed.inc())?;
            (winners, self.replies) = (next, out);
            if !more {
                break;
            }
            // The list goes on while the server shuts down: half of it would be worth nothing.
            self.exchange.send(&mut self.replies).await?;
        }
        self.replies.extend_from_slice(end_winners());
        self.is_telling_winners = true;
        Ok(())
    }
}

/// Nobody can say whether the bets are stored, so the agency gets no answer and asks again.
impl From<Stopped<WriteFailure>> for AgencyConnectionError {
    fn from(_: Stopped<WriteFailure>) -> Self {
        Self::Storage
    }
}

type BatchLines = (Vec<u8>, u32, Option<(String, u32)>);

/// Returns the lines of a batch for `bets.csv`, their number, and document and number of a bet that is alone.
fn batch(bets: BetLines<'_>, prefix: &[u8], room: usize) -> Result<BatchLines, MalformedRequest> {
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

/// Returns how many bets a refused message seems to hold.
fn bets_in(text: &str) -> usize {
    let Some((_, bets)) = text.split_once(":4:") else { return 0 };
    bets.lines().count()
}
