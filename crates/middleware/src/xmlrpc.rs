//! XML-RPC: a request is the method `call`; its reply comes with the answer, and the rest of it by the method `more`.
//!
//! | method | parameters | gives |
//! | --- | --- | --- |
//! | `call` | the request as base64 (or a string) | an answer |
//! | `more` | id, number of pieces received so far | an answer: the pieces that follow |
//! | `cancel` | id | whether there was such a reply |
//! | `system.listMethods` | | the names of all methods |
//!
//! An answer is a struct: `id` (string; empty if nothing is left to fetch), `pieces` (array of base64), `last` (boolean: the reply is whole).
//! `call` and `more` wait for up to 10 s until there is something to give; then the answer has no pieces, and `more` asks again. A reply
//! that nobody fetches for 30 s is dropped. Faults 1 to 4 mean that the caller may ask again: the server is closing, the request was given
//! up, there is no such reply, the server is busy. Fault 5: a client asks a worker, which answers nodes alone.
//!
//! The port serves further methods of the program ([`Methods`]). It takes bodies of up to 24 MiB, at `/` and at `/RPC2`.

mod answer;
mod method;
mod poster;
mod replies;
mod site;
mod xml;

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
pub use dxr::Value;
use futures_util::stream::unfold;
pub use method::{Method, MethodFault, MethodResult, Methods, method};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::intake::intake;
use crate::listening::{bind, listen, no_shared_queue};
use crate::reply::check_length;
use crate::{Capabilities, Endpoint, MutualTls, Pieces, Requests, Transport, TransportError};
use poster::Poster;
use replies::OpenReplies;
use site::{Site, serve_site};

/// The longest request and the longest piece.
const MAX_BYTES: usize = 16 << 20;

/// Calls by XML-RPC.
pub struct XmlRpcTransport {
    poster: Poster,
    methods: Methods,
    tls: Option<MutualTls>,
}

impl Default for XmlRpcTransport {
    fn default() -> XmlRpcTransport {
        XmlRpcTransport::with_methods(Methods::new(), None)
    }
}

impl XmlRpcTransport {
    /// Makes a transport without any connection.
    #[must_use]
    pub fn new() -> XmlRpcTransport {
        XmlRpcTransport::default()
    }

    /// Makes a transport that serves these methods, too, at every address that it serves. A method named as one of the
    /// table above takes its place.
    #[must_use]
    pub fn with_methods(methods: Methods, tls: Option<MutualTls>) -> XmlRpcTransport {
        XmlRpcTransport { poster: Poster::new(MAX_BYTES, tls.clone()), methods, tls }
    }
}

#[async_trait]
impl Transport for XmlRpcTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "xmlrpc",
            shared_queue: false,
            calls_workers_directly: true,
            starts_functions: false,
            max_bytes: MAX_BYTES,
        }
    }

    async fn request(&self, to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError> {
        let (Endpoint::Master(address) | Endpoint::Worker(address)) = to else {
            return Err(no_shared_queue());
        };
        check_length("a request", request.len(), MAX_BYTES)?;
        let bytes = request.len();
        let mut rest = Rest::new(self.poster.clone(), address.clone());
        rest.fetch("call", vec![Value::Base64(request.into())], bytes).await?;
        Ok(Box::pin(unfold(rest, |mut rest| async move { Some((rest.next().await?, rest)) })))
    }

    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError> {
        let (listener, address) = listen(endpoint).await?;
        let stop = CancellationToken::new();
        let (intake, requests) = intake(address, at_once, MAX_BYTES, stop.clone());
        let replies = Some(OpenReplies::new(intake, stop.clone()));
        let calls_for_nodes = matches!(endpoint, Endpoint::Worker(_));
        let site = Site { replies, calls_for_nodes, methods: self.methods.clone(), max_bytes: MAX_BYTES };
        tokio::spawn(serve_site(listener, self.tls.clone(), site, stop));
        Ok(Box::new(requests))
    }
}

/// What is left of a reply. Dropping it tells the server, if there is more to fetch.
struct Rest {
    poster: Poster,
    peer: String,
    id: String,
    received: usize,
    ready: VecDeque<Bytes>,
}

impl Rest {
    fn new(poster: Poster, peer: String) -> Rest {
        Rest { poster, peer, id: String::new(), received: 0, ready: VecDeque::new() }
    }

    /// Gives the next piece, and fetches it if it is not here.
    async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if self.id.is_empty() {
                return None;
            }
            let Ok(received) = i32::try_from(self.received) else {
                self.id.clear();
                let peer = self.peer.clone();
                return Some(Err(TransportError::Protocol {
                    peer,
                    cause: "a reply has too many pieces".to_owned(),
                }));
            };
            let parameters = vec![Value::String(self.id.clone()), Value::Integer(received)];
            if let Err(error) = self.fetch("more", parameters, 0).await {
                self.id.clear();
                return Some(Err(error));
            }
        }
    }

    async fn fetch(
        &mut self,
        method: &'static str,
        parameters: Vec<Value>,
        bytes: usize,
    ) -> Result<(), TransportError> {
        let answer = self.poster.fetch(&self.peer, method, parameters, bytes).await?;
        self.id = answer.id;
        self.received += answer.pieces.len();
        self.ready.extend(answer.pieces);
        Ok(())
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.id.is_empty() {
            return;
        }
        // Without a runtime the process ends anyway, and the server drops the reply after a while.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (poster, peer, id) = (self.poster.clone(), self.peer.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move {
                let _gone = poster.post(&peer, "cancel", vec![Value::String(id)]).await;
            });
        }
    }
}

/// An address that serves methods alone, beside whatever middleware a program uses. Dropping it ends the service.
pub struct MethodServer {
    address: String,
    _stop: DropGuard,
}

impl MethodServer {
    /// Serves methods at `HOST:PORT`.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
    pub async fn start(
        address: &str,
        methods: Methods,
        tls: Option<MutualTls>,
    ) -> Result<MethodServer, TransportError> {
        let (listener, address) = bind(address).await?;
        let stop = CancellationToken::new();
        let site = Site { replies: None, calls_for_nodes: false, methods, max_bytes: MAX_BYTES };
        tokio::spawn(serve_site(listener, tls, site, stop.clone()));
        Ok(MethodServer { address, _stop: stop.drop_guard() })
    }

    /// The address, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Calls methods of other programs, such as those of a worker from its master.
#[derive(Debug, Clone)]
pub struct MethodCaller {
    poster: Poster,
}

impl Default for MethodCaller {
    fn default() -> MethodCaller {
        MethodCaller { poster: Poster::new(MAX_BYTES, None) }
    }
}

impl MethodCaller {
    /// Calls a method at `HOST:PORT`.
    ///
    /// # Errors
    /// Fails if the call does not get through; the inner result is the method's own.
    pub async fn call(
        &self,
        peer: &str,
        method: &'static str,
        parameters: Vec<Value>,
    ) -> Result<Result<Value, MethodFault>, TransportError> {
        self.poster.post(peer, method, parameters).await
    }
}
