//! The interfaces of the host that carry multicast.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// The interfaces of the host that carry multicast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// All interfaces that are up, without loopback. Loopback if there is no other.
    All,
    /// The interface with this address.
    Address(Ipv4Addr),
    /// The interface with this name.
    Named(String),
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "" => Err("allowed: all, an IPv4 address, or a name such as eth0".to_owned()),
            _ => Ok(text.parse().map_or_else(|_| Self::Named(text.to_owned()), Self::Address)),
        }
    }
}

/// An IPv4 address on an interface, with the number of the interface. The same address on another interface counts as a
/// different attachment: a network that is disconnected and connected again, as with `docker network disconnect` and
/// `connect`, gets a new interface, often with the old address.
pub type Attachment = (Ipv4Addr, Option<u32>);

impl Interface {
    /// Returns the present IPv4 addresses of these interfaces.
    ///
    /// # Errors
    /// Fails if the operating system does not list its interfaces.
    pub fn attachments(&self) -> io::Result<BTreeSet<Attachment>> {
        let interfaces = if_addrs::get_if_addrs()?;
        let found = interfaces.into_iter().filter(|interface| match self {
            Self::Address(address) => interface.ip() == IpAddr::V4(*address),
            Self::Named(name) => interface.name == *name,
            Self::All => interface.is_oper_up() && !interface.is_loopback(),
        });
        let mut attachments: BTreeSet<_> = found
            .filter_map(|interface| match interface.ip() {
                IpAddr::V4(address) => Some((address, interface.index)),
                IpAddr::V6(_) => None,
            })
            .collect();
        match self {
            Self::All if attachments.is_empty() => _ = attachments.insert((Ipv4Addr::LOCALHOST, None)),
            // An address that no interface has is used as it is, so that the operating system reports the error.
            Self::Address(address) if attachments.is_empty() => _ = attachments.insert((*address, None)),
            _ => {}
        }
        Ok(attachments)
    }
}
