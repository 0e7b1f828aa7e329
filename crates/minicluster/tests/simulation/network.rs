//! The simulated network, as the programs see it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use service::net::{self, Datagrams, Interface, ListenError, Network};
use turmoil::net::{TcpListener, TcpStream, UdpSocket};

#[derive(Clone, Copy)]
pub struct Simulated;

pub struct SimulatedListener(TcpListener);
pub struct Socket(UdpSocket);

impl Network for Simulated {
    type Stream = TcpStream;
    type Listener = SimulatedListener;
    type Datagrams = Socket;

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }

    async fn listen(&self, address: SocketAddr) -> Result<SimulatedListener, ListenError> {
        TcpListener::bind(address)
            .await
            .map(SimulatedListener)
            .map_err(|cause| ListenError { address, cause })
    }

    async fn sender(&self, _: &Interface) -> io::Result<Socket> {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map(Socket)
    }

    async fn member(&self, group: SocketAddrV4, _: &Interface) -> io::Result<Socket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.port())).await?;
        socket.join_multicast_v4(*group.ip(), Ipv4Addr::UNSPECIFIED)?;
        Ok(Socket(socket))
    }

    fn local_address_towards(&self, _: SocketAddr) -> io::Result<Ipv4Addr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl net::Listener for SimulatedListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Datagrams for Socket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }

    async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.0.send_to(datagram, to).await.map(|_| ())
    }

    async fn multicast(&self, datagram: &[u8], group: SocketAddrV4) -> io::Result<()> {
        self.0.send_to(datagram, group).await.map(|_| ())
    }

    fn refresh(&self) {}
}
