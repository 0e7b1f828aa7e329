//! Accepts connections: so many at most, and none that says nothing, or has no certificate where there is TLS.
//!
//! Those that have not opened yet take none of the others' places. They have [`OPENINGS`] of their own. A connection that comes
//! when all of those are taken gets the place of the one that has waited longest, for [`AT_LEAST`] or more. So a flood of silent
//! connections displaces only itself.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mutual_tls::{Application, MutualTls, PeerRole};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{Endpoint, TransportError};

/// Connections to one address. More of them wait to be accepted.
const MAX_CONNECTIONS: usize = 1_024;
/// Connections that may be about to open.
const OPENINGS: usize = 256;
/// How long each of them has its place at least: a certificate is shown sooner.
const AT_LEAST: Duration = Duration::from_millis(250);
/// Between two looks whether one of them has opened.
const LOOK: Duration = Duration::from_millis(5);
/// How long a new connection may take for its certificate and its first bytes.
const OPENING: Duration = Duration::from_secs(5);
/// A peer that takes nothing of what is written for so long loses its connection.
const UNREAD: Duration = Duration::from_secs(30);
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection has to show before it counts as open.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// Its first bytes.
    pub(crate) opening: &'static [u8],
    /// Its certificate, where there is TLS.
    pub(crate) tls: Option<MutualTls>,
    /// What is spoken.
    pub(crate) application: Application,
}

/// A connection with or without TLS.
type MaybeTls = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// An accepted connection. It gives its place back when it is dropped.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// What was read of the connection already.
    opening: Bytes,
    stream: MaybeTls,
    peer: PeerRole,
    /// Runs while the peer does not take what is written.
    unread: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// Listens at the address of an endpoint. Gives the address with the port that the system chose, too.
pub(crate) async fn listen(endpoint: &Endpoint) -> Result<(TcpListener, String), TransportError> {
    let (Endpoint::Master(address) | Endpoint::Worker(address)) = endpoint else {
        return Err(no_shared_queue());
    };
    bind(address).await
}

/// Listens at `HOST:PORT`.
pub(crate) async fn bind(address: &str) -> Result<(TcpListener, String), TransportError> {
    let failed = |error: io::Error| TransportError::Unreachable {
        peer: address.to_owned(),
        cause: format!("cannot listen there: {error}"),
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?.to_string();
    Ok((listener, bound))
}

/// What a direct middleware answers to [`Endpoint::AnyWorker`].
pub(crate) fn no_shared_queue() -> TransportError {
    TransportError::Invalid("a direct middleware has no queue that workers share: name a worker".to_owned())
}

/// Accepts connections until `stop`. Those that do not open the gate are closed.
pub(crate) fn accept(
    listener: TcpListener,
    gate: Gate,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut openings = VecDeque::new();
        loop {
            // While all places are taken, new connections wait to be accepted.
            drop(places.acquire().await.expect("nobody closes the places"));
            match listener.accept().await {
                Ok((stream, _)) => {
                    let opening = open(stream, gate.clone(), Arc::clone(&places), sender.clone());
                    make_room(&mut openings).await;
                    openings.push_back((Instant::now(), tokio::spawn(opening).abort_handle()));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }));
    ReceiverStream::new(receiver)
}

/// Waits until there is room for another connection that is about to open.
async fn make_room(openings: &mut VecDeque<(Instant, AbortHandle)>) {
    loop {
        openings.retain(|(_, opening)| !opening.is_finished());
        match openings.front() {
            Some((since, oldest)) if openings.len() >= OPENINGS => {
                if since.elapsed() >= AT_LEAST {
                    oldest.abort();
                    openings.pop_front();
                    return;
                }
            }
            _ => return,
        }
        sleep(LOOK).await;
    }
}

/// Lets a connection show what the gate asks for, and passes the connection on.
async fn open(
    stream: TcpStream,
    gate: Gate,
    places: Arc<Semaphore>,
    accepted: mpsc::Sender<io::Result<Accepted>>,
) {
    let shown = timeout(OPENING, gate.open(stream)).await.unwrap_or_else(|late| Err(late.into()));
    let (opening, stream, peer) = match shown {
        Ok(shown) => shown,
        Err(error) => {
            return tracing::debug!(%error, "a connection that does not speak this protocol is closed");
        }
    };
    let place = places.acquire_owned().await.expect("nobody closes the places");
    let connection = Accepted { opening, stream, peer, unread: None, _place: place };
    // If nobody takes connections any more, this one closes.
    let _closed = accepted.send(Ok(connection)).await;
}

impl Gate {
    /// Gives the first bytes, the connection, and who is at its other end.
    async fn open(self, stream: TcpStream) -> io::Result<(Bytes, MaybeTls, PeerRole)> {
        stream.set_nodelay(true)?;
        let (mut stream, peer) = match self.tls {
            None => (Either::Left(stream), PeerRole::Node),
            Some(tls) => {
                let (stream, peer) = tls.accept(stream, self.application).await?;
                (Either::Right(Box::new(stream)), peer)
            }
        };
        let mut read = vec![0; self.opening.len()];
        stream.read_exact(&mut read).await?;
        if read != self.opening {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it begins with something else"));
        }
        Ok((read.into(), stream, peer))
    }
}

impl Accepted {
    /// Who is at the other end.
    pub(crate) fn peer(&self) -> PeerRole {
        self.peer
    }

    /// Fails a write that has waited for too long.
    fn within_time(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let unread = self.unread.get_or_insert_with(|| Box::pin(sleep(UNREAD)));
        unread.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.opening.is_empty() {
            let length = self.opening.len().min(buffer.remaining());
            buffer.put_slice(&self.opening.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.within_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Accepted {
    type ConnectInfo = PeerRole;

    fn connect_info(&self) -> PeerRole {
        self.peer
    }
}
