//! Connects to peers, with TLS or without.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use mutual_tls::{Application, MutualTls, explained};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower_service::Service;

/// How long connecting may take, and then how long the peer may take to show its certificate.
const CONNECTING: Duration = Duration::from_secs(3);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to `HOST:PORT`, which it is given as `http://HOST:PORT` whether or not there is TLS.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    tcp: HttpConnector,
    tls: Option<MutualTls>,
    application: Application,
}

impl Dialer {
    /// Makes a dialer. `set` sets what differs between middlewares.
    pub(crate) fn new(
        tls: Option<MutualTls>,
        application: Application,
        set: impl FnOnce(&mut HttpConnector),
    ) -> Dialer {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECTING));
        set(&mut tcp);
        Dialer { tcp, tls, application }
    }
}

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = AnyError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, AnyError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), AnyError>> {
        self.tcp.poll_ready(context).map_err(AnyError::from)
    }

    fn call(&mut self, peer: Uri) -> Self::Future {
        let (connecting, tls, application) = (self.tcp.call(peer), self.tls.clone(), self.application);
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            let Some(tls) = tls else { return Ok(Dialed(TokioIo::new(Either::Left(stream)))) };
            let shown = timeout(CONNECTING, tls.connect(stream, application)).await;
            let stream =
                shown.map_err(|_| "it shows no certificate in time: is it started with --tls?")??;
            Ok(Dialed(TokioIo::new(Either::Right(Box::new(stream)))))
        })
    }
}

/// A connection to a peer.
pub(crate) struct Dialed(TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>);

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer).map_err(explained)
    }
}

impl Write for Dialed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
