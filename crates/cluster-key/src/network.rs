//! A network on which only holders of the key are heard. It wraps any [`Network`], and is one itself, so that programs need no
//! other code for it. Without a key it passes everything through, byte for byte.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use service::net::{Interface, ListenError, Network};

use crate::datagrams::KeyedDatagrams;
use crate::keyring::Keyring;
use crate::listener::{Door, KeyedListener};
use crate::sealed::DatagramSeal;
use crate::secret::KeyPurpose;
use crate::stream::{KeyedStream, connect};

/// A network with the keys of a program, if it has any.
#[derive(Debug, Clone)]
pub struct KeyedNetwork<N> {
    network: N,
    keys: Option<Keyring>,
    seal: Option<Arc<DatagramSeal>>,
    door: Door,
}

impl<N: Network> KeyedNetwork<N> {
    /// Returns `network` for the holder of `keys`. If there are keys, `run` gives a random number for this run of
    /// the program, and `door` tells who may connect to it.
    #[must_use]
    pub fn new(network: N, keys: Option<Keyring>, run: impl FnOnce() -> u128, door: Door) -> Self {
        let seal = keys.clone().map(|keys| Arc::new(DatagramSeal::new(keys, run())));
        Self { network, keys, seal, door }
    }

    fn datagrams(&self, datagrams: N::Datagrams) -> KeyedDatagrams<N::Datagrams> {
        KeyedDatagrams::new(datagrams, self.seal.clone())
    }
}

impl<N: Network> Network for KeyedNetwork<N> {
    type Stream = KeyedStream<N::Stream>;
    type Listener = KeyedListener<N::Listener>;
    type Datagrams = KeyedDatagrams<N::Datagrams>;

    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream> {
        connect(self.network.connect(address), self.keys.as_ref(), KeyPurpose::Link).await
    }

    async fn listen(&self, address: SocketAddr) -> Result<Self::Listener, ListenError> {
        let listener = self.network.listen(address).await?;
        let is_open = self.keys.is_none() || self.door.purpose.is_none();
        if is_open && !address.ip().is_loopback() {
            tracing::warn!(%address, "whoever reaches this address is served: set --key-file, or keep it inside a network that you trust");
        }
        Ok(KeyedListener::new(listener, self.keys.clone(), self.door.clone()))
    }

    async fn sender(&self, interface: &Interface) -> io::Result<Self::Datagrams> {
        self.network.sender(interface).await.map(|datagrams| self.datagrams(datagrams))
    }

    async fn member(&self, group: SocketAddrV4, interface: &Interface) -> io::Result<Self::Datagrams> {
        self.network.member(group, interface).await.map(|datagrams| self.datagrams(datagrams))
    }

    fn local_address_towards(&self, peer: SocketAddr) -> io::Result<Ipv4Addr> {
        self.network.local_address_towards(peer)
    }
}
