//! gRPC: a request is a call, and the pieces of its reply are the call's stream. One HTTP/2 connection for each peer.
//!
//! `proto/middleware.proto` documents the service. The port serves further services of the program ([`Routes`]). The windows of HTTP/2 hold a reply back whose reader is slow.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use mutual_tls::{Application, MutualTls, PeerRole};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
pub use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint as Target, Server};
use tonic::{Code, Response, Status};

use crate::dial::Dialer;
use crate::intake::{Intake, intake};
use crate::listening::{Gate, accept, bind, listen, no_shared_queue};
use crate::reply::{Delivery, DirectReply, check_length};
use crate::{Capabilities, Endpoint, NODES_ALONE, Pieces, Requests, Transport, TransportError, with_causes};
use wire::middleware_client::MiddlewareClient;
use wire::middleware_server::{Middleware as Service, MiddlewareServer};
use wire::{Piece, Request};

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "made from the .proto file")]
mod wire {
    tonic::include_proto!("dataframe.middleware.v1");
}

/// The longest request and the longest piece. The `.proto` file says it, too.
const MAX_BYTES: usize = 16 << 20;
/// The longest message: a request or a piece with its field's header.
const MAX_MESSAGE_BYTES: usize = MAX_BYTES + 64;
/// What an asker that does not read holds of each reply.
const STREAM_WINDOW: u32 = 1 << 20;
/// No limit besides that of the streams: replies that wait do not hold up the others on their connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The longest frame of HTTP/2: long enough that large pieces are not cut small, short enough that others get through between them.
const FRAME_BYTES: u32 = 64 << 10;
/// Calls on one connection.
const MAX_CALLS: u32 = 4_096;
/// Calls that askers give up before they are looked at.
const MAX_RESETS: usize = 1_024;
/// Between two pings.
const PING_EVERY: Duration = Duration::from_secs(3);
/// A peer that does not answer a ping for so long is gone. A busy machine takes a second or two.
const PING_TIMEOUT: Duration = Duration::from_secs(6);
/// Peers whose connections are kept.
const MAX_PEERS: usize = 4_096;
/// What a client of HTTP/2 says first.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Calls by gRPC.
#[derive(Debug)]
pub struct GrpcTransport {
    clients: Mutex<HashMap<String, MiddlewareClient<Channel>>>,
    dialer: Dialer,
    services: Routes,
    tls: Option<MutualTls>,
}

impl Default for GrpcTransport {
    fn default() -> GrpcTransport {
        GrpcTransport::with_services(Routes::default(), None)
    }
}

impl GrpcTransport {
    /// Makes a transport without any connection.
    #[must_use]
    pub fn new() -> GrpcTransport {
        GrpcTransport::default()
    }

    /// Makes a transport that serves these services, too, at every address that it serves.
    #[must_use]
    pub fn with_services(services: Routes, tls: Option<MutualTls>) -> GrpcTransport {
        let dialer = Dialer::new(tls.clone(), Application::Grpc, |_| ());
        GrpcTransport { clients: Mutex::default(), dialer, services, tls }
    }

    /// The client for a peer, which connects when it is needed, and again when the connection broke.
    fn client(&self, address: &str) -> Result<MiddlewareClient<Channel>, TransportError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(address) {
            return Ok(client.clone());
        }
        let target = Target::from_shared(format!("http://{address}"))
            .map_err(|error| TransportError::Invalid(format!("{address} is no address: {error}")))?
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES);
        let client = MiddlewareClient::new(target.connect_with_connector_lazy(self.dialer.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        if clients.len() >= MAX_PEERS {
            // Calls under way keep their connections.
            clients.clear();
        }
        clients.insert(address.to_owned(), client.clone());
        Ok(client)
    }
}

#[async_trait]
impl Transport for GrpcTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "grpc",
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
        let reply = self.client(address)?.call(Request { body: request }).await;
        let reply = reply.map_err(|status| failure(address, &status))?.into_inner();
        let address = address.clone();
        Ok(Box::pin(reply.map(move |piece| match piece {
            Ok(piece) => Ok(piece.body),
            Err(status) => Err(failure(&address, &status)),
        })))
    }

    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError> {
        let (listener, address) = listen(endpoint).await?;
        let stop = CancellationToken::new();
        let (intake, requests) = intake(address.clone(), at_once, MAX_BYTES, stop.clone());
        let for_nodes = matches!(endpoint, Endpoint::Worker(_));
        let service = MiddlewareServer::new(CallService { intake, for_nodes })
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        serve_services(listener, address, self.services.clone().add_service(service), self.tls.clone(), stop);
        Ok(Box::new(requests))
    }
}

/// Serves services at an address until `stop`.
fn serve_services(
    listener: TcpListener,
    address: String,
    services: Routes,
    tls: Option<MutualTls>,
    stop: CancellationToken,
) {
    let gate = Gate { opening: OPENING, tls, application: Application::Grpc };
    let connections = accept(listener, gate, stop.clone());
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(MAX_CALLS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .add_routes(services);
    tokio::spawn(async move {
        let served = server.serve_with_incoming_shutdown(connections, stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%address, %error, "gRPC ended");
        }
    });
}

/// An address that serves services by gRPC, beside whatever middleware a program uses. Dropping it ends the service.
pub struct ServiceServer {
    address: String,
    _stop: DropGuard,
}

impl ServiceServer {
    /// Serves services at `HOST:PORT`.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
    pub async fn start(
        address: &str,
        services: Routes,
        tls: Option<MutualTls>,
    ) -> Result<ServiceServer, TransportError> {
        let (listener, address) = bind(address).await?;
        let stop = CancellationToken::new();
        serve_services(listener, address.clone(), services, tls, stop.clone());
        Ok(ServiceServer { address, _stop: stop.drop_guard() })
    }

    /// The address, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Serves the calls to one address.
struct CallService {
    intake: Intake,
    /// Whether clients are refused: they ask the master, not its workers.
    for_nodes: bool,
}

#[async_trait]
impl Service for CallService {
    type CallStream = CallStream;

    async fn call(&self, request: tonic::Request<Request>) -> Result<Response<CallStream>, Status> {
        let peer = request.extensions().get().copied().unwrap_or(PeerRole::Client);
        if self.for_nodes && peer != PeerRole::Node {
            return Err(Status::permission_denied(NODES_ALONE));
        }
        let body = request.into_inner().body;
        check_length("a request", body.len(), MAX_BYTES)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        match self.intake.take(body, peer).await {
            Ok(reply) => Ok(Response::new(CallStream(Some(reply)))),
            Err(_closing) => Err(Status::unavailable("the server is closing")),
        }
    }
}

/// The pieces of a reply as gRPC sends them. None after the last one.
struct CallStream(Option<DirectReply>);

impl Stream for CallStream {
    type Item = Result<Piece, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(reply) = &mut self.0 else { return Poll::Ready(None) };
        reply.poll_next(context).map(|next| match next {
            Delivery::Piece(body) => Some(Ok(Piece { body })),
            Delivery::End => {
                self.0 = None;
                None
            }
            Delivery::GivenUp => {
                self.0 = None;
                Some(Err(Status::aborted("the request was given up before its reply was whole")))
            }
        })
    }
}

/// What a call that failed means for its caller.
fn failure(peer: &str, status: &Status) -> TransportError {
    let peer = peer.to_owned();
    let cause = with_causes(status.message(), status);
    match status.code() {
        Code::InvalidArgument => TransportError::Invalid(cause),
        Code::Unimplemented
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Unauthenticated => TransportError::Protocol { peer, cause },
        _ => TransportError::Unreachable { peer, cause },
    }
}
