//! A headnode's connection: requests are answered in order, a batch at a time.

use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use protocol::line::{AtEof, LineCodec, Rejection};
use protocol::store::json::{self, MAX_FRAME_BYTES, VERSION};
use protocol::store::node_api::{
    GAPS_PAGE, HOLDINGS_PAGE, HeldRecord, MAX_HELLO_BYTES, NodeFailure, NodeReply, NodeRequest, PEERS_PAGE,
};
use protocol::store::types::{MessageCrc, StoredRecord, beginning};
use service::Shutdown;
use service::exchange::{Exchange, ExchangeEnded, PeerLimits};
use text::timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::contents::ReadError;
use crate::identity::DatanodeIdentity;
use crate::lobby::LobbyPlace;
use crate::store::{Claim, Confirmation, MessageStore, NewMessage, StoreError};

/// How many requests are answered together.
const BATCH_REQUESTS: usize = 1024;
const SEND: Duration = Duration::from_secs(10);
/// Limits before the hello, which a headnode sends at once.
const BEFORE_HELLO: PeerLimits = PeerLimits { idle: Duration::from_secs(5), send: SEND };
/// Limits after the hello. A headnode may have nothing to store for days. If a headnode has disappeared, TCP notices
/// that, or another connection takes over.
const AFTER_HELLO: PeerLimits = PeerLimits { idle: Duration::from_secs(30 * 24 * 60 * 60), send: SEND };
/// Replies are sent once they take this much memory, in bytes, even if further requests of the batch wait.
const REPLY_BYTES: usize = 256 * 1024;

/// What all connections of the datanode share.
pub struct ConnectionContext {
    pub identity: Arc<DatanodeIdentity>,
    /// All connections are served on one thread, and none keeps the lock while it waits.
    pub store: Mutex<MessageStore>,
    pub shutdown: Shutdown,
}

impl ConnectionContext {
    fn store(&self) -> MutexGuard<'_, MessageStore> {
        // No code that holds the lock can panic in the middle of a change.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the line that is sent on a connection over the limit.
pub fn refusal() -> String {
    let mut line = Vec::new();
    json::encode(
        &failed(NodeFailure::TooManyConnections, "too many connections: close some of them"),
        &mut line,
    );
    String::from_utf8_lossy(&line).into_owned()
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Closing {
    #[error(transparent)]
    Ended(#[from] ExchangeEnded),
    #[error("too many connections have sent no hello, and this one has waited longest")]
    Evicted,
}

/// Serves one headnode until it disconnects, breaks the rules or is displaced by another connection, or until the
/// datanode shuts down.
///
/// `place` is the connection's place in the lobby, which it got when it was accepted. If this task took the place
/// itself, places would follow the order in which tasks first run, not the order in which connections arrive.
pub async fn serve<S>(stream: S, peer: SocketAddr, place: LobbyPlace, context: Arc<ConnectionContext>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let codec = LineCodec::new(MAX_HELLO_BYTES, AtEof::Reject);
    let mut exchange = Exchange::new(stream, codec, BEFORE_HELLO);
    let mut connection =
        HeadnodeConnection { peer, context: &context, role: Role::Unknown(place), goes_on: true };
    let outcome = connection.run(&mut exchange).await;
    match (&connection.role, outcome) {
        // The peer only checked whether this datanode listens, as health checks do every second.
        (Role::Unknown(_), Ok(())) => tracing::debug!(%peer, "connection closed"),
        (Role::Headnode(_), Ok(())) => tracing::info!(%peer, "connection closed"),
        // The place of this connection is needed, so the datanode does not wait until the peer has read a reply.
        (_, Err(error @ Closing::Evicted)) => return tracing::debug!(%peer, %error, "connection closed"),
        (Role::Unknown(_), Err(Closing::Ended(ExchangeEnded::Idle(limit)))) => {
            tracing::debug!(%peer, "connection closed: no hello");
            let mut line = Vec::new();
            json::encode(
                &failed(NodeFailure::HelloTimeout, &format!("no hello within {limit:?}")),
                &mut line,
            );
            // The connection closes whether or not the peer reads this.
            let _ = exchange.send(&mut line).await;
        }
        (_, Err(error)) => tracing::warn!(%peer, %error, "connection broken"),
    }
    exchange.close().await;
}

struct HeadnodeConnection<'a> {
    peer: SocketAddr,
    context: &'a ConnectionContext,
    role: Role,
    /// Whether further requests are answered. After a refusal none is.
    goes_on: bool,
}

/// The peer of a connection.
enum Role {
    /// The peer is unknown before the hello.
    Unknown(LobbyPlace),
    /// A headnode, which may store until another connection takes over.
    Headnode(Claim),
}

impl Role {
    /// Waits until the connection has to end in favour of another one.
    async fn displaced(&mut self) {
        match self {
            Self::Unknown(place) => place.evicted().await,
            Self::Headnode(claim) => claim.lost().await,
        }
    }
}

impl HeadnodeConnection<'_> {
    async fn run<S>(&mut self, exchange: &mut Exchange<S, LineCodec>) -> Result<(), Closing>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut lines = Vec::new();
        let mut replies = Vec::new();
        while self.goes_on {
            let is_unknown = matches!(self.role, Role::Unknown(_));
            // The first line is answered alone, because other limits apply to what follows it.
            let most = if is_unknown { 1 } else { BATCH_REQUESTS };
            tokio::select! {
                biased;
                () = self.role.displaced() => {
                    if is_unknown {
                        return Err(Closing::Evicted);
                    }
                    tracing::warn!(peer = %self.peer, "a newer connection of a headnode has taken over; if there are two headnodes on purpose, give each its own --group");
                    return Ok(());
                }
                taken = exchange.next_batch(&mut lines, most, &self.context.shutdown) => taken?,
            }
            if lines.is_empty() {
                return Ok(());
            }
            let mut lines = lines.drain(..).peekable();
            while lines.peek().is_some() && self.goes_on {
                self.answer(&mut lines, &mut replies);
                exchange.send(&mut replies).await?;
            }
            if is_unknown && matches!(self.role, Role::Headnode(_)) {
                exchange.set_limits(AFTER_HELLO);
                exchange.decoder_mut().set_max_bytes(MAX_FRAME_BYTES);
            }
        }
        Ok(())
    }

    /// Answers lines, up to the first refused one or until the replies take much memory. Consecutive
    /// messages are stored together.
    fn answer(&mut self, lines: &mut impl Iterator<Item = Result<String, Rejection>>, replies: &mut Vec<u8>) {
        let mut messages = Vec::new();
        for line in lines {
            let request = line
                .map_err(|rejection| rejection.to_string())
                .and_then(|line| json::decode(line.as_bytes()).map_err(|malformed| malformed.to_string()));
            if let Ok(NodeRequest::Store { id, client, message }) = request {
                messages.push(NewMessage { id, client, text: message });
                continue;
            }
            self.store(&mut messages, replies);
            let reply = match request {
                Ok(request) => self.answer_one(request),
                Err(reason) => self.refuse(NodeFailure::Malformed, reason),
            };
            json::encode(&reply, replies);
            if !self.goes_on || replies.len() >= REPLY_BYTES {
                return;
            }
        }
        self.store(&mut messages, replies);
    }

    fn store(&mut self, messages: &mut Vec<NewMessage>, replies: &mut Vec<u8>) {
        if messages.is_empty() {
            return;
        }
        let messages = mem::take(messages);
        match &self.role {
            Role::Headnode(claim) => {
                let time = timestamp(Utc::now());
                for outcome in self.context.store().store(claim, messages, &time) {
                    json::encode(&stored_reply(outcome), replies);
                }
            }
            Role::Unknown(_) => json::encode(&self.refuse_before_hello(), replies),
        }
    }

    fn answer_one(&mut self, request: NodeRequest) -> NodeReply {
        match request {
            NodeRequest::Hello { v, .. } if v != VERSION => {
                self.refuse(NodeFailure::Malformed, format!("version {v} is not supported; use {VERSION}"))
            }
            NodeRequest::Hello { datanode, incarnation, headnode, highest, .. } => {
                let identity = &self.context.identity;
                if (&datanode, incarnation) != (&identity.name, identity.incarnation) {
                    let reason =
                        format!("this is the datanode {} in its run {}", identity.name, identity.incarnation);
                    return self.refuse(NodeFailure::WrongDatanode, reason);
                }
                let mut store = self.context.store();
                self.role = Role::Headnode(store.claim(highest));
                tracing::info!(peer = %self.peer, %headnode, "headnode connected");
                let records = *store.records().borrow();
                NodeReply::Welcome { v: VERSION, records }
            }
            _ if matches!(self.role, Role::Unknown(_)) => self.refuse_before_hello(),
            NodeRequest::Peers { names, after } => {
                let mut store = self.context.store();
                match store.remember_peers(names) {
                    Ok(()) => {
                        let (names, more) = store.peers_after(after.as_ref(), PEERS_PAGE);
                        NodeReply::Peers { names, more }
                    }
                    Err(error) => failed_reply(error),
                }
            }
            NodeRequest::Gaps { from } => {
                let (ranges, more) = self.context.store().gaps(from, GAPS_PAGE);
                NodeReply::Gaps { ranges, more }
            }
            NodeRequest::Fetch { id } => {
                self.context.store().fetch(id).map_or_else(failed_reply, NodeReply::Record)
            }
            NodeRequest::Inventory { from } => match self.context.store().inventory(from, HOLDINGS_PAGE) {
                Ok(page) => {
                    let records = page.records.into_iter().map(held_record).collect();
                    NodeReply::Holdings { records, more: page.more }
                }
                Err(error) => failed_reply(error),
            },
            NodeRequest::Store { .. } => unreachable!("messages are collected and stored together"),
        }
    }

    fn refuse_before_hello(&mut self) -> NodeReply {
        self.refuse(NodeFailure::Malformed, "hello must come first".to_owned())
    }

    fn refuse(&mut self, code: NodeFailure, reason: String) -> NodeReply {
        tracing::warn!(peer = %self.peer, reason, "connection refused");
        self.goes_on = false;
        NodeReply::Failed { code, reason }
    }
}

fn stored_reply(outcome: Result<Confirmation, StoreError>) -> NodeReply {
    match outcome {
        Ok(Confirmation { id, seq, message_crc32c }) => NodeReply::Stored { id, seq, message_crc32c },
        Err(error) => failed_reply(error),
    }
}

fn held_record(record: StoredRecord) -> HeldRecord {
    let StoredRecord { seq, time, id, client, message } = record;
    HeldRecord(seq, id, time, client, MessageCrc::of(&message), Some(beginning(&message)))
}

fn failed_reply(error: StoreError) -> NodeReply {
    let code = match error {
        StoreError::IdConflict => NodeFailure::IdConflict,
        StoreError::TakenOver => NodeFailure::TakenOver,
        StoreError::NoSpace | StoreError::NoSpaceToRemember => NodeFailure::DiskFull,
        StoreError::WriteFailed => NodeFailure::StorageFailed,
        StoreError::NotFound => NodeFailure::NotFound,
        StoreError::Read(ReadError::Damaged | ReadError::Unreadable) => NodeFailure::Damaged,
    };
    failed(code, &error.to_string())
}

fn failed(code: NodeFailure, reason: &str) -> NodeReply {
    NodeReply::Failed { code, reason: reason.to_owned() }
}
