//! A headnode's connection: requests are answered in order, a batch at a time.

use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::line::{AtEof, LineCodec, Rejection};
use protocol::store::json::{self, MAX_FRAME_BYTES, VERSION};
use protocol::store::node_api::{
    GAPS_PAGE, HOLDINGS_PAGE, HeldRecord, MAX_HELLO_BYTES, NodeFailure, NodeReply, NodeRequest, PEERS_PAGE,
};
use protocol::store::types::{Id, MessageCrc, StoredRecord, beginning};
use service::exchange::{Exchange, ExchangeEnded, PeerLimits};
use service::{Shutdown, WallClock};
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
    pub clock: WallClock,
    pub shutdown: Shutdown,
}

impl ConnectionContext {
    pub fn store(&self) -> MutexGuard<'_, MessageStore> {
        // No code that holds the lock can panic in the middle of a change.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the line that is sent on a connection over the limit.
pub fn refusal() -> String {
    refused(NodeFailure::TooManyConnections, "too many connections: close some of them")
}

/// Returns the line that is sent on a connection without a key, if the datanode has one.
pub fn key_refusal() -> String {
    let reason = "this datanode serves only who shows a key of the cluster: start the headnode with the same --key-file";
    refused(NodeFailure::KeyRequired, reason)
}

fn refused(code: NodeFailure, reason: &str) -> String {
    let mut line = Vec::new();
    json::encode(&failed(code, reason), &mut line);
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

/// Messages that are stored and synced together, and what was fetched between them.
#[derive(Default)]
struct StoreBatch {
    messages: Vec<NewMessage>,
    /// For each fetch how many of the messages came before it, and where its reply ends in `fetched`.
    fetches: Vec<(usize, usize)>,
    /// The encoded replies to the fetches.
    fetched: Vec<u8>,
}

impl StoreBatch {
    /// Returns whether a message of this id is among those that are not stored yet.
    fn stores(&self, id: Id) -> bool {
        self.messages.iter().any(|message| message.id == id)
    }
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
                    tracing::warn!(peer = %self.peer, "a newer connection of a headnode has taken over");
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

    /// Answers lines, up to the first refused one or until the replies take much memory. Consecutive messages are stored
    /// together, also if there are fetches among them.
    fn answer(&mut self, lines: &mut impl Iterator<Item = Result<String, Rejection>>, replies: &mut Vec<u8>) {
        let mut batch = StoreBatch::default();
        for line in lines {
            let request = line
                .map_err(|rejection| rejection.to_string())
                .and_then(|line| json::decode(line.as_bytes()).map_err(|malformed| malformed.to_string()));
            let may_wait = match request {
                Ok(NodeRequest::Store { id, client, message }) => {
                    batch.messages.push(NewMessage { id, client, text: message });
                    continue;
                }
                Ok(NodeRequest::Fetch { id }) => !batch.messages.is_empty() && !batch.stores(id),
                _ => false,
            };
            if !may_wait {
                self.store(&mut batch, replies);
            }
            let reply = match request {
                Ok(request) => self.answer_one(request),
                Err(reason) => self.refuse(NodeFailure::Malformed, reason),
            };
            if may_wait {
                json::encode(&reply, &mut batch.fetched);
                batch.fetches.push((batch.messages.len(), batch.fetched.len()));
            } else {
                json::encode(&reply, replies);
            }
            if !self.goes_on || replies.len() + batch.fetched.len() >= REPLY_BYTES {
                break;
            }
        }
        self.store(&mut batch, replies);
    }

    /// Stores a batch, and encodes its replies in the order of the requests.
    fn store(&mut self, batch: &mut StoreBatch, replies: &mut Vec<u8>) {
        let StoreBatch { messages, fetches, fetched } = mem::take(batch);
        if messages.is_empty() {
            return;
        }
        let Role::Headnode(claim) = &self.role else {
            return json::encode(&self.refuse_before_hello(), replies);
        };
        let time = timestamp(self.context.clock.now());
        // The simulation checks that epochs never go back.
        let (datanode, epoch) = (&self.context.identity.name, claim.epoch.map(tracing::field::display));
        tracing::trace!(%datanode, epoch, "messages are stored");
        let outcomes = self.context.store().store(claim, messages, &time);
        let (mut fetches, mut sent) = (fetches.into_iter().peekable(), 0);
        for (number, outcome) in (1..).zip(outcomes) {
            json::encode(&stored_reply(outcome), replies);
            while let Some((_, end)) = fetches.next_if(|(behind, _)| *behind == number) {
                replies.extend_from_slice(&fetched[sent..end]);
                sent = end;
            }
        }
    }

    fn answer_one(&mut self, request: NodeRequest) -> NodeReply {
        match request {
            NodeRequest::Hello { v, .. } if v != VERSION => {
                self.refuse(NodeFailure::Malformed, format!("version {v} is not supported; use {VERSION}"))
            }
            NodeRequest::Hello { datanode, incarnation, headnode, highest, epoch, .. } => {
                let identity = &self.context.identity;
                if (&datanode, incarnation) != (&identity.name, identity.incarnation) {
                    let reason =
                        format!("this is the datanode {} in its run {}", identity.name, identity.incarnation);
                    return self.refuse(NodeFailure::WrongDatanode, reason);
                }
                let mut store = self.context.store();
                match store.claim(epoch, highest) {
                    Ok(claim) => self.role = Role::Headnode(claim),
                    Err(error) => {
                        drop(store);
                        return self.refuse_claim(error);
                    }
                }
                let (datanode, epoch) = (&self.context.identity.name, epoch.map(tracing::field::display));
                tracing::info!(peer = %self.peer, %datanode, %headnode, epoch, "headnode connected");
                let (records, draining) = (*store.records().borrow(), store.is_draining());
                NodeReply::Welcome { v: VERSION, records, draining }
            }
            _ if matches!(self.role, Role::Unknown(_)) => self.refuse_before_hello(),
            // What is answered here, a headnode may take for the whole truth.
            _ if matches!(&self.role, Role::Headnode(claim) if !claim.is_current()) => {
                failed_reply(StoreError::TakenOver)
            }
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
            NodeRequest::Ping {} => NodeReply::Pong {},
            NodeRequest::Drain { on } => match self.context.store().set_draining(on) {
                Ok(()) => NodeReply::Drain { on },
                Err(error) => failed_reply(error),
            },
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

    /// Answers a hello after which the headnode may not store.
    fn refuse_claim(&mut self, error: StoreError) -> NodeReply {
        self.goes_on = false;
        let StoreError::Superseded(epoch) = error else { return failed_reply(error) };
        tracing::warn!(peer = %self.peer, %epoch, "headnode refused: another one with a higher epoch leads");
        NodeReply::Superseded { epoch }
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
        // A hello is answered with the epoch itself.
        StoreError::Superseded(_) => NodeFailure::TakenOver,
        StoreError::NoSpace | StoreError::NoSpaceToRemember | StoreError::NoSpaceForEpoch => {
            NodeFailure::DiskFull
        }
        StoreError::WriteFailed => NodeFailure::StorageFailed,
        StoreError::NotFound => NodeFailure::NotFound,
        StoreError::Read(ReadError::Damaged) => NodeFailure::Damaged,
        StoreError::Read(ReadError::Unreadable) => NodeFailure::Unreadable,
    };
    failed(code, &error.to_string())
}

fn failed(code: NodeFailure, reason: &str) -> NodeReply {
    NodeReply::Failed { code, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use journal::Disk;
    use protocol::store::types::ulid;

    use super::*;
    use crate::metrics::DatanodeMetrics;

    fn context(folder: &Path, metrics: DatanodeMetrics) -> ConnectionContext {
        ConnectionContext {
            identity: Arc::new(DatanodeIdentity {
                name: "datanode1".parse().unwrap(),
                incarnation: ulid(1, 1),
            }),
            store: Mutex::new(MessageStore::open(&Disk::default(), folder, metrics).unwrap()),
            clock: WallClock::default(),
            shutdown: Shutdown::new(),
        }
    }

    fn store(number: u64) -> NodeRequest {
        let client = "127.0.0.1:40522".parse().unwrap();
        NodeRequest::Store { id: ulid(number, 1), client, message: format!("m{number}") }
    }

    fn fetch(number: u64) -> NodeRequest {
        NodeRequest::Fetch { id: ulid(number, 1) }
    }

    fn line(request: &NodeRequest) -> Result<String, Rejection> {
        let mut line = Vec::new();
        json::encode(request, &mut line);
        Ok(String::from_utf8(line).unwrap())
    }

    /// Returns the replies to requests that arrive together: the number of a record, or the text of a message.
    fn answers(connection: &mut HeadnodeConnection<'_>, requests: &[NodeRequest]) -> Vec<String> {
        let mut replies = Vec::new();
        connection.answer(&mut requests.iter().map(line), &mut replies);
        let shown = |line: &[u8]| match json::decode(line).unwrap() {
            NodeReply::Stored { seq, .. } => seq.to_string(),
            NodeReply::Record(record) => record.message,
            NodeReply::Failed { code, .. } => format!("{code:?}"),
            other => panic!("{other:?}"),
        };
        replies.trim_ascii_end().split(|byte| *byte == b'\n').map(shown).collect()
    }

    #[test]
    fn who_is_not_served_is_told_why_in_the_protocols_own_words() {
        let refusals = [
            (refusal(), NodeFailure::TooManyConnections, "too many connections"),
            (key_refusal(), NodeFailure::KeyRequired, "--key-file"),
        ];
        for (line, expected, told) in refusals {
            let reply = json::decode(line.trim_end().as_bytes()).unwrap();
            let NodeReply::Failed { code, reason } = reply else { panic!("{line}") };
            assert!(code == expected && reason.contains(told) && line.ends_with('\n'), "{line}");
        }
    }

    /// Returns the connection of a headnode that has said hello.
    fn greeted(context: &ConnectionContext) -> HeadnodeConnection<'_> {
        let claim = context.store().claim(None, 0).unwrap();
        let peer = "127.0.0.1:40522".parse().unwrap();
        HeadnodeConnection { peer, context, role: Role::Headnode(claim), goes_on: true }
    }

    #[test]
    fn replies_are_sent_before_they_take_much_memory() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path(), DatanodeMetrics::default());
        let mut connection = greeted(&context);
        let large = |number| {
            let NodeRequest::Store { id, client, .. } = store(number) else { unreachable!() };
            NodeRequest::Store { id, client, message: "m".repeat(REPLY_BYTES / 4) }
        };
        assert_eq!(answers(&mut connection, &[large(1)]), ["1"]);
        // Fetches alone, and fetches that wait until the message before them is stored.
        for first in [fetch(1), large(2)] {
            let requests: Vec<_> = std::iter::once(first).chain((0..9).map(|_| fetch(1))).collect();
            let mut lines = requests.iter().map(line);
            let mut replies = Vec::new();
            connection.answer(&mut lines, &mut replies);
            assert!((REPLY_BYTES..REPLY_BYTES * 3 / 2).contains(&replies.len()), "{}", replies.len());
            let answered = replies.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(answered + lines.count(), requests.len(), "the others wait");
        }
    }

    #[test]
    fn fetches_do_not_divide_what_is_synced_together() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = DatanodeMetrics::default();
        let context = context(folder.path(), metrics.clone());
        let mut connection = greeted(&context);
        let syncs = || metrics.sync_duration.snapshot().count();
        assert_eq!(answers(&mut connection, &[store(1), store(2)]), ["1", "2"]);
        assert_eq!(syncs(), 1);
        let mixed = [fetch(1), store(3), fetch(2), fetch(9), store(4), fetch(1)];
        assert_eq!(answers(&mut connection, &mixed), ["m1", "3", "m2", "NotFound", "4", "m1"]);
        assert_eq!(syncs(), 2);
        let same = [store(5), fetch(1), fetch(5), store(6)];
        assert_eq!(answers(&mut connection, &same), ["5", "m1", "m5", "6"], "requests are answered in order");
        assert_eq!(syncs(), 4);
    }
}
