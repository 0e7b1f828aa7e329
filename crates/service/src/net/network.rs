//! What a network can do: the seam at which a simulated one takes the place of the system's.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::io::{AsyncRead, AsyncWrite};

use super::interface::Interface;

/// Says why an address cannot be listened on, and what the user can do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}: stop what uses it, or choose another --listen")]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// The error of the operating system.
    pub cause: io::Error,
}

/// TCP connections and datagrams, of the operating system ([`Sockets`](super::Sockets)) or simulated.
pub trait Network: Clone + Send + Sync + 'static {
    /// A TCP connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The listener that accepts TCP connections.
    type Listener: Listener<Stream = Self::Stream>;
    /// A UDP socket.
    type Datagrams: Datagrams;

    /// Connects to `address`.
    ///
    /// # Errors
    /// Fails if the connection cannot be made.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Listens on `address`. Port 0 chooses a free port.
    ///
    /// # Errors
    /// Fails with a [`ListenError`] if the address cannot be listened on.
    fn listen(&self, address: SocketAddr)
    -> impl Future<Output = Result<Self::Listener, ListenError>> + Send;

    /// Opens a socket on a free port that sends to multicast groups and receives the answers.
    ///
    /// # Errors
    /// Fails if the socket cannot be opened.
    fn sender(&self, interface: &Interface) -> impl Future<Output = io::Result<Self::Datagrams>> + Send;

    /// Opens a socket that receives what is sent to `group`. Several sockets may share its port.
    ///
    /// # Errors
    /// Fails if the socket cannot be opened, or if the group cannot be joined.
    fn member(
        &self,
        group: SocketAddrV4,
        interface: &Interface,
    ) -> impl Future<Output = io::Result<Self::Datagrams>> + Send;

    /// Returns this host's address as `peer` sees it.
    ///
    /// # Errors
    /// Fails if there is no route to `peer`.
    fn local_address_towards(&self, peer: SocketAddr) -> io::Result<Ipv4Addr>;
}

/// Accepts TCP connections.
pub trait Listener: Send {
    /// A TCP connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection, and returns it with the address of its peer.
    ///
    /// # Errors
    /// Fails if a connection cannot be accepted.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Returns the address that the listener listens on.
    ///
    /// # Errors
    /// Fails if the network cannot tell the address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Sends and receives datagrams.
pub trait Datagrams: Send + Sync + 'static {
    /// Waits for the next datagram, puts it into `buffer`, and returns its length and its sender. A datagram that is
    /// longer than `buffer` is cut.
    ///
    /// # Errors
    /// Fails if the network reports an error. The error may be about one peer only, so the caller may go on receiving.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends `datagram` to one address.
    ///
    /// # Errors
    /// Fails if the datagram cannot be sent.
    fn send(&self, datagram: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends `datagram` to all members of `group`, on every interface in use.
    ///
    /// # Errors
    /// Fails if no interface could send the datagram.
    fn multicast(&self, datagram: &[u8], group: SocketAddrV4) -> impl Future<Output = io::Result<()>> + Send;

    /// Starts to use interfaces that have appeared since. A container that was disconnected from its network and
    /// connected again has a new interface.
    fn refresh(&self);
}
