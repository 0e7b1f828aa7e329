//! Sends single requests: everything that is not `put`.

use std::time::Duration;

use protocol::line::{AtEof, LineCodec};
use protocol::store::client_api::{ClientRequest, ErrorCode, HeadnodeReply};
use protocol::store::json::{self, MAX_FRAME_BYTES};
use service::frames::FrameReader;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// Says why a request has no useful reply.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection failed; another one may work.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// No reply came in time; another connection may work.
    #[error("no reply for {0:?}")]
    Late(Duration),
    /// The other side does not speak this protocol.
    #[error("what answers is no headnode: {0}")]
    Foreign(String),
    /// The two sides have no common key.
    #[error("{0}")]
    Unauthenticated(String),
    /// The headnode did not do what was asked for, and says why.
    #[error("{reason} ({code})")]
    Refused { code: ErrorCode, reason: String },
}

impl RequestError {
    /// Returns whether the same request may succeed on another connection, a little later.
    #[must_use]
    pub fn is_about_connection(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Late(_) => true,
            Self::Foreign(_) | Self::Unauthenticated(_) => false,
            Self::Refused { code, .. } => code.ends_connection(),
        }
    }
}

/// Sends one request and waits for its reply, at most for `reply_timeout`. The stream can carry more requests, one after
/// the other.
///
/// # Errors
/// [`RequestError`]; an error reply is [`RequestError::Refused`].
pub async fn request(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: ClientRequest,
    reply_timeout: Duration,
) -> Result<HeadnodeReply, RequestError> {
    let mut line = Vec::new();
    request.encode(&mut line);
    let answered = async {
        // If writing fails, a reply that came before may say why.
        let written = match stream.write_all(&line).await {
            Ok(()) => stream.flush().await,
            failed => failed,
        };
        match (read_line(stream).await, written) {
            (Err(RequestError::Broken(_)), Err(error)) => Err(RequestError::Broken(error.to_string())),
            (read, _) => read,
        }
    };
    let line = tokio::time::timeout(reply_timeout, answered)
        .await
        .map_err(|_| RequestError::Late(reply_timeout))??;
    match json::decode(line.as_bytes()) {
        Ok(HeadnodeReply::Error { code, reason, .. }) => Err(RequestError::Refused { code, reason }),
        Ok(reply) => Ok(reply),
        Err(malformed) => Err(RequestError::Foreign(malformed.to_string())),
    }
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, RequestError> {
    let mut frames = FrameReader::new(stream, LineCodec::new(MAX_FRAME_BYTES, AtEof::Reject));
    let line = frames.next().await.map_err(|error| RequestError::Broken(error.to_string()))?;
    match line {
        // At the end of the stream, half a line may be left.
        Some(line) if !frames.is_at_end() => {
            if !frames.unfinished().is_empty() {
                return Err(RequestError::Foreign("more than one reply came to one request".to_owned()));
            }
            line.map_err(|rejection| RequestError::Foreign(rejection.to_string()))
        }
        _ => Err(RequestError::Broken("the headnode closed it".to_owned())),
    }
}
