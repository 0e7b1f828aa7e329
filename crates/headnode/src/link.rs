//! The connection to one run of a datanode. It is made again when it breaks, reconciled with the registry before it is
//! used, and then shared by all messages to that datanode.

mod context;
mod introduction;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use page::latency::Latency;
use protocol::line::LineCodec;
use protocol::store::json;
use protocol::store::node_api::{NodeReply, NodeRequest, PEERS_PAGE};
use protocol::store::types::{Incarnation, NodeName};
use service::frames::FrameReader;
use service::net::Network;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use context::{LinkBroken, decode, unexpected};
pub use context::{LinkContext, LinkEvent};
use introduction::{Introduced, Introduction};

/// How many replies are received together.
const BATCH_REPLIES: usize = 1024;
/// The shortest pause between two attempts to connect. Each further pause is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The connection to one run of a datanode.
#[derive(Debug)]
pub struct Link {
    pub name: NodeName,
    pub incarnation: Incarnation,
    /// The address on which the datanode stores.
    pub address: SocketAddr,
    queue: Mutex<RequestQueue>,
    /// How many of the names of all datanodes were sent to this one.
    sent_names: AtomicUsize,
    /// Wakes the sending task when there is something to send.
    wake: Notify,
    /// Ends the connection, so that the next one compares the records again.
    compared_again: Notify,
    given_up: CancellationToken,
}

#[derive(Debug, Default)]
struct RequestQueue {
    /// Whether requests are accepted.
    open: bool,
    outgoing: Vec<u8>,
    /// The requests that have no reply yet, in order.
    unanswered: VecDeque<UnansweredRequest>,
    /// When the last reply came, or the connection was introduced.
    last_reply: Option<Instant>,
}

#[derive(Debug)]
struct UnansweredRequest {
    asked: Instant,
    reply: oneshot::Sender<NodeReply>,
}

impl Link {
    /// Returns a link that is not connected. [`run`](Self::run) connects it.
    #[must_use]
    pub fn new(name: NodeName, incarnation: Incarnation, address: SocketAddr) -> Self {
        Self {
            name,
            incarnation,
            address,
            queue: Mutex::default(),
            sent_names: AtomicUsize::new(0),
            wake: Notify::new(),
            compared_again: Notify::new(),
            given_up: CancellationToken::new(),
        }
    }

    /// Sends `request`, a whole line, and returns the channel for the reply. No reply arrives if the connection breaks.
    ///
    /// # Errors
    /// Fails with [`NotConnected`] if the datanode is not connected.
    pub fn ask(&self, request: &[u8]) -> Result<oneshot::Receiver<NodeReply>, NotConnected> {
        let (reply, receiver) = oneshot::channel();
        let mut queue = self.lock();
        if !queue.open {
            return Err(NotConnected);
        }
        let is_first = queue.outgoing.is_empty();
        queue.outgoing.extend_from_slice(request);
        queue.unanswered.push_back(UnansweredRequest { asked: Instant::now(), reply });
        drop(queue);
        if is_first {
            self.wake.notify_one();
        }
        Ok(receiver)
    }

    /// Asks the datanode whether it is there, if it is connected. [`last_reply`](Self::last_reply) tells when it said so.
    pub fn ping(&self) {
        let mut line = Vec::new();
        json::encode(&NodeRequest::Ping {}, &mut line);
        // Without a connection there is nobody to ask, and the reply is for `last_reply` alone.
        let _ = self.ask(&line);
    }

    /// Returns when the datanode last replied on the present connection, if there is one.
    pub fn last_reply(&self) -> Option<Instant> {
        self.lock().last_reply
    }

    /// Sends the datanode those of `names` that it does not know yet, if it is connected. `names` are all known names,
    /// in the order in which they became known.
    pub fn send_names(&self, names: &[NodeName]) {
        let sent = self.sent_names.load(Ordering::Relaxed);
        let Some(news) = names.get(sent..).filter(|news| !news.is_empty()) else { return };
        let page = &news[..news.len().min(PEERS_PAGE)];
        let mut line = Vec::new();
        // The reply lists the names behind `after`. It has to list nothing: the datanode has sent all its names when the
        // connection was made.
        let after = page.iter().max().cloned();
        json::encode(&NodeRequest::Peers { names: page.to_vec(), after }, &mut line);
        if self.ask(&line).is_ok() {
            // If the connection breaks, the next one sends all names again.
            self.sent_names.store(sent + page.len(), Ordering::Relaxed);
        }
    }

    /// Ends the connection, and drops all requests that have no reply yet.
    pub fn give_up(&self) {
        self.given_up.cancel();
        self.close_queue();
    }

    /// Makes the connection again, because the registry lacks records that the datanode holds.
    pub fn compare_again(&self) {
        self.compared_again.notify_one();
    }

    /// Keeps the datanode connected until the link is given up.
    pub async fn run<N: Network>(self: Arc<Self>, context: Arc<LinkContext<N>>) {
        tokio::select! {
            // Giving up comes first: replies that have come meanwhile belong to requests that were dropped.
            biased;
            () = self.given_up.cancelled() => {}
            () = self.keep_connected(&context) => {}
        }
        self.close_queue();
    }

    async fn keep_connected<N: Network>(&self, context: &LinkContext<N>) {
        let mut pause = SHORTEST_PAUSE;
        let mut last_reported = String::new();
        loop {
            let mut was_connected = false;
            let outcome = self.connect_and_serve(context, &mut was_connected).await;
            self.close_queue();
            let Err(broken) = outcome;
            let event = LinkEvent::Disconnected(self.name.clone(), self.incarnation, broken.cause());
            context.report(event).await;
            let reason = broken.to_string();
            if was_connected || reason != last_reported {
                tracing::warn!(datanode = %self.name, address = %self.address, reason, "connection broken: nothing is sent to this datanode");
                last_reported = reason;
            }
            pause = if was_connected { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            sleep(pause).await;
        }
    }

    async fn connect_and_serve<N: Network>(
        &self,
        context: &LinkContext<N>,
        was_connected: &mut bool,
    ) -> Result<Infallible, LinkBroken> {
        let limit = context.store_timeout;
        let connecting = timeout(limit, context.network.connect(self.address)).await;
        let stream = connecting.map_err(|_| LinkBroken::ConnectTimeout(limit))?;
        let stream = stream.map_err(LinkBroken::CannotConnect)?;
        let mut introduction = Introduction::new(&self.name, self.incarnation, context, stream);
        let Introduced { sent_names, reconciled, lost } = introduction.run().await?;
        self.sent_names.store(sent_names, Ordering::Relaxed);
        let (mut replies, mut writer) = introduction.into_parts();
        {
            let mut queue = self.lock();
            (queue.open, queue.last_reply) = (true, Some(Instant::now()));
        }
        *was_connected = true;
        tracing::info!(datanode = %self.name, address = %self.address, "datanode connected");
        let (name, incarnation) = (self.name.clone(), self.incarnation);
        context.report(LinkEvent::Connected { name, incarnation, reconciled, lost }).await;
        let confirmations = context.metrics.confirmation_duration.of(self.name.as_str());
        tokio::select! {
            // The order is fixed, so that a simulation can be repeated.
            biased;
            broken = self.send_all(&mut writer) => broken,
            broken = self.receive_all(&mut replies, &confirmations) => broken,
            broken = self.watch(limit) => broken,
            () = self.compared_again.notified() => Err(LinkBroken::Behind),
        }
    }

    async fn send_all(&self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<Infallible, LinkBroken> {
        loop {
            self.wake.notified().await;
            // All tasks that are ready to ask get their requests into this write.
            tokio::task::yield_now().await;
            let outgoing = mem::take(&mut self.lock().outgoing);
            writer.write_all(&outgoing).await?;
        }
    }

    async fn receive_all<S: AsyncRead + Unpin>(
        &self,
        replies: &mut FrameReader<S, LineCodec>,
        confirmations: &Latency,
    ) -> Result<Infallible, LinkBroken> {
        let mut lines = Vec::new();
        let mut answered = Vec::new();
        loop {
            replies.next_batch(&mut lines, BATCH_REPLIES).await?;
            if lines.is_empty() {
                return Err(LinkBroken::Closed);
            }
            let now = Instant::now();
            {
                let mut queue = self.lock();
                let count = lines.len().min(queue.unanswered.len());
                answered.extend(queue.unanswered.drain(..count));
                queue.last_reply = Some(now);
            }
            let mut lines = lines.drain(..);
            for request in answered.drain(..) {
                let Some(line) = lines.next() else { break };
                let reply = decode(line)?;
                if matches!(reply, NodeReply::Stored { .. }) {
                    confirmations.record(now - request.asked);
                }
                // A caller that has ended needs no reply.
                let _ = request.reply.send(reply);
            }
            if let Some(line) = lines.next() {
                return Err(unexpected(decode(line)?));
            }
        }
    }

    /// Waits until the oldest request has waited for longer than `limit`.
    async fn watch(&self, limit: Duration) -> Result<Infallible, LinkBroken> {
        let mut due = Instant::now() + limit;
        loop {
            sleep_until(due).await;
            let now = Instant::now();
            due = self.lock().unanswered.front().map_or(now, |oldest| oldest.asked) + limit;
            if due <= now {
                return Err(LinkBroken::Timeout(limit));
            }
        }
    }

    /// Closes the queue and drops all requests in it. Their callers learn that no reply will arrive.
    fn close_queue(&self) {
        *self.lock() = RequestQueue::default();
    }

    fn lock(&self) -> MutexGuard<'_, RequestQueue> {
        // No code that holds the lock can panic in the middle of a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The datanode is not connected, so nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotConnected;
