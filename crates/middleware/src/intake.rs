//! How the requests that connections bring get to the one who answers them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::reply::{DirectReply, direct_reply};
use crate::{Incoming, PeerRole, Requests};

/// Takes the requests of all connections to one address.
#[derive(Clone)]
pub(crate) struct Intake {
    slots: Arc<Semaphore>,
    queue: mpsc::Sender<Incoming>,
    max_bytes: usize,
}

/// The server does not take requests any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceClosing;

/// The requests to an address. Dropping them ends the service.
pub(crate) struct DirectRequests {
    address: String,
    queue: mpsc::Receiver<Incoming>,
    slots: Arc<Semaphore>,
    _stop: DropGuard,
}

/// Makes an intake of `at_once` requests. Dropping its requests cancels `stop`.
pub(crate) fn intake(
    address: String,
    at_once: usize,
    max_bytes: usize,
    stop: CancellationToken,
) -> (Intake, DirectRequests) {
    let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(at_once));
    // As many requests as there are slots are under way, so that the queue has room for each that has a slot.
    let (sender, receiver) = mpsc::channel(at_once);
    let requests =
        DirectRequests { address, queue: receiver, slots: Arc::clone(&slots), _stop: stop.drop_guard() };
    (Intake { slots, queue: sender, max_bytes }, requests)
}

impl Intake {
    /// Waits until the request has a slot, and hands it over.
    pub(crate) async fn take(&self, request: Bytes, peer: PeerRole) -> Result<DirectReply, ServiceClosing> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| ServiceClosing)?;
        let (sink, reply) = direct_reply(slot, self.max_bytes);
        let incoming = Incoming { request, peer, reply: Box::new(sink) };
        self.queue.send(incoming).await.map_err(|_| ServiceClosing)?;
        Ok(reply)
    }
}

#[async_trait]
impl Requests for DirectRequests {
    async fn next(&mut self) -> Incoming {
        match self.queue.recv().await {
            Some(incoming) => incoming,
            // The service has ended with its runtime: there are no requests any more.
            None => std::future::pending().await,
        }
    }

    fn address(&self) -> Option<String> {
        Some(self.address.clone())
    }
}

impl Drop for DirectRequests {
    fn drop(&mut self) {
        // Who waits for a slot waits in vain.
        self.slots.close();
    }
}
