//! A reply inside the process that makes it: between its sink and the connection that carries it away.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{ReplySink, TransportError};

/// Bytes that wait in one reply. A longer piece waits alone.
const ROOM_BYTES: usize = 4 << 20;
/// Pieces that wait in one reply.
const ROOM_PIECES: usize = 64;

/// What comes next in a reply.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// A piece.
    Piece(Bytes),
    /// The reply is whole.
    End,
    /// The sink was dropped without an end.
    GivenUp,
}

/// The end of a reply that the server of a direct middleware writes.
pub(crate) struct DirectSink {
    deliveries: mpsc::Sender<Delivery>,
    room: Arc<Semaphore>,
    max_bytes: usize,
    /// Frees the place among the requests that are taken at once.
    _slot: OwnedSemaphorePermit,
}

/// The end of a reply that a connection reads. Dropping it tells the sink that the asker is gone.
#[derive(Debug)]
pub(crate) struct DirectReply {
    deliveries: mpsc::Receiver<Delivery>,
    room: Arc<Semaphore>,
}

/// Makes a reply. Its sink holds `slot` until it is dropped, and refuses pieces of more than `max_bytes`.
pub(crate) fn direct_reply(slot: OwnedSemaphorePermit, max_bytes: usize) -> (DirectSink, DirectReply) {
    let (sender, receiver) = mpsc::channel(ROOM_PIECES);
    let room = Arc::new(Semaphore::new(ROOM_BYTES));
    let sink = DirectSink { deliveries: sender, room: Arc::clone(&room), max_bytes, _slot: slot };
    (sink, DirectReply { deliveries: receiver, room })
}

/// The room that a piece takes.
fn charge(piece: &Bytes) -> usize {
    piece.len().min(ROOM_BYTES)
}

fn gone() -> TransportError {
    TransportError::Unreachable { peer: "the asker".to_owned(), cause: "it gave the reply up".to_owned() }
}

#[async_trait]
impl ReplySink for DirectSink {
    async fn send(&mut self, piece: Bytes) -> Result<(), TransportError> {
        check_length("a piece", piece.len(), self.max_bytes)?;
        let charge = u32::try_from(charge(&piece)).expect("ROOM_BYTES fits");
        self.room.acquire_many(charge).await.map_err(|_| gone())?.forget();
        self.deliveries.send(Delivery::Piece(piece)).await.map_err(|_| gone())
    }

    async fn finish(self: Box<Self>) -> Result<(), TransportError> {
        self.deliveries.send(Delivery::End).await.map_err(|_| gone())
    }
}

impl DirectReply {
    /// Waits for what comes next. After an end or [`Delivery::GivenUp`] nothing comes.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        let next = ready!(self.deliveries.poll_recv(context)).unwrap_or(Delivery::GivenUp);
        if let Delivery::Piece(piece) = &next {
            self.room.add_permits(charge(piece));
        }
        Poll::Ready(next)
    }

    /// Waits for what comes next.
    pub(crate) async fn next(&mut self) -> Delivery {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

impl Drop for DirectReply {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// Refuses what is longer than a middleware carries.
pub(crate) fn check_length(what: &str, bytes: usize, max_bytes: usize) -> Result<(), TransportError> {
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(TransportError::Invalid(format!(
        "{what} of {bytes} bytes is too long: at most {max_bytes} bytes are carried"
    )))
}
