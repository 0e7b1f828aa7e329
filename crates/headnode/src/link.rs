//! The connection to one run of a datanode: made again when it breaks, reconciled before it is used, then shared by
//! all messages that are on their way there.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use protocol::line::{AtEof, LineCodec};
use protocol::store::json::{self, MAX_FRAME_BYTES, VERSION};
use protocol::store::node_api::{NodeFailure, NodeReply, NodeRequest, PEERS_PAGE};
use protocol::store::types::{Incarnation, NodeName};
use roaring::RoaringTreemap;
use service::net::Network;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::codec::Decoder as _;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::registry::{Comparison, Reconciled, Registry, RegistryError};

const READ_BYTES: usize = 64 * 1024;
/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Identifiers of lost records that are named in the log, at most.
const NAMED_LOSSES: usize = 20;

/// What a link needs besides its datanode.
#[derive(Debug)]
pub struct Context<N> {
    /// The network.
    pub network: N,
    /// Told when the connection stands or breaks.
    pub directory: Arc<Directory>,
    /// Told what the datanode holds.
    pub registry: Registry,
    /// Which run of the headnode this is.
    pub headnode: Incarnation,
    /// How long a datanode may take for one reply.
    pub store_timeout: Duration,
}

impl<N> Context<N> {
    /// Takes in names of datanodes that another one was told of.
    fn learn(&self, names: &[NodeName]) {
        for name in names {
            if self.directory.change(|state| state.membership.remember(name)) {
                self.registry.expect(name);
            }
        }
    }
}

/// The connection to one run of a datanode.
#[derive(Debug)]
pub struct Link {
    /// The datanode's name.
    pub name: NodeName,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// Where it stores.
    pub address: SocketAddr,
    queue: Mutex<Queue>,
    /// How many of the datanodes' names this one was told.
    told_peers: AtomicUsize,
    /// There is something to send.
    wake: Notify,
    given_up: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    /// Requests are taken.
    open: bool,
    outgoing: Vec<u8>,
    /// Requests without a reply, in order.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    asked: Instant,
    reply: oneshot::Sender<NodeReply>,
}

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Network(#[from] io::Error),
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    #[error("it was closed by the datanode")]
    Closed,
    #[error("refused by the datanode: {0}")]
    Refused(String),
    #[error("the datanode does not follow the protocol: {0}")]
    Protocol(String),
    #[error("what it holds cannot be registered: {0}")]
    Registry(#[from] RegistryError),
}

impl Link {
    /// A link that [`run`](Self::run) makes stand.
    #[must_use]
    pub fn new(name: NodeName, incarnation: Incarnation, address: SocketAddr) -> Self {
        Self {
            name,
            incarnation,
            address,
            queue: Mutex::default(),
            told_peers: AtomicUsize::new(0),
            wake: Notify::new(),
            given_up: CancellationToken::new(),
        }
    }

    /// Sends `request`, a whole line. The reply does not come if the connection breaks.
    ///
    /// # Errors
    /// [`NotStanding`].
    pub fn ask(&self, request: &[u8]) -> Result<oneshot::Receiver<NodeReply>, NotStanding> {
        let (reply, receiver) = oneshot::channel();
        let mut queue = self.lock();
        if !queue.open {
            return Err(NotStanding);
        }
        let is_first = queue.outgoing.is_empty();
        queue.outgoing.extend_from_slice(request);
        queue.waiting.push_back(Waiting { asked: Instant::now(), reply });
        drop(queue);
        if is_first {
            self.wake.notify_one();
        }
        Ok(receiver)
    }

    /// Tells this datanode those of `names`, all that are known, that it was not told yet.
    pub fn tell_peers(&self, names: &[NodeName]) {
        let told = self.told_peers.load(Ordering::Relaxed);
        let Some(news) = names.get(told..).filter(|news| !news.is_empty()) else { return };
        let page = &news[..news.len().min(PEERS_PAGE)];
        let mut line = Vec::new();
        // It has told all that it remembers when the connection was made.
        let after = page.iter().max().cloned();
        json::encode(&NodeRequest::Peers { names: page.to_vec(), after }, &mut line);
        if self.ask(&line).is_ok() {
            // Should the connection break, the next one tells everything again.
            self.told_peers.store(told + page.len(), Ordering::Relaxed);
        }
    }

    /// Ends the connection and everything that is on its way there.
    pub fn give_up(&self) {
        self.given_up.cancel();
        self.close_queue();
    }

    /// Keeps the connection standing until it is given up.
    pub async fn run<N: Network>(self: Arc<Self>, context: Arc<Context<N>>) {
        self.given_up.run_until_cancelled(self.keep_standing(&context)).await;
        self.close_queue();
    }

    async fn keep_standing<N: Network>(&self, context: &Context<N>) {
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        loop {
            let mut stood = false;
            let outcome = self.connect_and_serve(context, &mut stood).await;
            self.close_queue();
            context.directory.change(|state| state.membership.connection_broke(&self.name, self.incarnation));
            let Err(broken) = outcome;
            let reason = broken.to_string();
            if stood || reason != told {
                tracing::warn!(datanode = %self.name, address = %self.address, reason, "connection broken: nothing is sent to this datanode");
                told = reason;
            }
            pause = if stood { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            sleep(pause).await;
        }
    }

    async fn connect_and_serve<N: Network>(
        &self,
        context: &Context<N>,
        stood: &mut bool,
    ) -> Result<std::convert::Infallible, Broken> {
        let limit = context.store_timeout;
        let connecting = timeout(limit, context.network.connect(self.address)).await;
        let stream = connecting.map_err(|_| Broken::Timeout(limit))??;
        let mut connection = Connection::new(stream, limit);
        self.greet(context, &mut connection).await?;
        self.exchange_peers(context, &mut connection).await?;
        self.reconcile(context, &mut connection).await?;
        self.lock().open = true;
        *stood = true;
        tracing::info!(datanode = %self.name, address = %self.address, "datanode connected");
        context.directory.change(|state| state.membership.connection_stands(&self.name, self.incarnation));
        let Connection { mut reader, mut writer, mut codec, mut received, .. } = connection;
        tokio::select! {
            // In a fixed order, so that a simulation can be repeated.
            biased;
            broken = self.send_all(&mut writer) => Err(broken),
            broken = self.receive_all(&mut reader, &mut codec, &mut received) => Err(broken),
            broken = self.watch(limit) => Err(broken),
        }
    }

    async fn greet<N: Network>(
        &self,
        context: &Context<N>,
        connection: &mut Connection<N::Stream>,
    ) -> Result<(), Broken> {
        let hello = NodeRequest::Hello {
            v: VERSION,
            headnode: context.headnode,
            datanode: self.name.clone(),
            incarnation: self.incarnation,
            highest: context.registry.holdings(|holdings| holdings.highest(&self.name)),
        };
        match connection.ask(&hello).await? {
            NodeReply::Welcome { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Tells the datanode whom the headnode has ever known, and learns whom the datanode was told of: that outlives the
    /// loss of the registry.
    async fn exchange_peers<N: Network>(
        &self,
        context: &Context<N>,
        connection: &mut Connection<N::Stream>,
    ) -> Result<(), Broken> {
        let known = context.directory.look(|membership| membership.names().to_vec());
        let mut pages = known.chunks(PEERS_PAGE);
        let mut after: Option<NodeName> = None;
        let mut all_learnt = false;
        loop {
            let names = pages.next().unwrap_or_default();
            if names.is_empty() && all_learnt {
                break;
            }
            match connection.ask(&NodeRequest::Peers { names: names.to_vec(), after: after.clone() }).await? {
                NodeReply::Peers { names, more } => {
                    let goes_on = names.last().is_some_and(|last| Some(last) > after.as_ref());
                    if more && !goes_on {
                        return Err(Broken::Protocol("a page of names does not go on".to_owned()));
                    }
                    context.learn(&names);
                    after = names.into_iter().next_back().or(after);
                    all_learnt = !more;
                }
                NodeReply::Failed { code: NodeFailure::DiskFull, reason } => {
                    tracing::warn!(datanode = %self.name, reason, "it was not told of the other datanodes");
                    break;
                }
                other => return Err(unexpected(other)),
            }
        }
        self.told_peers.store(known.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Asks what the datanode holds that is not registered, as confirmations may have been lost, here or with an earlier
    /// headnode; and what is registered that it does not hold, as its disk may have lost it.
    async fn reconcile<N: Network>(
        &self,
        context: &Context<N>,
        connection: &mut Connection<N::Stream>,
    ) -> Result<(), Broken> {
        let registry = &context.registry;
        let registry_bytes = registry.bytes()?;
        let lost = self.registered_in_gaps(context, connection).await?;
        let mut comparison = Comparison::ByNumber;
        let mut held = RoaringTreemap::new();
        let registered = registry.holdings(|holdings| holdings.registered_without(&self.name, &held));
        let mut from = registry.holdings(|holdings| holdings.first_wanted(&self.name));
        let (mut added, mut last) = (0, 0);
        loop {
            let NodeReply::Holdings { records, more } =
                connection.ask(&NodeRequest::Inventory { from }).await?
            else {
                return Err(Broken::Protocol("holdings were expected".to_owned()));
            };
            match registry.reconcile(&self.name, from, &records, comparison, &mut held)? {
                Reconciled::Added(count) => added += count,
                Reconciled::Different => {
                    tracing::error!(
                        datanode = %self.name,
                        "it does not hold what is registered of it: if its data.txt was lost, restore it from a copy"
                    );
                    (comparison, from) = (Comparison::ById, 1);
                    continue;
                }
            }
            last = records.last().map_or(last, |record| record.0);
            if !more {
                break;
            }
            from = last + 1;
            // A long list must not keep everyone else waiting.
            tokio::task::yield_now().await;
        }
        if added > 0 {
            tracing::warn!(datanode = %self.name, added, "places registered that had been missing in the registry");
        }
        let replaced = (comparison == Comparison::ById).then(|| &(registered - held) - &lost);
        if let Some(lost) = registry.reconciled(&self.name, last, lost, replaced) {
            let ids = registry.ids_at(&self.name, &lost, registry_bytes, NAMED_LOSSES).await?;
            let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            tracing::error!(
                datanode = %self.name,
                lost = lost.len(),
                ids,
                "registered, but not held: the datanode has lost acknowledged records; restore its data.txt from a copy"
            );
        }
        Ok(())
    }

    /// The registered numbers of this datanode that it knows to belong to no readable record.
    async fn registered_in_gaps<N: Network>(
        &self,
        context: &Context<N>,
        connection: &mut Connection<N::Stream>,
    ) -> Result<RoaringTreemap, Broken> {
        let mut lost = RoaringTreemap::new();
        let mut from = 1;
        loop {
            let NodeReply::Gaps { ranges, more } = connection.ask(&NodeRequest::Gaps { from }).await? else {
                return Err(Broken::Protocol("gaps were expected".to_owned()));
            };
            lost |= context.registry.holdings(|holdings| holdings.registered_in(&self.name, &ranges));
            match ranges.last() {
                Some((_, last)) if more && *last >= from && *last < u64::MAX => from = last + 1,
                _ if more => return Err(Broken::Protocol("a page of gaps does not go on".to_owned())),
                _ => return Ok(lost),
            }
        }
    }

    async fn send_all(&self, writer: &mut (impl AsyncWrite + Unpin)) -> Broken {
        loop {
            self.wake.notified().await;
            // Everyone who is ready to ask gets into this write.
            tokio::task::yield_now().await;
            let outgoing = mem::take(&mut self.lock().outgoing);
            if let Err(error) = writer.write_all(&outgoing).await {
                return error.into();
            }
        }
    }

    async fn receive_all(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        codec: &mut LineCodec,
        received: &mut BytesMut,
    ) -> Broken {
        loop {
            received.reserve(READ_BYTES);
            match reader.read_buf(received).await {
                Ok(0) => return Broken::Closed,
                Ok(_) => {}
                Err(error) => return error.into(),
            }
            loop {
                match decode(codec, received) {
                    Ok(Some(reply)) => {
                        let Some(waiting) = self.lock().waiting.pop_front() else {
                            return unexpected(reply);
                        };
                        // Whoever went away meanwhile needs no reply.
                        let _ = waiting.reply.send(reply);
                    }
                    Ok(None) => break,
                    Err(broken) => return broken,
                }
            }
        }
    }

    /// Ends when the oldest request has waited for longer than `limit`.
    async fn watch(&self, limit: Duration) -> Broken {
        let mut due = Instant::now() + limit;
        loop {
            sleep_until(due).await;
            let now = Instant::now();
            due = self.lock().waiting.front().map_or(now, |oldest| oldest.asked) + limit;
            if due <= now {
                return Broken::Timeout(limit);
            }
        }
    }

    /// Whoever waits for a reply learns that none will come.
    fn close_queue(&self) {
        *self.lock() = Queue::default();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds the lock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection does not stand: nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStanding;

/// A connection on which one request is answered after the other.
struct Connection<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    codec: LineCodec,
    received: BytesMut,
    limit: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, limit: Duration) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let codec = LineCodec::new(MAX_FRAME_BYTES, AtEof::Reject);
        Self { reader, writer, codec, received: BytesMut::new(), limit }
    }

    async fn ask(&mut self, request: &NodeRequest) -> Result<NodeReply, Broken> {
        let limit = self.limit;
        timeout(limit, self.exchange(request)).await.map_err(|_| Broken::Timeout(limit))?
    }

    async fn exchange(&mut self, request: &NodeRequest) -> Result<NodeReply, Broken> {
        let mut line = Vec::new();
        json::encode(request, &mut line);
        self.writer.write_all(&line).await?;
        loop {
            if let Some(reply) = decode(&mut self.codec, &mut self.received)? {
                return match reply {
                    NodeReply::Failed { code: NodeFailure::DiskFull, .. } => Ok(reply),
                    NodeReply::Failed { .. } => Err(unexpected(reply)),
                    reply => Ok(reply),
                };
            }
            self.received.reserve(READ_BYTES);
            if self.reader.read_buf(&mut self.received).await? == 0 {
                return Err(Broken::Closed);
            }
        }
    }
}

fn decode(codec: &mut LineCodec, received: &mut BytesMut) -> Result<Option<NodeReply>, Broken> {
    let Some(line) = codec.decode(received)? else { return Ok(None) };
    let line = line.map_err(|rejection| Broken::Protocol(rejection.to_string()))?;
    json::decode(line.as_bytes()).map(Some).map_err(|malformed| Broken::Protocol(malformed.to_string()))
}

fn unexpected(reply: NodeReply) -> Broken {
    match reply {
        NodeReply::Failed { reason, .. } => Broken::Refused(reason),
        _ => Broken::Protocol("a reply that was not asked for".to_owned()),
    }
}
