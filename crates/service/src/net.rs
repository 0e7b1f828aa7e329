//! The network. Programs take it as a parameter, so that a simulated one can stand in for [`Sockets`].

mod multicast;
mod serve;
mod sockets;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::io::{AsyncRead, AsyncWrite};

pub use multicast::{Interface, LocalGroup, MulticastSocket};
pub use serve::{close, make_room_for, serve};
pub use sockets::{ListenError, Sockets, connect, listen, listen_with_backlog};
pub use tokio::net::{TcpListener, TcpStream};

/// TCP connections and datagrams: the system's ([`Sockets`]) or simulated ones.
pub trait Network: Clone + Send + Sync + 'static {
    /// A TCP connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What accepts TCP connections.
    type Listener: Listener<Stream = Self::Stream>;
    /// A UDP socket.
    type Datagrams: Datagrams;

    /// Connects to `address`.
    ///
    /// # Errors
    /// The network's.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ListenError`].
    fn listen(&self, address: SocketAddr)
    -> impl Future<Output = Result<Self::Listener, ListenError>> + Send;

    /// A socket to send to multicast groups and receive answers with, on a free port.
    ///
    /// # Errors
    /// The network's.
    fn sender(&self, interface: &Interface) -> impl Future<Output = io::Result<Self::Datagrams>> + Send;

    /// A socket that receives what is sent to `group`. Several may share its port.
    ///
    /// # Errors
    /// The network's.
    fn member(
        &self,
        group: SocketAddrV4,
        interface: &Interface,
    ) -> impl Future<Output = io::Result<Self::Datagrams>> + Send;

    /// This host's address as `peer` sees it.
    ///
    /// # Errors
    /// If there is no way to `peer`.
    fn local_address_towards(&self, peer: SocketAddr) -> io::Result<Ipv4Addr>;
}

/// Accepts TCP connections.
pub trait Listener: Send {
    /// A TCP connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and who made it.
    ///
    /// # Errors
    /// The network's.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where it listens.
    ///
    /// # Errors
    /// The network's.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Sends and receives datagrams.
pub trait Datagrams: Send + Sync + 'static {
    /// The next datagram, cut to the length of `buffer`, and who sent it.
    ///
    /// # Errors
    /// The network's; about one peer only, so receiving may go on.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends to one address.
    ///
    /// # Errors
    /// The network's.
    fn send(&self, datagram: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends to everyone who joined `group`, on every interface in use.
    ///
    /// # Errors
    /// The network's, if no interface could send it.
    fn multicast(&self, datagram: &[u8], group: SocketAddrV4) -> impl Future<Output = io::Result<()>> + Send;

    /// Takes up interfaces that have come since: a container that was cut off and connected again has a new one.
    fn refresh(&self);
}
