//! Which path has which answer, and which requests are refused.
//!
//! | path | answer |
//! | --- | --- |
//! | `/`, `/page.js` and the other files of the page | the page |
//! | `/events` | frames, as Server-Sent Events |
//! | `/api/frame` | the newest frame |
//! | `/api/…?…=…` | what the program tells about this |
//! | `/files/NAME` | the end of a file |
//! | `/metrics` | the metrics |
//! | `/livez`, `/healthz` | 200, or 503 if a restart would help |
//! | `/readyz` | 200, or 503 if the program cannot do its work now; `?verbose` tells each check |
//!
//! A request is refused unless it is a GET or a HEAD without a body, for a host that is an address, `localhost` or a name
//! that the user has given. Otherwise a page of somebody else, whose name was made to resolve to this computer, could read
//! the answers ("DNS rebinding").

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame as BodyFrame};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::assets::ASSETS;
use crate::exposition::expose;
use crate::live::{Live, ReadingNote};
use crate::source::{Health, Source};
use crate::tail::tail;

/// An answer. Frames make it a stream.
pub type PageAnswer = Response<UnsyncBoxBody<Bytes, Infallible>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// What each answer tells the browser: to run and fetch only what comes from this server, to guess no types, and to show
/// the page in no frame of others.
const PROTECTION: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Answers requests about one program.
#[derive(Debug)]
pub struct Router<S> {
    source: Arc<S>,
    live: Arc<Live<S>>,
    hosts: Vec<String>,
}

impl<S: Source> Router<S> {
    /// Returns a router for `source`. `hosts` are the names that a request may ask for, in lower case.
    pub fn new(source: Arc<S>, live: Arc<Live<S>>, hosts: Vec<String>) -> Self {
        Self { source, live, hosts }
    }

    /// Returns the answer to `request`. If that is a page's stream, it notes in `reading` that it is read.
    pub async fn answer(&self, request: &Request<impl Body>, reading: ReadingNote) -> PageAnswer {
        let mut answer = match self.refusal(request) {
            Some(refusal) => refusal,
            None => self.route(request, reading).await,
        };
        let protection = PROTECTION.map(|(name, value)| (name, HeaderValue::from_static(value)));
        answer.headers_mut().extend(protection);
        answer
    }

    /// Returns the refusal of a request that is not answered whatever its path.
    fn refusal(&self, request: &Request<impl Body>) -> Option<PageAnswer> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refusal);
        }
        if !request.body().is_end_stream() {
            return Some(text(StatusCode::PAYLOAD_TOO_LARGE, "requests with a body are not answered\n"));
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        if !host.is_some_and(|host| self.is_own(host)) {
            return Some(text(
                StatusCode::MISDIRECTED_REQUEST,
                "this host name is not served: ask for an address or localhost, or add the name to --page-host\n",
            ));
        }
        None
    }

    /// Returns whether a request may ask for `host`, which may have a port.
    fn is_own(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = name.to_ascii_lowercase();
        address.parse::<IpAddr>().is_ok() || name == "localhost" || self.hosts.contains(&name)
    }

    async fn route(&self, request: &Request<impl Body>, reading: ReadingNote) -> PageAnswer {
        let path = request.uri().path();
        let query = request.uri().query();
        match path {
            "/metrics" => return self.metrics(request).await,
            "/livez" | "/healthz" => return health(&self.source.health().await.live, query),
            "/readyz" => return health(&self.source.health().await.ready, query),
            _ if !S::HAS_PAGE => {}
            "/events" if request.method() == Method::HEAD => return of_kind(EVENTS, Bytes::new()),
            "/events" => return self.events(reading),
            "/api/frame" => return of_kind(JSON, self.live.current().await.json),
            _ => {
                if let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) {
                    return of_kind(asset.kind, Bytes::from_static(asset.content.as_bytes()));
                }
                if let Some(name) = path.strip_prefix("/files/") {
                    return self.file(name);
                }
                if let Some(what) = path.strip_prefix("/api/") {
                    let argument = query.and_then(|query| query.split_once('=')).map(|(_, value)| value);
                    if let Some(json) = self.source.query(what, argument).await {
                        return of_kind(JSON, json.into());
                    }
                }
            }
        }
        text(StatusCode::NOT_FOUND, "there is nothing here\n")
    }

    fn events(&self, reading: ReadingNote) -> PageAnswer {
        let Some(events) = self.live.open(reading) else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open: close one\n");
        };
        let body = StreamBody::new(events.map_ok(BodyFrame::data));
        let mut answer = Response::new(body.boxed_unsync());
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
        answer
    }

    /// Returns the end of one of the program's files. A name is compared with the list, and never made into a path.
    fn file(&self, name: &str) -> PageAnswer {
        let Some(file) = self.source.files().into_iter().find(|file| file.name == name) else {
            return text(StatusCode::NOT_FOUND, "there is no such file\n");
        };
        match tail(&file.path) {
            Ok(bytes) => of_kind(TEXT, bytes.into()),
            Err(error) => {
                tracing::debug!(%error, name, "cannot read a file for the page");
                text(StatusCode::NOT_FOUND, "the file cannot be read\n")
            }
        }
    }

    async fn metrics(&self, request: &Request<impl Body>) -> PageAnswer {
        self.source.refresh_metrics().await;
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        match expose(self.source.metrics(), accept.unwrap_or_default()) {
            Ok((kind, text)) => of_kind(kind, text.into()),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
        }
    }
}

/// Returns the answer to a question about health. A failed check is always told, and the others if `query` asks for it.
fn health(checks: &[crate::Check], query: Option<&str>) -> PageAnswer {
    let (passed, report) = Health::report(checks);
    let is_verbose =
        query.is_some_and(|query| query.split('&').any(|word| word.split('=').next() == Some("verbose")));
    let status = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = if passed && !is_verbose { String::new() } else { report };
    body.push_str(if passed { "ok\n" } else { "failed\n" });
    text(status, &body)
}

fn text(status: StatusCode, text: &str) -> PageAnswer {
    let mut answer = of_kind(TEXT, text.to_owned().into());
    *answer.status_mut() = status;
    answer
}

fn of_kind(kind: &'static str, content: Bytes) -> PageAnswer {
    let mut answer = Response::new(Full::new(content).boxed_unsync());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
