//! What one address serves over HTTP/1.1: XML-RPC by POST at `/` and `/RPC2`, and a page for people by GET.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dxr::Value;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method as Verb, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mutual_tls::{Application, MutualTls};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::method::{MethodFault, Methods};
use super::replies::{NODES_ONLY, OpenReplies};
use super::xml::{BAD_PARAMETERS, NO_METHOD, read_call, write_response};
use crate::listening::{Accepted, Gate, accept};
use crate::{NODES_ALONE, PeerRole};

/// The longest body of a call: a request of 16 MiB as base64 with line breaks, and its XML.
pub(crate) const MAX_BODY_BYTES: usize = 24 << 20;
/// All long bodies that are read at the same time, in KiB. A call beyond waits.
const BODIES_KIB: usize = 256 << 10;
/// A body up to here is not counted.
const SHORT_BODY_KIB: usize = 64;
/// Time for the head of a request, and for a connection that is not used. Clients of this crate close theirs before.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(30);
/// Time for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Work with longer XML leaves the threads that serve connections.
const LONG_XML: usize = 256 << 10;

/// What an address serves.
pub(crate) struct Site {
    /// None if the address has methods alone.
    pub(crate) replies: Option<Arc<OpenReplies>>,
    /// Whether clients are refused what is answered by pieces: they ask the master, not its workers.
    pub(crate) calls_for_nodes: bool,
    pub(crate) methods: Methods,
    /// The longest request.
    pub(crate) max_bytes: usize,
}

/// The methods that every address with replies has.
const OWN_METHODS: [&str; 3] = ["call", "cancel", "more"];
const LIST_METHODS: &str = "system.listMethods";

/// Serves until `stop`, and then until the replies are fetched.
pub(crate) async fn serve_site(
    listener: TcpListener,
    tls: Option<MutualTls>,
    site: Site,
    stop: CancellationToken,
) {
    let site = Arc::new(site);
    let bodies = Arc::new(Semaphore::new(BODIES_KIB));
    let gate = Gate { opening: b"", tls, application: Application::XmlRpc };
    let mut connections = accept(listener, gate, stop.clone());
    let drained = CancellationToken::new();
    while let Some(Some(Ok(connection))) = stop.run_until_cancelled(connections.next()).await {
        let serving = serve_connection(connection, Arc::clone(&site), Arc::clone(&bodies), drained.clone());
        tokio::spawn(serving);
    }
    if let Some(replies) = &site.replies {
        replies.drain().await;
    }
    drained.cancel();
}

async fn serve_connection(
    connection: Accepted,
    site: Arc<Site>,
    bodies: Arc<Semaphore>,
    drained: CancellationToken,
) {
    let peer = connection.peer();
    let service = service_fn(|request| {
        let (site, bodies) = (Arc::clone(&site), Arc::clone(&bodies));
        async move { Ok::<_, Infallible>(site.respond(request, peer, &bodies).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = drained.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an XML-RPC connection ended early");
    }
}

type HttpReply = Response<Full<Bytes>>;

/// What a call gives.
enum Given {
    Answer(Answer),
    Value(Value),
}

impl Site {
    async fn respond(&self, request: Request<Incoming>, peer: PeerRole, bodies: &Semaphore) -> HttpReply {
        let at_home = matches!(request.uri().path(), "/" | "/RPC2");
        match (at_home, request.method()) {
            (false, _) => plain(StatusCode::NOT_FOUND, "XML-RPC is served at / and at /RPC2.\n".to_owned()),
            (true, &Verb::POST) => self.respond_to_call(request, peer, bodies).await,
            (true, &Verb::GET) => plain(StatusCode::OK, self.page()),
            (true, _) => {
                let mut refusal =
                    plain(StatusCode::METHOD_NOT_ALLOWED, "XML-RPC comes by POST.\n".to_owned());
                refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
                refusal
            }
        }
    }

    fn page(&self) -> String {
        let names = self.names().join(", ");
        format!(
            "This is an XML-RPC server of Tasca 1, a distributed DataFrame.\n\nCall it by POST, such as with Python:\n\n    \
             from xmlrpc.client import ServerProxy\n    ServerProxy(\"http://HOST:PORT\").{LIST_METHODS}()\n\nMethods: {names}\n"
        )
    }

    fn names(&self) -> Vec<&str> {
        let own = OWN_METHODS.into_iter().filter(|_| self.replies.is_some());
        let mut names: Vec<&str> =
            own.chain([LIST_METHODS]).chain(self.methods.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names
    }

    async fn respond_to_call(
        &self,
        request: Request<Incoming>,
        peer: PeerRole,
        bodies: &Semaphore,
    ) -> HttpReply {
        let kib =
            request.body().size_hint().upper().map_or(MAX_BODY_BYTES, |bytes| bytes.min(1 << 40) as usize)
                >> 10;
        if kib > MAX_BODY_BYTES >> 10 {
            return plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("A call has at most {MAX_BODY_BYTES} bytes.\n"),
            );
        }
        let charge = u32::try_from(if kib > SHORT_BODY_KIB { kib } else { 0 }).expect("MAX_BODY_BYTES fits");
        let _room = bodies.acquire_many(charge).await.expect("nobody closes the room for bodies");
        let body = match timeout(BODY_TIME, Limited::new(request.into_body(), MAX_BODY_BYTES).collect()).await
        {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                return plain(StatusCode::BAD_REQUEST, format!("The call cannot be read: {error}\n"));
            }
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "The call takes too long.\n".to_owned()),
        };
        let result = match beside(body.len(), move || read_call(&body)).await {
            Ok((name, parameters)) => self.run(&name, parameters, peer).await,
            Err(fault) => Err(fault),
        };
        let xml = match result {
            Ok(Given::Answer(answer)) => beside(answer.bytes(), move || answer.to_xml()).await,
            Ok(Given::Value(value)) => beside(rough_bytes(&value), move || write_response(Ok(value))).await,
            Err(fault) => write_response(Err(fault)),
        };
        respond_with(StatusCode::OK, "text/xml", xml)
    }

    async fn run(&self, name: &str, parameters: Vec<Value>, peer: PeerRole) -> Result<Given, MethodFault> {
        if let Some(method) = self.methods.get(name) {
            return method(parameters).await.map(Given::Value);
        }
        match (&self.replies, name) {
            (Some(_), "call" | "more" | "cancel") if self.calls_for_nodes && peer != PeerRole::Node => {
                Err(MethodFault::new(NODES_ONLY, NODES_ALONE))
            }
            (Some(replies), "call") => self.call(replies, parameters, peer).await.map(Given::Answer),
            (Some(replies), "more") => more(replies, parameters).await.map(Given::Answer),
            (Some(replies), "cancel") => cancel(replies, &parameters).map(Given::Value),
            (_, LIST_METHODS) => {
                let names = self.names().into_iter().map(|name| Value::String(name.to_owned()));
                Ok(Given::Value(Value::Array(names.collect())))
            }
            _ => {
                let names = self.names().join(", ");
                Err(MethodFault::new(NO_METHOD, format!("there is no method {name:?}, but {names}")))
            }
        }
    }

    async fn call(
        &self,
        replies: &OpenReplies,
        mut parameters: Vec<Value>,
        peer: PeerRole,
    ) -> Result<Answer, MethodFault> {
        let request = match (parameters.pop(), parameters.is_empty()) {
            (Some(Value::Base64(bytes)), true) => Bytes::from(bytes),
            (Some(Value::String(text)), true) => Bytes::from(text),
            _ => return Err(wrong_parameters("call takes a request as base64 or as a string")),
        };
        if request.len() > self.max_bytes {
            let text = format!(
                "a request of {} bytes is too long: at most {} are taken",
                request.len(),
                self.max_bytes
            );
            return Err(wrong_parameters(text));
        }
        replies.call(request, peer).await
    }
}

async fn more(replies: &OpenReplies, parameters: Vec<Value>) -> Result<Answer, MethodFault> {
    let Ok([Value::String(id), Value::Integer(received)]) = <[Value; 2]>::try_from(parameters) else {
        return Err(wrong_parameters(
            "more takes the id of a reply and the number of pieces that were received of it",
        ));
    };
    let received =
        usize::try_from(received).map_err(|_| wrong_parameters("nobody receives fewer than no pieces"))?;
    replies.more(id, received).await
}

fn cancel(replies: &OpenReplies, parameters: &[Value]) -> Result<Value, MethodFault> {
    match parameters {
        [Value::String(id)] => Ok(Value::Boolean(replies.cancel(id))),
        _ => Err(wrong_parameters("cancel takes the id of a reply")),
    }
}

fn wrong_parameters(text: impl Into<String>) -> MethodFault {
    MethodFault::new(BAD_PARAMETERS, text)
}

/// About how long a value is as XML, as far as it matters where it is written.
fn rough_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Base64(bytes) => bytes.len(),
        Value::Array(values) => values.iter().map(|value| 32 + rough_bytes(value)).sum(),
        Value::Struct(members) => members.values().map(|value| 64 + rough_bytes(value)).sum(),
        _ => 0,
    }
}

/// Does work with so many bytes of XML: here, or on a thread for long work.
pub(crate) async fn beside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= LONG_XML {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("the work does not panic, and its runtime lives")
}

fn plain(status: StatusCode, text: String) -> HttpReply {
    respond_with(status, "text/plain; charset=utf-8", text)
}

fn respond_with(status: StatusCode, content_type: &'static str, text: String) -> HttpReply {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
