//! The connection to one run of a datanode: made again when it breaks, reconciled before it is used, then shared by
//! all messages that are on their way there.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use protocol::json::{self, MAX_FRAME_BYTES, VERSION};
use protocol::line::{AtEof, LineCodec};
use protocol::storage::{Reply, Request};
use protocol::types::{Incarnation, NodeName};
use service::net::Network;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::codec::Decoder as _;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::registry::{Reconciled, Registry, RegistryError};

const READ_BYTES: usize = 64 * 1024;
/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

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
    reply: oneshot::Sender<Reply>,
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
            wake: Notify::new(),
            given_up: CancellationToken::new(),
        }
    }

    /// Sends `request`, a whole line. The reply does not come if the connection breaks.
    ///
    /// # Errors
    /// [`NotStanding`].
    pub fn ask(&self, request: &[u8]) -> Result<oneshot::Receiver<Reply>, NotStanding> {
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
                tracing::warn!(datanode = %self.name, address = %self.address, reason, "connection broken: datanode suspect");
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
        self.reconcile(context, &mut connection).await?;
        self.lock().open = true;
        *stood = true;
        tracing::info!(datanode = %self.name, address = %self.address, "datanode connected");
        context.directory.change(|state| state.membership.connection_stands(&self.name, self.incarnation));
        let Connection { mut reader, mut writer, mut codec, mut received, .. } = connection;
        tokio::select! {
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
        let hello = Request::Hello {
            v: VERSION,
            headnode: context.headnode,
            datanode: self.name.clone(),
            incarnation: self.incarnation,
        };
        match connection.ask(&hello).await? {
            Reply::Welcome { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Asks what the datanode holds that is not registered: confirmations may have been lost, here or with an earlier
    /// headnode.
    async fn reconcile<N: Network>(
        &self,
        context: &Context<N>,
        connection: &mut Connection<N::Stream>,
    ) -> Result<(), Broken> {
        let mut from = context.registry.first_wanted(&self.name);
        let mut added = 0;
        loop {
            let Reply::Holdings { records, more } = connection.ask(&Request::Inventory { from }).await?
            else {
                return Err(Broken::Protocol("holdings were expected".to_owned()));
            };
            match context.registry.reconcile(&self.name, from, &records)? {
                Reconciled::Added(count) => added += count,
                Reconciled::Different => {
                    tracing::error!(
                        datanode = %self.name,
                        "it does not hold what is registered of it: if its data.txt was lost, restore it from a copy"
                    );
                    from = 1;
                    continue;
                }
            }
            match records.last() {
                Some(last) if more => from = last.0 + 1,
                _ => break,
            }
            // A long list must not keep everyone else waiting.
            tokio::task::yield_now().await;
        }
        if added > 0 {
            tracing::warn!(datanode = %self.name, added, "places registered that had been missing in the registry");
        }
        Ok(())
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

    async fn ask(&mut self, request: &Request) -> Result<Reply, Broken> {
        let limit = self.limit;
        timeout(limit, self.exchange(request)).await.map_err(|_| Broken::Timeout(limit))?
    }

    async fn exchange(&mut self, request: &Request) -> Result<Reply, Broken> {
        let mut line = Vec::new();
        json::encode(request, &mut line);
        self.writer.write_all(&line).await?;
        loop {
            if let Some(reply) = decode(&mut self.codec, &mut self.received)? {
                return match reply {
                    Reply::Failed { .. } => Err(unexpected(reply)),
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

fn decode(codec: &mut LineCodec, received: &mut BytesMut) -> Result<Option<Reply>, Broken> {
    let Some(line) = codec.decode(received)? else { return Ok(None) };
    let line = line.map_err(|rejection| Broken::Protocol(rejection.to_string()))?;
    json::decode(line.as_bytes()).map(Some).map_err(|malformed| Broken::Protocol(malformed.to_string()))
}

fn unexpected(reply: Reply) -> Broken {
    match reply {
        Reply::Failed { reason, .. } => Broken::Refused(reason),
        _ => Broken::Protocol("a reply that was not asked for".to_owned()),
    }
}
