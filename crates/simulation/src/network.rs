//! The simulated network, as the programs of a machine see it. A machine that has died sends and receives nothing.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::task::{Context, Poll};

use service::net::{self, Datagrams, Interface, ListenError, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream, UdpSocket};

use crate::machine::Machine;

#[derive(Debug, Clone)]
pub struct SimulatedNetwork(pub Machine);

pub struct SimulatedListener {
    listener: TcpListener,
    machine: Machine,
}

pub struct SimulatedSocket {
    socket: UdpSocket,
    machine: Machine,
}

pub struct SimulatedStream {
    stream: TcpStream,
    machine: Machine,
}

impl Network for SimulatedNetwork {
    type Stream = SimulatedStream;
    type Listener = SimulatedListener;
    type Datagrams = SimulatedSocket;

    async fn connect(&self, address: SocketAddr) -> io::Result<SimulatedStream> {
        if !self.0.uses_network() {
            pending::<()>().await;
        }
        let stream = TcpStream::connect(address).await?;
        Ok(SimulatedStream { stream, machine: self.0.clone() })
    }

    async fn listen(&self, address: SocketAddr) -> Result<SimulatedListener, ListenError> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|cause| ListenError { address, cause })?;
        Ok(SimulatedListener { listener, machine: self.0.clone() })
    }

    async fn sender(&self, _: &Interface) -> io::Result<SimulatedSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        Ok(SimulatedSocket { socket, machine: self.0.clone() })
    }

    async fn member(&self, group: SocketAddrV4, _: &Interface) -> io::Result<SimulatedSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.port())).await?;
        socket.join_multicast_v4(*group.ip(), Ipv4Addr::UNSPECIFIED)?;
        Ok(SimulatedSocket { socket, machine: self.0.clone() })
    }

    fn local_address_towards(&self, _: SocketAddr) -> io::Result<Ipv4Addr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl net::Listener for SimulatedListener {
    type Stream = SimulatedStream;

    async fn accept(&mut self) -> io::Result<(SimulatedStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        if self.machine.death().is_some() {
            pending::<()>().await;
        }
        Ok((SimulatedStream { stream, machine: self.machine.clone() }, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl SimulatedSocket {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if !self.machine.uses_network() {
            pending::<()>().await;
        }
        self.socket.send_to(datagram, to).await.map(|_| ())
    }
}

impl Datagrams for SimulatedSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.socket.recv_from(buffer).await;
        if self.machine.death().is_some() {
            pending::<()>().await;
        }
        received
    }

    async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send_to(datagram, to).await
    }

    async fn multicast(&self, datagram: &[u8], group: SocketAddrV4) -> io::Result<()> {
        self.send_to(datagram, group.into()).await
    }

    fn refresh(&self) {}
}

impl AsyncRead for SimulatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.machine.death().is_some() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.machine.uses_network() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.machine.death().is_some() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
