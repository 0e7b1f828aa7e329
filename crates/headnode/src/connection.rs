//! A client's connection: batches of requests, answered in order.

use std::iter::Peekable;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::line::Rejection;
use protocol::store::client_api::plain::{Form, RequestCodec, RequestLine};
use protocol::store::client_api::{ClientRequest, ErrorCode, HeadnodeReply, LIST_PAGE};
use protocol::store::json::{self, Malformed};
use protocol::store::types::MAX_MESSAGE_BYTES;
use service::Shutdown;
use service::exchange::{Ended, Exchange, Limits};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::placer::Placer;

/// Requests of one client that are done at the same time.
const BATCH_REQUESTS: usize = 1024;
/// Replies are sent once they take so much memory, in bytes, even if further requests of the batch wait.
const REPLY_BYTES: usize = 256 * 1024;
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
    json::encode(&HeadnodeReply::Error { id: None, code, reason }, &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// Serves one client until it ends, breaks the rules, or the headnode shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, context: Arc<Context>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut exchange =
        Exchange::new(stream, RequestCodec::default(), Limits { idle: context.idle_timeout, send: SEND });
    match run(&mut exchange, peer, &context).await {
        Ok(()) if context.shutdown.is_requested() => {
            say_last(&mut exchange, ErrorCode::ShuttingDown, "the headnode ends: try again later".to_owned())
                .await;
            tracing::debug!(%peer, "connection closed: shutting down");
        }
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        Err(error) => {
            tracing::warn!(%peer, %error, "connection closed");
            if let Ended::Idle(limit) = error {
                let reason = format!("no whole request for {limit:?}: connect again");
                say_last(&mut exchange, ErrorCode::IdleTimeout, reason).await;
            }
        }
    }
    exchange.close().await;
}

/// Tells the client why its connection closes, in the form in which it speaks.
async fn say_last<S>(exchange: &mut Exchange<S, RequestCodec>, code: ErrorCode, reason: String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut line = Vec::new();
    exchange.decoder().form().encode(&HeadnodeReply::Error { id: None, code, reason }, &mut line);
    // The connection closes either way.
    let _ = exchange.send(&mut line).await;
}

async fn run<S>(
    exchange: &mut Exchange<S, RequestCodec>,
    peer: SocketAddr,
    context: &Context,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut lines = Vec::new();
    let mut replies = Vec::new();
    let mut answered = Vec::new();
    loop {
        exchange.next_batch(&mut lines, BATCH_REQUESTS, &context.shutdown).await?;
        if lines.is_empty() {
            return Ok(());
        }
        let read = |RequestLine { form, text }| (form, text.map(|text| form.decode(text)));
        let mut requests = lines.drain(..).map(read).peekable();
        while requests.peek().is_some() {
            for (form, reply) in answer_next(&mut requests, peer, &context.placer).await {
                form.encode(&reply, &mut replies);
                answered.extend(Some(reply).filter(is_reported));
            }
            // What is not read must not gather here: a record is a hundred times as long as the request for it.
            if replies.len() >= REPLY_BYTES || requests.peek().is_none() {
                exchange.send(&mut replies).await?;
                answered.drain(..).for_each(|reply| report(&reply, peer));
            }
        }
    }
}

type Received = (Form, Result<Result<ClientRequest, Malformed>, Rejection>);

/// Answers the next of `requests`, or, if it is a message, all messages that follow it without anything between: these
/// are stored at the same time, and what is asked after them sees them.
async fn answer_next(
    requests: &mut Peekable<impl Iterator<Item = Received>>,
    peer: SocketAddr,
    placer: &Placer,
) -> Vec<(Form, HeadnodeReply)> {
    let is_put = |(_, request): &Received| matches!(request, Ok(Ok(ClientRequest::Put { .. })));
    let Some(first) = requests.next() else { return Vec::new() };
    let mut together = vec![first];
    while is_put(&together[0]) {
        match requests.next_if(is_put) {
            Some(next) => together.push(next),
            None => break,
        }
    }
    let answering = together
        .into_iter()
        .map(|(form, request)| async move { (form, answer(request, peer, placer).await) });
    join_all(answering).await
}

async fn answer(
    request: Result<Result<ClientRequest, Malformed>, Rejection>,
    peer: SocketAddr,
    placer: &Placer,
) -> HeadnodeReply {
    let request = match request {
        Ok(request) => request,
        Err(rejection) => return rejected(&rejection),
    };
    match request {
        Ok(ClientRequest::Put { id, message, .. }) if message.len() > MAX_MESSAGE_BYTES => {
            let reason =
                format!("the message has {} bytes; at most {MAX_MESSAGE_BYTES} are allowed", message.len());
            HeadnodeReply::Error { id, code: ErrorCode::MessageTooLong, reason }
        }
        Ok(ClientRequest::Put { id, is_new, message }) => placer.put(id, is_new, message, peer).await,
        Ok(ClientRequest::Get { id }) => placer.get(id).await,
        Ok(ClientRequest::List { last, before }) => placer.list(last.min(LIST_PAGE), before),
        Ok(ClientRequest::Status) => placer.status(),
        Err(malformed) => {
            let code = match malformed {
                Malformed::Version(_) => ErrorCode::UnsupportedVersion,
                Malformed::Syntax(_) | Malformed::Shape(_) => ErrorCode::Malformed,
            };
            HeadnodeReply::Error { id: None, code, reason: malformed.to_string() }
        }
    }
}

fn rejected(rejection: &Rejection) -> HeadnodeReply {
    let code = match rejection {
        Rejection::TooLong { .. } => ErrorCode::MessageTooLong,
        Rejection::InvalidUtf8 { .. } => ErrorCode::InvalidUtf8,
        Rejection::Unterminated { .. } => ErrorCode::Malformed,
    };
    HeadnodeReply::Error { id: None, code, reason: rejection.to_string() }
}

/// Whether [`report`] has anything to say of a reply.
fn is_reported(reply: &HeadnodeReply) -> bool {
    matches!(reply, HeadnodeReply::Saved { .. } | HeadnodeReply::Error { .. })
}

/// The event for the operator's terminal.
fn report(answer: &HeadnodeReply, peer: SocketAddr) {
    match answer {
        HeadnodeReply::Saved { id, places, .. } => {
            if tracing::enabled!(tracing::Level::INFO) {
                let places: Vec<_> = places.iter().map(ToString::to_string).collect();
                tracing::info!(%peer, %id, places = places.join(","), "message saved");
            }
        }
        HeadnodeReply::Error { id, code, reason } => {
            let id = id.map(|id| id.to_string());
            // Clients try again, many times a second: why it fails has been told once already.
            if code.is_temporary() {
                tracing::debug!(%peer, id, ?code, reason, "request not done for now");
            } else {
                tracing::warn!(%peer, id, ?code, reason, "request not done");
            }
        }
        HeadnodeReply::Record { .. } | HeadnodeReply::Messages { .. } | HeadnodeReply::Status(_) => {}
    }
}
