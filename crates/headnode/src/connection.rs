//! A client's connection: requests are answered in order, a batch at a time.

use std::iter::Peekable;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use protocol::line::Rejection;
use protocol::store::client_api::plain::{Form, RequestCodec, RequestLine};
use protocol::store::client_api::{
    ClientRequest, ErrorCode, HeadnodeReply, LIST_PAGE, NodeStatus, StoreStatus,
};
use protocol::store::json::{self, Malformed};
use protocol::store::types::{Id, MAX_MESSAGE_BYTES, NodeState};
use service::Shutdown;
use service::exchange::{Exchange, ExchangeEnded, PeerLimits};
use text::timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cluster_view::{DatanodeStatus, WantedEvents};
use crate::desk::OperatorDesk;
use crate::keeper::DecisionError;
use crate::metrics::{HeadnodeMetrics, RequestKind};
use crate::placement_error::PlacementError;
use crate::placer::{FoundMessage, PlacedMessage, Placer, RegisteredRecords, StoreOverview};
use crate::recent_messages::RecentMessages;

/// How many requests of one client are carried out at the same time.
const BATCH_REQUESTS: usize = 1024;
/// Replies are sent once they take this much memory, in bytes, even if further requests of the batch wait.
const REPLY_BYTES: usize = 256 * 1024;
/// How long a client may leave its replies unread.
const SEND: Duration = Duration::from_secs(10);

/// What all connections of clients share.
pub struct ClientContext {
    pub placer: Arc<Placer>,
    /// Answers what operators ask for.
    pub desk: OperatorDesk,
    pub metrics: HeadnodeMetrics,
    /// The last messages, for the page.
    pub recent: Arc<RecentMessages>,
    /// The number of datanodes that are expected. It is only reported.
    pub expected: usize,
    pub idle_timeout: Duration,
    pub shutdown: Shutdown,
}

/// Returns the line that says why a connection is not served.
pub fn refusal(code: ErrorCode, reason: String) -> String {
    let mut line = Vec::new();
    json::encode(&HeadnodeReply::Error { id: None, code, reason }, &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// Serves one client until it disconnects, breaks the rules, or the headnode shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, context: Arc<ClientContext>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut exchange =
        Exchange::new(stream, RequestCodec::default(), PeerLimits { idle: context.idle_timeout, send: SEND });
    match run(&mut exchange, peer, &context).await {
        Ok(()) if context.shutdown.is_requested() => {
            send_last_error(
                &mut exchange,
                ErrorCode::ShuttingDown,
                "the headnode is shutting down: try again later".to_owned(),
            )
            .await;
            tracing::debug!(%peer, "connection closed: shutting down");
        }
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        Err(error) => {
            tracing::warn!(%peer, %error, "connection closed");
            if let ExchangeEnded::Idle(limit) = error {
                let reason = format!("no whole request for {limit:?}: connect again");
                send_last_error(&mut exchange, ErrorCode::IdleTimeout, reason).await;
            }
        }
    }
    exchange.close().await;
}

/// Tells the client why its connection closes, in the form of the client's requests.
async fn send_last_error<S>(exchange: &mut Exchange<S, RequestCodec>, code: ErrorCode, reason: String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut line = Vec::new();
    exchange.decoder().form().encode(&HeadnodeReply::Error { id: None, code, reason }, &mut line);
    // The connection closes whether or not the client reads this.
    let _ = exchange.send(&mut line).await;
}

async fn run<S>(
    exchange: &mut Exchange<S, RequestCodec>,
    peer: SocketAddr,
    context: &ClientContext,
) -> Result<(), ExchangeEnded>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut lines = Vec::new();
    let mut replies = Vec::new();
    let mut answered = Vec::new();
    loop {
        exchange.next_batch(&mut lines, BATCH_REQUESTS, &context.shutdown).await?;
        if lines.is_empty() {
            return Ok(());
        }
        let read = |RequestLine { form, text }: RequestLine| {
            let request = text.map_err(NotARequest::Rejected);
            (form, request.and_then(|text| form.decode(text).map_err(NotARequest::Malformed)))
        };
        let mut requests = lines.drain(..).map(read).peekable();
        while requests.peek().is_some() {
            let begun = Instant::now();
            let batch = answer_next(&mut requests, peer, context).await;
            count(&batch, begun.elapsed(), &context.metrics);
            for (form, _, reply) in batch {
                form.encode(&reply, &mut replies);
                answered.extend(Some(reply).filter(is_reported));
            }
            // Unread replies must not fill the memory: a record is a hundred times as long as the request for it.
            if replies.len() >= REPLY_BYTES || requests.peek().is_none() {
                exchange.send(&mut replies).await?;
                answered.drain(..).for_each(|reply| report(&reply, peer));
            }
        }
    }
}

/// Why a line is not a request.
enum NotARequest {
    Rejected(Rejection),
    Malformed(Malformed),
}

/// The form of a line from the client, and the request that the line holds.
type ReceivedLine = (Form, Result<ClientRequest, NotARequest>);

/// Answers the next of `requests`. If it stores a message, all messages that directly follow are stored at the same
/// time. Requests behind them see these messages.
async fn answer_next(
    requests: &mut Peekable<impl Iterator<Item = ReceivedLine>>,
    peer: SocketAddr,
    context: &ClientContext,
) -> Vec<(Form, RequestKind, HeadnodeReply)> {
    let is_put = |(_, request): &ReceivedLine| matches!(request, Ok(ClientRequest::Put { .. }));
    let Some(first) = requests.next() else { return Vec::new() };
    let mut together = vec![first];
    while is_put(&together[0]) {
        match requests.next_if(is_put) {
            Some(next) => together.push(next),
            None => break,
        }
    }
    let answering = together
        .into_iter()
        .map(|(form, request)| async move { (form, kind(&request), answer(request, peer, context).await) });
    join_all(answering).await
}

fn kind(request: &Result<ClientRequest, NotARequest>) -> RequestKind {
    match request {
        Ok(ClientRequest::Put { .. }) => RequestKind::put,
        Ok(ClientRequest::Get { .. }) => RequestKind::get,
        Ok(ClientRequest::List { .. }) => RequestKind::list,
        Ok(ClientRequest::Status) => RequestKind::status,
        Ok(ClientRequest::Drain { .. }) => RequestKind::drain,
        Ok(ClientRequest::Forget { .. }) => RequestKind::forget,
        Ok(ClientRequest::Fsck { .. }) => RequestKind::fsck,
        Err(_) => RequestKind::invalid,
    }
}

/// Counts the answers of a batch. Those that follow each other with the same result are counted at once.
fn count(batch: &[(Form, RequestKind, HeadnodeReply)], duration: Duration, metrics: &HeadnodeMetrics) {
    let error = |reply: &HeadnodeReply| match reply {
        HeadnodeReply::Error { code, .. } => Some(*code),
        _ => None,
    };
    let alike = |(_, kind, reply): &(_, RequestKind, HeadnodeReply), (_, other, next): &(_, _, _)| {
        kind == other && error(reply) == error(next)
    };
    for run in batch.chunk_by(alike) {
        let (_, kind, reply) = &run[0];
        metrics.answered(*kind, error(reply).map(|code| code.to_string()), duration, run.len() as u64);
    }
}

async fn answer(
    request: Result<ClientRequest, NotARequest>,
    peer: SocketAddr,
    context: &ClientContext,
) -> HeadnodeReply {
    let placer = &context.placer;
    match request {
        Ok(ClientRequest::Put { id, message, .. }) if message.len() > MAX_MESSAGE_BYTES => {
            let reason =
                format!("the message has {} bytes; at most {MAX_MESSAGE_BYTES} are allowed", message.len());
            HeadnodeReply::Error { id, code: ErrorCode::MessageTooLong, reason }
        }
        Ok(ClientRequest::Put { id, is_new, message }) => {
            let is_new = is_new || id.is_none();
            let id = id.unwrap_or_else(|| placer.new_id());
            let outline = context.recent.outline(&message);
            match placer.put(id, is_new, message, peer).await {
                Ok(PlacedMessage { places, message_crc32c }) => {
                    if let Some(outline) = outline {
                        context.recent.push(outline, id, peer, &places);
                    }
                    HeadnodeReply::Saved { id, places, message_crc32c }
                }
                Err(error) => failed(Some(id), &error),
            }
        }
        Ok(ClientRequest::Get { id }) => match placer.get(id).await {
            Ok(FoundMessage { time, client, message, from }) => {
                HeadnodeReply::Record { id, time, client, message, from }
            }
            Err(error) => failed(Some(id), &error),
        },
        Ok(ClientRequest::List { last, before }) => match placer.list(last.min(LIST_PAGE), before) {
            Ok((entries, before)) => HeadnodeReply::Messages { entries, before },
            Err(error) => failed(None, &error),
        },
        Ok(ClientRequest::Status) => {
            HeadnodeReply::Status(status(placer.overview(WantedEvents::default()).await, context.expected))
        }
        Ok(ClientRequest::Drain { datanode, undo: false }) => match context.desk.drain(&datanode).await {
            Ok(Some(0)) => HeadnodeReply::Drained { datanode },
            Ok(left) => HeadnodeReply::Draining { datanode, left },
            Err(error) => undecided(&error),
        },
        Ok(ClientRequest::Drain { datanode, undo: true }) => match context.desk.keep(&datanode).await {
            Ok(()) => HeadnodeReply::Kept { datanode },
            Err(error) => undecided(&error),
        },
        Ok(ClientRequest::Forget { datanode, accept_loss }) => {
            match context.desk.forget(&datanode, accept_loss).await {
                Ok(lost) => HeadnodeReply::Forgotten { datanode, lost },
                Err(error) => undecided(&error),
            }
        }
        Ok(ClientRequest::Fsck { deep, from }) => match context.desk.check(from, deep).await {
            Ok(page) => HeadnodeReply::Fsck(page),
            Err(error) => undecided(&error),
        },
        Err(NotARequest::Rejected(rejection)) => rejected(&rejection),
        Err(NotARequest::Malformed(malformed)) => {
            let code = match malformed {
                Malformed::Version(_) => ErrorCode::UnsupportedVersion,
                Malformed::Syntax(_) | Malformed::Shape(_) => ErrorCode::Malformed,
            };
            HeadnodeReply::Error { id: None, code, reason: malformed.to_string() }
        }
    }
}

fn rejected(rejection: &Rejection) -> HeadnodeReply {
    let code = match rejection {
        Rejection::TooLong { .. } => ErrorCode::MessageTooLong,
        Rejection::InvalidUtf8 { .. } => ErrorCode::InvalidUtf8,
        Rejection::Unterminated { .. } => ErrorCode::Malformed,
    };
    HeadnodeReply::Error { id: None, code, reason: rejection.to_string() }
}

fn undecided(error: &DecisionError) -> HeadnodeReply {
    let code = match error {
        DecisionError::UnknownDatanode => ErrorCode::UnknownDatanode,
        DecisionError::Operative(_) => ErrorCode::DatanodeOperative,
        DecisionError::Away(_) => ErrorCode::DatanodeAway,
        DecisionError::WouldLose { .. } => ErrorCode::WouldLose,
        DecisionError::NoSpace => ErrorCode::DiskFull,
        DecisionError::Failed | DecisionError::CannotReadRegistry => ErrorCode::RegistryFailed,
    };
    HeadnodeReply::Error { id: None, code, reason: error.to_string() }
}

fn failed(id: Option<Id>, error: &PlacementError) -> HeadnodeReply {
    let code = match error {
        PlacementError::IdConflict => ErrorCode::IdConflict,
        PlacementError::UnreadableLine
        | PlacementError::CannotTell { .. }
        | PlacementError::MayNotLead { .. }
        | PlacementError::Away { .. } => ErrorCode::Unavailable,
        PlacementError::NotFound => ErrorCode::NotFound,
        PlacementError::Damaged { .. } => ErrorCode::Damaged,
        PlacementError::Lost { .. } => ErrorCode::Lost,
        PlacementError::NoAvailableDatanode => ErrorCode::NoAvailableDatanode,
        PlacementError::DatanodesFull | PlacementError::RegistryFull => ErrorCode::DiskFull,
        PlacementError::NotEnoughDatanodes { .. } => ErrorCode::NotEnoughDatanodes,
        PlacementError::RegistryFailed | PlacementError::CannotReadRegistry => ErrorCode::RegistryFailed,
    };
    HeadnodeReply::Error { id, code, reason: error.to_string() }
}

fn status(overview: StoreOverview, expected: usize) -> StoreStatus {
    let available = overview.available();
    let StoreOverview { cluster, drained, registered, replicas, messages, epoch } = overview;
    let (round, datanodes) = (cluster.round, cluster.datanodes);
    let is_operative = |datanode: &&DatanodeStatus| datanode.state != NodeState::NotOperative;
    let operative = datanodes.iter().filter(is_operative).count();
    let datanodes = datanodes.into_iter().zip(registered).map(|(datanode, records)| {
        let draining = drained.contains(&datanode.name);
        NodeStatus { draining, ..node_status(datanode, records) }
    });
    let datanodes = datanodes.collect();
    StoreStatus { datanodes, operative, available, expected, replicas, messages, round, epoch }
}

fn node_status(datanode: DatanodeStatus, registered: RegisteredRecords) -> NodeStatus {
    let records = datanode.records();
    let DatanodeStatus { name, state, cause, last_answer } = datanode;
    let answer = last_answer.as_ref();
    let round_trip = answer.map_or(0, |answer| answer.round_trip.as_micros());
    NodeStatus {
        name,
        state,
        address: answer.map(|answer| answer.address),
        // The registry is newer than the last answer if messages have been stored on the datanode since.
        records: records.max(registered.held),
        lost: registered.lost,
        free_bytes: answer.map_or(0, |answer| answer.free_bytes),
        last_answer: answer.map(|answer| timestamp(answer.time)),
        round_trip_us: u64::try_from(round_trip).unwrap_or(u64::MAX),
        cause,
        draining: false,
    }
}

/// Returns whether [`report`] logs a reply.
fn is_reported(reply: &HeadnodeReply) -> bool {
    matches!(reply, HeadnodeReply::Saved { .. } | HeadnodeReply::Error { .. })
}

/// Logs an event about a reply for the operator.
fn report(answer: &HeadnodeReply, peer: SocketAddr) {
    match answer {
        HeadnodeReply::Saved { id, places, .. } => {
            if tracing::enabled!(tracing::Level::INFO) {
                let places: Vec<_> = places.iter().map(ToString::to_string).collect();
                tracing::info!(%peer, %id, places = places.join(","), "message saved");
            }
        }
        HeadnodeReply::Error { id, code, reason } => {
            let id = id.map(|id| id.to_string());
            // Clients retry many times a second, and the cause was logged when it first occurred.
            if code.is_temporary() {
                tracing::debug!(%peer, id, ?code, reason, "request not done for now");
            } else {
                tracing::warn!(%peer, id, ?code, reason, "request not done");
            }
        }
        _ => {}
    }
}
