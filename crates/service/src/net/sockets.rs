//! The system's TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs};

use super::{Interface, Listener, MulticastSocket, Network};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 4096;
/// A peer that is gone without a word is noticed after a minute without traffic.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// An address that cannot be listened on: the cause and the way out.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}: stop what uses it, or choose another --listen")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// The system's word.
    pub cause: io::Error,
}

/// Listens on `address`; port 0 takes a free one.
///
/// # Errors
/// [`ListenError`].
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    listen_with_backlog(address, BACKLOG)
}

/// The same with at most `backlog` connections that wait in the kernel to be accepted.
///
/// # Errors
/// [`ListenError`].
pub fn listen_with_backlog(address: SocketAddr, backlog: u32) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for old connections to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)
    };
    open().map_err(|cause| ListenError { address, cause })
}

/// Requests and replies are small and complete: waiting for more to send only delays them.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let tuned = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%error, "cannot set options of a connection");
    }
}

/// Connects to `address` within `limit`, which includes looking its name up. Small messages leave at once, and a peer that
/// is gone is noticed.
///
/// # Errors
/// The system's; [`io::ErrorKind::TimedOut`] when `limit` has passed.
pub async fn connect(address: impl ToSocketAddrs, limit: Duration) -> io::Result<TcpStream> {
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit:?}"));
    let stream = tokio::time::timeout(limit, TcpStream::connect(address)).await.map_err(timed_out)??;
    tune(&stream);
    Ok(stream)
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        tune(&stream);
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// The system's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sockets;

impl Network for Sockets {
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Datagrams = MulticastSocket;

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        tune(&stream);
        Ok(stream)
    }

    async fn listen(&self, address: SocketAddr) -> Result<TcpListener, ListenError> {
        listen(address)
    }

    async fn sender(&self, interface: &Interface) -> io::Result<MulticastSocket> {
        MulticastSocket::sender(interface.clone())
    }

    async fn member(&self, group: SocketAddrV4, interface: &Interface) -> io::Result<MulticastSocket> {
        MulticastSocket::member(group, interface.clone())
    }

    fn local_address_towards(&self, peer: SocketAddr) -> io::Result<Ipv4Addr> {
        // Connecting a UDP socket sends nothing: it only looks up the route.
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(peer)?;
        match socket.local_addr()? {
            SocketAddr::V4(address) => Ok(*address.ip()),
            SocketAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
