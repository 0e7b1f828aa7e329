//! A request whose reply is one piece.

use std::time::Duration;

use bytes::Bytes;
use dataframe_jobs::failure::Failure;
use dataframe_jobs::message::{Reply, Request};
use dataframe_jobs::packet::{self, PacketError};
use futures_util::StreamExt;
use middleware::{Endpoint, SharedTransport, TransportError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The request or the answer did not get through.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The answer is no message.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The peer said no.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The reply ended before the answer.
    #[error("the reply ended before the answer")]
    Ended,
}

/// Sends a request, and waits for the answer and its body.
///
/// # Errors
/// Fails if the peer is out of reach, says no, or is silent for `patience`.
pub async fn ask(
    transport: &SharedTransport,
    to: &Endpoint,
    request: &Request,
    patience: Duration,
) -> Result<(Reply, Bytes), AskError> {
    let exchange = async {
        let mut pieces = transport.request(to, packet::encode(request, &[])).await?;
        let piece = pieces.next().await.ok_or(AskError::Ended)??;
        match packet::decode(&piece)? {
            (Reply::Failed(failure), _) => Err(AskError::Failed(failure)),
            answer => Ok(answer),
        }
    };
    tokio::time::timeout(patience, exchange).await.map_err(|_| AskError::Timeout(patience))?
}
