//! The TCP of the operating system.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs};

use super::interface::Interface;
use super::multicast::MulticastSocket;
use super::network::{ListenError, Listener, Network};

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: u32 = 4096;
/// A peer that disappeared without closing is noticed after one minute without traffic.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Listens on `address`. Port 0 chooses a free port.
///
/// # Errors
/// Fails with a [`ListenError`] if the address cannot be listened on.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    listen_with_backlog(address, BACKLOG)
}

/// Listens on `address`, with at most `backlog` connections that wait in the kernel to be accepted.
///
/// # Errors
/// Fails with a [`ListenError`] if the address cannot be listened on.
pub fn listen_with_backlog(address: SocketAddr, backlog: u32) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not have to wait until old connections have timed out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)
    };
    open().map_err(|cause| ListenError { address, cause })
}

/// Sets the options of a connection. Requests and replies are small and complete, so waiting for more data before
/// sending would only delay them.
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

/// Connects to `address` within `limit`, which includes looking up its name. Small messages are sent at once, and a
/// peer that has disappeared is noticed.
///
/// # Errors
/// Fails if the connection cannot be made, with [`io::ErrorKind::TimedOut`] if `limit` has passed.
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

/// The network of the operating system.
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
        // Connecting a UDP socket sends nothing. It only looks up the route.
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(peer)?;
        match socket.local_addr()? {
            SocketAddr::V4(address) => Ok(*address.ip()),
            SocketAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
