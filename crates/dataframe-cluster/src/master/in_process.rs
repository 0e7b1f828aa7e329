//! Requests to a master from within its own program: XML-RPC's methods, and `dataframe --workers`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use middleware::{
    Capabilities, Endpoint, Incoming, PeerRole, Pieces, ReplySink, Requests, Transport, TransportError,
};
use tokio::sync::mpsc;

use super::command::Command;
use super::context::MasterContext;
use super::requests;

/// Pieces that wait for the client.
const PIECES_AHEAD: usize = 4;

/// The longest piece.
const MAX_BYTES: usize = 4 << 20;

/// A way to a master that needs no network.
pub(super) struct InProcess {
    context: Arc<MasterContext>,
    commands: mpsc::UnboundedSender<Command>,
}

impl InProcess {
    /// The way to one master.
    pub(super) fn new(context: Arc<MasterContext>, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { context, commands }
    }
}

#[async_trait]
impl Transport for InProcess {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "in-process",
            shared_queue: false,
            calls_workers_directly: false,
            starts_functions: false,
            max_bytes: MAX_BYTES,
        }
    }

    async fn request(&self, _to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError> {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let incoming = Incoming { request, peer: PeerRole::Node, reply: Box::new(Handed(sender)) };
        tokio::spawn(requests::answer(Arc::clone(&self.context), self.commands.clone(), incoming));
        let pieces =
            stream::unfold(receiver, |mut receiver| async { Some((Ok(receiver.recv().await?), receiver)) });
        Ok(Box::pin(pieces))
    }

    async fn serve(
        &self,
        _endpoint: &Endpoint,
        _at_once: usize,
    ) -> Result<Box<dyn Requests>, TransportError> {
        Err(TransportError::Invalid("nothing is served within a program".to_owned()))
    }
}

struct Handed(mpsc::Sender<Bytes>);

#[async_trait]
impl ReplySink for Handed {
    async fn send(&mut self, piece: Bytes) -> Result<(), TransportError> {
        let gone = |_| TransportError::Unreachable {
            peer: "the client".to_owned(),
            cause: "it has gone".to_owned(),
        };
        self.0.send(piece).await.map_err(gone)
    }

    async fn finish(self: Box<Self>) -> Result<(), TransportError> {
        Ok(())
    }
}
