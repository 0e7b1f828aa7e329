//! Accepts connections: so many at most, and none that says nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{Endpoint, TransportError};

/// Connections to one address. More of them wait to be accepted.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a new connection may take for its first bytes.
const OPENING: Duration = Duration::from_secs(5);
/// A peer that takes nothing of what is written for so long loses its connection.
const UNREAD: Duration = Duration::from_secs(30);
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An accepted connection. It gives its place back when it is dropped.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// What was read of the connection already.
    opening: Bytes,
    stream: TcpStream,
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

/// Accepts connections until `stop`. Connections that do not begin with `opening` are closed.
pub(crate) fn accept(
    listener: TcpListener,
    opening: &'static [u8],
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the places");
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(open(stream, opening, place, sender.clone()));
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

/// Reads the opening of a connection and passes the connection on.
async fn open(
    mut stream: TcpStream,
    opening: &'static [u8],
    place: OwnedSemaphorePermit,
    accepted: mpsc::Sender<io::Result<Accepted>>,
) {
    let mut read = vec![0; opening.len()];
    let whole = timeout(OPENING, stream.read_exact(&mut read)).await;
    if !matches!(whole, Ok(Ok(_))) || read != opening {
        tracing::debug!("a connection that does not speak this protocol is closed");
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection broke at its beginning");
        return;
    }
    let connection = Accepted { opening: read.into(), stream, unread: None, _place: place };
    // If nobody takes connections any more, this one closes.
    let _closed = accepted.send(Ok(connection)).await;
}

impl Accepted {
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
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
