//! Answers the headnode's probes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use protocol::store::heartbeat::{Datagram, MAX_DATAGRAM_BYTES, NameRefused, Probe, ProbeAnswer};
use rand::RngExt as _;
use rand::rngs::StdRng;
use service::net::{Datagrams, Network};
use tokio::time::{Instant, sleep_until};

use crate::Identity;
use crate::store::Store;

/// How often new network interfaces are looked for.
const REFRESH: Duration = Duration::from_secs(1);
/// Answers that wait for their time; further probes are answered at once.
const MAX_WAITING: usize = 64;
/// The longest wait that a probe can ask for.
const MAX_SPREAD: Duration = Duration::from_secs(10);
/// For how long nothing is received after the network refused to.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Answerer<N: Network> {
    /// Receives what is sent to the group.
    pub member: N::Datagrams,
    /// Answers, and receives what is meant for this datanode alone: others on this host share the group's port.
    pub own: N::Datagrams,
    pub network: N,
    pub identity: Arc<Identity>,
    pub listen: SocketAddr,
    pub advertise: Option<SocketAddr>,
    pub store: Arc<Store>,
    pub folder: PathBuf,
    pub rng: StdRng,
}

/// An answer that waits for its time.
struct Waiting {
    due: Instant,
    probe: Probe,
    to: SocketAddr,
}

impl<N: Network> Answerer<N> {
    /// Answers for ever.
    pub async fn run(mut self) {
        // One byte more than allowed, to notice what is too long.
        let mut to_all = [0; MAX_DATAGRAM_BYTES + 1];
        let mut to_this = to_all;
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut junk = 0u64;
        let mut refresh = Instant::now() + REFRESH;
        loop {
            let due = waiting.iter().map(|answer| answer.due).min().unwrap_or(refresh);
            let (received, buffer) = tokio::select! {
                // Before receiving: a flood of datagrams must not hold up the answers.
                biased;
                () = sleep_until(due.min(refresh)) => {
                    let now = Instant::now();
                    for answer in waiting.extract_if(.., |answer| answer.due <= now).collect::<Vec<_>>() {
                        self.answer(answer.probe, answer.to).await;
                    }
                    if refresh <= now {
                        self.member.refresh();
                        refresh = now + REFRESH;
                    }
                    continue;
                }
                received = self.own.receive(&mut to_this) => (received, &to_this),
                received = self.member.receive(&mut to_all) => (received, &to_all),
            };
            match received.map(|(length, from)| (Datagram::decode(&buffer[..length]), from)) {
                Ok((Ok(Datagram::Probe(probe)), from)) => self.take(probe, from, &mut waiting).await,
                Ok((Ok(Datagram::Refused(refused)), _)) => self.report(&refused),
                Ok((_, from)) => {
                    junk += 1;
                    if junk.is_power_of_two() {
                        tracing::warn!(%from, junk, "datagrams that are no probe: dropped");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot receive");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn take(&mut self, probe: Probe, from: SocketAddr, waiting: &mut Vec<Waiting>) {
        let spread = Duration::from_millis(probe.spread_ms).min(MAX_SPREAD);
        if spread.is_zero() || waiting.len() >= MAX_WAITING {
            return self.answer(probe, from).await;
        }
        let due = Instant::now() + spread.mul_f64(self.rng.random());
        waiting.push(Waiting { due, probe, to: from });
    }

    async fn answer(&self, probe: Probe, to: SocketAddr) {
        let answer = Datagram::Answer(ProbeAnswer {
            round: probe.round,
            token: probe.token,
            attempt: probe.attempt,
            name: self.identity.name.clone(),
            incarnation: self.identity.incarnation,
            address: self.address_for(to),
            records: self.store.records(),
            free_bytes: self.free_bytes(),
        });
        // The next probe tries again.
        if let Err(error) = self.own.send(&answer.encode(), to).await {
            tracing::debug!(%to, %error, "cannot answer a probe");
        }
    }

    /// Where the headnode can connect to.
    fn address_for(&self, headnode: SocketAddr) -> SocketAddr {
        if let Some(address) = self.advertise {
            return address;
        }
        if !self.listen.ip().is_unspecified() {
            return self.listen;
        }
        // The address may change while the program runs: a container can be connected to its network again.
        let ip = self.network.local_address_towards(headnode);
        SocketAddr::new(ip.map_or(self.listen.ip(), Into::into), self.listen.port())
    }

    fn free_bytes(&self) -> u64 {
        // On a system where these are not 64-bit numbers, they are smaller.
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        statvfs(&self.folder)
            .map_or(0, |disk| u64::from(disk.blocks_available()) * u64::from(disk.fragment_size()))
    }

    fn report(&self, refused: &NameRefused) {
        if refused.incarnation == self.identity.incarnation {
            tracing::error!(name = %refused.name, reason = refused.reason, "the headnode refuses this datanode");
        }
    }
}
