//! Tasca 1: requests and their replies over six middlewares. Bytes go in and come out; what they mean is not known here.
//!
//! Everything that a cluster says is a *request*, which is answered by a stream of *pieces*. A [`Transport`] carries both:
//!
//! | middleware | request | pieces |
//! | --- | --- | --- |
//! | gRPC | a call to the peer's address | a server stream |
//! | XML-RPC | a method call to the peer's address | polled by further calls, each of which waits for the next piece |
//! | Redis | an entry in the stream of an endpoint, read by a consumer group | entries in the stream of the asker |
//! | RabbitMQ | a message in the queue of an endpoint, acknowledged when the reply is complete | messages in the queue of the asker |
//! | object store | an object in a bucket, taken by put-if-absent of a claim | objects in the bucket; the last one is put if absent, and is the only mark of success |
//! | hybrid | to the master by Redis; to workers directly, by gRPC or XML-RPC | the same way back |
//!
//! A transport delivers a request at least once or reports that it could not; a broker delivers it again if the peer
//! that took it is lost. A transport reconnects by itself. It does not promise that every reply arrives: who asks has a
//! lease or a timeout, and asks again under the same id.

pub mod brokered;
pub mod connect;
mod dial;
pub mod grpc;
pub mod hybrid;
mod intake;
mod listening;
pub mod objectstore;
pub mod rabbitmq;
pub mod redis;
mod reply;
pub mod xmlrpc;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
pub use mutual_tls::{MutualTls, PeerRole, TlsHolder};

/// What a worker says to a client that asks it for work.
const NODES_ALONE: &str =
    "only the nodes of the cluster may ask this, and the certificate that was shown is a client's";

/// Who gets a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The master: its address where it is called directly, else ignored (a broker has one master).
    Master(String),
    /// One worker: its address where it is called directly, else its name.
    Worker(String),
    /// Any worker that is free. Only with [`Capabilities::shared_queue`].
    AnyWorker,
}

/// What differs between middlewares, as far as a caller has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The middleware's name: `grpc`, `xmlrpc`, `redis`, `rabbitmq`, `objectstore`, `hybrid-grpc`, `hybrid-xmlrpc`.
    pub name: &'static str,
    /// Whether [`Endpoint::AnyWorker`] exists: the broker holds requests until a worker takes them. Without it, the caller chooses the worker.
    pub shared_queue: bool,
    /// Whether a worker is called at its own address, so that it has to listen.
    pub calls_workers_directly: bool,
    /// Whether whoever has taken a request may leave it to another process ([`ReplySink::ticket`], [`Transport::take_up`]). Then a
    /// worker starts a process for each task.
    pub starts_functions: bool,
    /// The longest piece and the longest request, in bytes. The caller cuts what is longer.
    pub max_bytes: usize,
}

/// Why a request did not get through or its reply did not come back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// The peer or the broker cannot be reached, or the connection broke. Asking again may help.
    #[error("{peer}: {cause}")]
    Unreachable {
        /// Address of the peer or the broker.
        peer: String,
        /// What happened.
        cause: String,
    },
    /// The peer answered with something else than this protocol.
    #[error("{peer} does not speak this protocol: {cause}")]
    Protocol {
        /// Address of the peer or the broker.
        peer: String,
        /// What it said.
        cause: String,
    },
    /// The request cannot be sent at all, such as a request that is too long.
    #[error("{0}")]
    Invalid(String),
}

/// Returns `message`, which tells of `error`, with what caused the error. Some errors name their cause themselves: then it is not
/// named again.
fn with_causes(message: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = message.to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let of_cause = cause.to_string();
        if !text.contains(&of_cause) {
            text = format!("{text}: {of_cause}");
        }
        source = cause.source();
    }
    text
}

/// The pieces of a reply. It ends after the last one; an error ends it early.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// A request that came in.
pub struct Incoming {
    /// The request.
    pub request: Bytes,
    /// Who asks. Where nobody has to show a certificate, everybody counts as a node.
    pub peer: PeerRole,
    /// Where its reply goes.
    pub reply: Box<dyn ReplySink>,
}

/// Takes the pieces of a reply.
///
/// A sink that is dropped without [`ReplySink::finish`] stands for a peer that died: a broker delivers the request again,
/// and a direct caller gets an error.
#[async_trait]
pub trait ReplySink: Send {
    /// Sends a piece. Waits while the asker or the broker has no room.
    ///
    /// # Errors
    /// Fails if the asker is gone, or the broker stays away for too long.
    async fn send(&mut self, piece: Bytes) -> Result<(), TransportError>;
    /// Ends the reply, and tells the broker that the request is done.
    ///
    /// # Errors
    /// Fails as [`ReplySink::send`] does.
    async fn finish(self: Box<Self>) -> Result<(), TransportError>;

    /// What another process needs to answer the request in place of this sink, which is then to be kept until that process has
    /// ended. Only with [`Capabilities::starts_functions`].
    fn ticket(&self) -> Option<String> {
        None
    }

    /// Tells the asker that there will be no reply, and takes the request away. If the process that had its ticket has finished the
    /// reply, it stays finished.
    ///
    /// # Errors
    /// Fails as [`ReplySink::send`] does, and where there are no tickets.
    async fn fail(self: Box<Self>, _why: &str) -> Result<(), TransportError> {
        Err(TransportError::Invalid(
            "a reply of this middleware cannot be left to another process".to_owned(),
        ))
    }
}

/// The requests to one endpoint.
#[async_trait]
pub trait Requests: Send {
    /// Waits for the next request. Reconnects by itself, so that it never ends.
    async fn next(&mut self) -> Incoming;
    /// The address at which a direct endpoint listens, with the port that the system chose.
    fn address(&self) -> Option<String>;
}

/// One middleware.
#[async_trait]
pub trait Transport: Send + Sync {
    /// What callers have to know.
    fn capabilities(&self) -> Capabilities;

    /// Sends a request, and gives the pieces of its reply as they come. Dropping the stream gives the reply up.
    ///
    /// # Errors
    /// Fails if the request could not be handed to the peer or the broker.
    async fn request(&self, to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError>;

    /// Begins to receive the requests to an endpoint. At most `at_once` requests are taken before their replies have ended.
    ///
    /// A direct endpoint is the address to listen at. A worker behind a broker serves [`Endpoint::Worker`] with its name for what is
    /// meant for it alone, and [`Endpoint::AnyWorker`] for what any worker may take.
    ///
    /// # Errors
    /// Fails if the address cannot be bound or the broker refuses. A broker that is away is waited for.
    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError>;

    /// Takes up a request that another process holds, by its ticket. `None` if it has been answered, or nobody waits for it any more.
    ///
    /// # Errors
    /// Fails if the ticket is none, or the broker cannot be reached.
    async fn take_up(&self, _ticket: &str) -> Result<Option<Incoming>, TransportError> {
        Err(TransportError::Invalid(
            "a request of this middleware cannot be left to another process".to_owned(),
        ))
    }

    /// Waits until what was said last has got to the broker. For the end of a process that has taken up a request.
    async fn settle(&self) {}

    /// Removes what a cluster has left at the broker, for the end of one that a single program has started. What is not removed
    /// goes away by its age.
    ///
    /// # Errors
    /// Fails if the broker cannot be reached.
    async fn clear(&self) -> Result<(), TransportError> {
        Ok(())
    }

    /// Publishes a worker's description for `ttl` where the middleware has a directory (Redis). Elsewhere it does nothing.
    ///
    /// # Errors
    /// Fails if the directory cannot be reached.
    async fn announce(&self, _name: &str, _description: Bytes, _ttl: Duration) -> Result<(), TransportError> {
        Ok(())
    }

    /// The descriptions that are in the directory now; none where the middleware has no directory.
    ///
    /// # Errors
    /// Fails if the directory cannot be reached.
    async fn announced(&self) -> Result<Vec<Bytes>, TransportError> {
        Ok(Vec::new())
    }
}

/// A transport that several parts of a program share.
pub type SharedTransport = Arc<dyn Transport>;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Caused {
        text: &'static str,
        source: Option<Box<Caused>>,
    }

    #[test]
    fn each_cause_is_named_once() {
        let caused = |text, source: Caused| Caused { text, source: Some(Box::new(source)) };
        let last = Caused { text: "the key does not fit", source: None };
        let error = caused("transport error", caused("no handshake: the key does not fit", last));
        let shown = with_causes("cannot connect", &error);
        assert_eq!(shown, "cannot connect: no handshake: the key does not fit");
    }
}
