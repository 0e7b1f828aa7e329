//! The UDP of the operating system, with IPv4 multicast.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::interface::{Attachment, Interface};
use super::network::Datagrams;

/// The time to live of datagrams: they stay within the network in which they are sent.
const TTL: u32 = 1;
/// Memory for answers that arrive at the same time, in bytes. The operating system may grant less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A UDP socket for multicast.
#[derive(Debug)]
pub struct MulticastSocket {
    socket: UdpSocket,
    interface: Interface,
    /// The group that the socket is a member of, or `None` for a sender.
    group: Option<Ipv4Addr>,
    in_use: Mutex<BTreeSet<Attachment>>,
}

impl MulticastSocket {
    /// Opens a socket on a free port that sends to groups.
    ///
    /// # Errors
    /// Fails if the socket cannot be opened.
    pub fn sender(interface: Interface) -> io::Result<Self> {
        let socket = open(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_multicast_ttl_v4(TTL)?;
        Self::new(socket, interface, None)
    }

    /// Opens a socket that receives what is sent to `group`. Other sockets on this host may do the same.
    ///
    /// # Errors
    /// Fails if the socket cannot be opened, or if the group cannot be joined.
    pub fn member(group: SocketAddrV4, interface: Interface) -> io::Result<Self> {
        // The socket is not bound to the group's own address: probes to this host alone arrive at the same port.
        let socket = open(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, group.port()))?;
        // By default, Linux delivers every group that any program on this host has joined (ip(7), IP_MULTICAST_ALL).
        socket.set_multicast_all_v4(false)?;
        Self::new(socket, interface, Some(*group.ip()))
    }

    fn new(socket: Socket, interface: Interface, group: Option<Ipv4Addr>) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket.into())?;
        let socket = Self { socket, interface, group, in_use: Mutex::default() };
        socket.use_present_interfaces()?;
        Ok(socket)
    }

    fn use_present_interfaces(&self) -> io::Result<()> {
        let present = self.interface.attachments()?;
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_use == present {
            return Ok(());
        }
        if let Some(group) = self.group {
            self.leave_gone(group, &in_use, &present);
            for (address, _) in present.difference(&in_use) {
                match self.socket.join_multicast_v4(group, *address) {
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(error),
                    _ => tracing::debug!(%group, interface = %address, "joined"),
                }
            }
        }
        *in_use = present;
        Ok(())
    }

    /// Leaves the group on interfaces that no longer exist. A socket would keep these memberships, and may have only
    /// 20.
    fn leave_gone(&self, group: Ipv4Addr, in_use: &BTreeSet<Attachment>, present: &BTreeSet<Attachment>) {
        let indexes = |attachments: &BTreeSet<Attachment>| -> BTreeSet<u32> {
            attachments.iter().filter_map(|(_, index)| *index).collect()
        };
        for index in indexes(in_use).difference(&indexes(present)) {
            let interface = InterfaceIndexOrAddress::Index(*index);
            if let Err(error) = SockRef::from(&self.socket).leave_multicast_v4_n(&group, &interface) {
                tracing::debug!(%group, index, %error, "cannot leave");
            }
        }
    }
}

/// A group and port that no other program on this host uses while this value lives. Stores that use loopback alone get
/// their group here.
#[derive(Debug)]
pub struct LocalGroup {
    /// The group and its port.
    pub address: SocketAddrV4,
    _reserved: Socket,
}

impl LocalGroup {
    /// Reserves a free group and port.
    ///
    /// # Errors
    /// Fails if the operating system has no free port.
    pub fn reserve() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        // The option is set after the port is bound. Members may share the port, but another call of this function does
        // not get the same port.
        socket.set_reuse_address(true)?;
        let port = socket.local_addr()?.as_socket_ipv4().map_or(0, |address| address.port());
        let [high, low] = port.to_be_bytes();
        Ok(Self { address: SocketAddrV4::new(Ipv4Addr::new(239, 255, high, low), port), _reserved: socket })
    }
}

fn open(address: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Only a port that was asked for is shared: two senders on one port would receive each other's answers.
    socket.set_reuse_address(address.port() != 0)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(address).into())?;
    Ok(socket)
}

impl Datagrams for MulticastSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }

    async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(datagram, to).await.map(|_| ())
    }

    async fn multicast(&self, datagram: &[u8], group: SocketAddrV4) -> io::Result<()> {
        let attachments = self.in_use.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "no interface to send on"));
        for (address, _) in attachments {
            let sent = match SockRef::from(&self.socket).set_multicast_if_v4(&address) {
                Ok(()) => self.send(datagram, group.into()).await,
                Err(error) => Err(error),
            };
            if sent.is_ok() || outcome.is_err() {
                outcome = sent;
            }
        }
        outcome
    }

    fn refresh(&self) {
        if let Err(error) = self.use_present_interfaces() {
            tracing::warn!(%error, "cannot use the present network interfaces");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_told_apart() {
        assert_eq!("all".parse(), Ok(Interface::All));
        assert_eq!("127.0.0.1".parse(), Ok(Interface::Address(Ipv4Addr::LOCALHOST)));
        assert_eq!("eth0".parse(), Ok(Interface::Named("eth0".to_owned())));
        assert!("".parse::<Interface>().is_err());
    }

    #[test]
    fn no_two_reserved_groups_are_the_same() {
        let groups: Vec<_> = (0..500).map(|_| LocalGroup::reserve().unwrap()).collect();
        let different: BTreeSet<_> = groups.iter().map(|group| group.address).collect();
        assert_eq!(different.len(), groups.len());
    }

    #[tokio::test]
    async fn every_member_on_this_host_receives() {
        let interface = Interface::Address(Ipv4Addr::LOCALHOST);
        let sender = MulticastSocket::sender(interface.clone()).unwrap();
        let reserved = LocalGroup::reserve().unwrap();
        let group = reserved.address;
        let members = [0, 1].map(|_| MulticastSocket::member(group, interface.clone()).unwrap());
        sender.multicast(b"hola", group).await.unwrap();
        for member in members {
            let mut buffer = [0; 16];
            let (length, from) = member.receive(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"hola");
            member.send(b"ya", from).await.unwrap();
            assert_eq!(sender.receive(&mut buffer).await.unwrap().0, 2);
        }
    }
}
