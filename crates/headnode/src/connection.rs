//! A client's connection: batches of requests, answered in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::json::{self, MAX_FRAME_BYTES, Malformed};
use protocol::line::{AtEof, LineCodec, Rejection};
use protocol::store::{ErrorCode, LIST_PAGE, Reply, Request};
use protocol::types::MAX_MESSAGE_BYTES;
use service::Shutdown;
use service::exchange::{Ended, Exchange, Limits};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::placer::Placer;

/// Requests of one client that are done at the same time.
const BATCH_REQUESTS: usize = 1024;
/// How long a client may leave its replies unread.
const SEND: Duration = Duration::from_secs(10);

/// What all connections share.
pub struct Context {
    pub placer: Placer,
    pub idle_timeout: Duration,
    pub shutdown: Shutdown,
}

/// One line that says why a connection is not served.
pub fn refusal(code: ErrorCode, reason: String) -> String {
    let mut line = Vec::new();
    json::encode(&Reply::Error { id: None, code, reason }, &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// Serves one client until it ends, breaks the rules, or the headnode shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, context: Arc<Context>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let codec = LineCodec::new(MAX_FRAME_BYTES, AtEof::Reject);
    let mut exchange = Exchange::new(stream, codec, Limits { idle: context.idle_timeout, send: SEND });
    match run(&mut exchange, peer, &context).await {
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        Err(error) => {
            tracing::warn!(%peer, %error, "connection closed");
            if let Ended::Idle(limit) = error {
                let reason = format!("no whole request for {limit:?}: connect again");
                // The connection closes either way.
                let _ = exchange.send(&mut refusal(ErrorCode::IdleTimeout, reason).into_bytes()).await;
            }
        }
    }
    exchange.close().await;
}

async fn run<S>(
    exchange: &mut Exchange<S, LineCodec>,
    peer: SocketAddr,
    context: &Context,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut lines = Vec::new();
    let mut replies = Vec::new();
    loop {
        exchange.next_batch(&mut lines, BATCH_REQUESTS, &context.shutdown).await?;
        if lines.is_empty() {
            return Ok(());
        }
        let answers = answer_all(&mut lines, peer, &context.placer).await;
        for answer in &answers {
            json::encode(answer, &mut replies);
        }
        exchange.send(&mut replies).await?;
        for answer in &answers {
            report(answer, peer);
        }
    }
}

/// Messages that follow each other are stored at the same time; what is asked after them sees them.
async fn answer_all(
    lines: &mut Vec<Result<String, Rejection>>,
    peer: SocketAddr,
    placer: &Placer,
) -> Vec<Reply> {
    let mut answers = Vec::with_capacity(lines.len());
    let mut requests = lines.drain(..).map(|line| line.map(|line| Request::decode(&line))).peekable();
    while let Some(first) = requests.next() {
        let mut together = vec![first];
        while matches!(together[0], Ok(Ok(Request::Put { .. }))) {
            match requests.next_if(|next| matches!(next, Ok(Ok(Request::Put { .. })))) {
                Some(next) => together.push(next),
                None => break,
            }
        }
        answers.extend(join_all(together.into_iter().map(|request| answer(request, peer, placer))).await);
    }
    answers
}

async fn answer(
    request: Result<Result<Request, Malformed>, Rejection>,
    peer: SocketAddr,
    placer: &Placer,
) -> Reply {
    let request = match request {
        Ok(request) => request,
        Err(rejection) => return rejected(&rejection),
    };
    match request {
        Ok(Request::Put { id, message }) if message.len() > MAX_MESSAGE_BYTES => {
            let reason =
                format!("the message has {} bytes; at most {MAX_MESSAGE_BYTES} are allowed", message.len());
            Reply::Error { id, code: ErrorCode::MessageTooLong, reason }
        }
        Ok(Request::Put { id, message }) => placer.put(id, message, peer).await,
        Ok(Request::Get { id }) => placer.get(id).await,
        Ok(Request::List { last, before }) => placer.list(last.min(LIST_PAGE), before),
        Ok(Request::Status) => placer.status(),
        Err(malformed) => {
            let code = match malformed {
                Malformed::Version(_) => ErrorCode::UnsupportedVersion,
                Malformed::Syntax(_) | Malformed::Shape(_) => ErrorCode::Malformed,
            };
            Reply::Error { id: None, code, reason: malformed.to_string() }
        }
    }
}

fn rejected(rejection: &Rejection) -> Reply {
    let code = match rejection {
        Rejection::TooLong { .. } => ErrorCode::MessageTooLong,
        Rejection::InvalidUtf8 { .. } => ErrorCode::InvalidUtf8,
        Rejection::Unterminated { .. } => ErrorCode::Malformed,
    };
    Reply::Error { id: None, code, reason: rejection.to_string() }
}

/// The event for the operator's terminal.
fn report(answer: &Reply, peer: SocketAddr) {
    match answer {
        Reply::Saved { id, places, .. } => {
            if tracing::enabled!(tracing::Level::INFO) {
                let places: Vec<_> = places.iter().map(ToString::to_string).collect();
                tracing::info!(%peer, %id, places = places.join(","), "message saved");
            }
        }
        Reply::Error { id, code, reason } => {
            let id = id.map(|id| id.to_string());
            // Clients try again, many times a second: why it fails has been told once already.
            if code.is_temporary() {
                tracing::debug!(%peer, id, ?code, reason, "request not done for now");
            } else {
                tracing::warn!(%peer, id, ?code, reason, "request not done");
            }
        }
        Reply::Record { .. } | Reply::Messages { .. } | Reply::Status(_) => {}
    }
}
