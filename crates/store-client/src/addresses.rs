//! Connects to a headnode whose name may stand for several addresses, one of which leads.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cluster_key::{KeyPurpose, KeyedStream, Keyring};
use service::net::{self, TcpStream};
use tokio::net::lookup_host;

use crate::session::Connector;

/// The addresses that a name stands for, in the order in which they are tried. The one that was tried last goes last: a
/// headnode that hangs accepts connections and never answers.
#[derive(Debug)]
pub struct HeadnodeAddresses {
    name: String,
    keys: Option<Keyring>,
    limit: Duration,
    last: Option<SocketAddr>,
    /// Whether a person was told that there is no common key.
    is_warned: bool,
}

impl HeadnodeAddresses {
    /// Returns the addresses of `name`, a host and a port. Each may take `limit` to accept a connection. If there are `keys`,
    /// a client's key is shown on each connection, and their file is read again for it.
    #[must_use]
    pub fn new(name: &str, keys: Option<Keyring>, limit: Duration) -> Self {
        Self { name: name.to_owned(), keys, limit, last: None, is_warned: false }
    }

    /// Connects to the first address that accepts.
    ///
    /// # Errors
    /// Fails if the name cannot be looked up, or with the error of the last address: [`io::ErrorKind::PermissionDenied`] if
    /// the two sides have no common key.
    pub async fn connect(&mut self) -> io::Result<KeyedStream<TcpStream>> {
        if let Some(keys) = &self.keys {
            keys.reload();
        }
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let addresses: Vec<_> = lookup_host(&self.name).await?.collect();
        for address in in_order(addresses, self.last) {
            self.last = Some(address);
            let connecting = net::connect(address, self.limit);
            match cluster_key::connect(connecting, self.keys.as_ref(), KeyPurpose::Client).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Connector for HeadnodeAddresses {
    type Stream = KeyedStream<TcpStream>;

    async fn connect(&mut self) -> io::Result<Self::Stream> {
        let connected = Self::connect(self).await;
        // A session tries again until --wait has passed, as the keys may be about to be replaced. A person is told at once.
        if let Err(error) = &connected
            && error.kind() == io::ErrorKind::PermissionDenied
            && !self.is_warned
        {
            self.is_warned = true;
            tracing::warn!(headnode = self.name, %error, "no common key: trying again");
        }
        connected
    }
}

fn in_order(mut addresses: Vec<SocketAddr>, last: Option<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(|address| Some(*address) == last);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_was_tried_last_goes_last() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = || vec![address(1), address(2), address(3)];
        assert_eq!(in_order(addresses(), None), addresses());
        assert_eq!(in_order(addresses(), Some(address(1))), [address(2), address(3), address(1)]);
        assert_eq!(in_order(addresses(), Some(address(9))), addresses());
    }
}
