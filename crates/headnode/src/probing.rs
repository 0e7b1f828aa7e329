//! Sends probes to the multicast group and to the peers that are listed.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use protocol::store::heartbeat::{Datagram, Probe};
use service::net::Datagrams;

/// The socket that sends probes and receives answers, and where the probes go.
#[derive(Debug)]
pub struct Prober<D> {
    pub datagrams: Arc<D>,
    /// The multicast group and its port.
    pub group: SocketAddrV4,
    /// Hosts and ports that are probed by unicast too.
    pub peers: Vec<String>,
}

impl<D: Datagrams + Send + Sync + 'static> Prober<D> {
    /// Sends a probe to all datanodes.
    pub async fn probe_all(&self, probe: Probe) {
        self.datagrams.refresh();
        let datagram = Datagram::Probe(probe).encode();
        if let Err(error) = self.datagrams.multicast(&datagram, self.group).await {
            tracing::warn!(group = %self.group, %error, "cannot send the multicast probe: check --interface");
        }
        // Another task resolves the name, because a slow name server must not delay the loop.
        for peer in self.peers.clone() {
            let (datagrams, datagram) = (self.datagrams.clone(), datagram.clone());
            tokio::spawn(async move {
                if let Err(error) = send_to_all(&*datagrams, &datagram, &peer).await {
                    tracing::debug!(peer, %error, "cannot probe a peer");
                }
            });
        }
    }

    /// Sends a datagram to one address.
    pub async fn send(&self, datagram: Datagram, to: SocketAddr) {
        // A failed datagram is not repeated: the next probe replaces it.
        if let Err(error) = self.datagrams.send(&datagram.encode(), to).await {
            tracing::debug!(%to, %error, "cannot send");
        }
    }
}

/// Sends `datagram` to each IPv4 address of `peer`. One name may stand for many datanodes.
///
/// # Errors
/// Fails if `peer` has no such address, or with the last error of the network.
async fn send_to_all(datagrams: &impl Datagrams, datagram: &[u8], peer: &str) -> io::Result<()> {
    let addresses: Vec<_> = tokio::net::lookup_host(peer).await?.filter(SocketAddr::is_ipv4).collect();
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no IPv4 address"));
    }
    let mut sent = Ok(());
    for address in addresses {
        if let Err(error) = datagrams.send(datagram, address).await {
            sent = Err(error);
        }
    }
    sent
}
