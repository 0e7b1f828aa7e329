//! Answers the headnode's probes on its own thread, so that a slow disk delays no answer.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use journal::Disk;
use nix::sys::statvfs::statvfs;
use page::latency::LatencyWindow;
use protocol::store::heartbeat::{
    Datagram, LeaderReport, MAX_DATAGRAM_BYTES, NameRefused, Probe, ProbeAnswer, SyncTimes,
};
use protocol::store::types::Epoch;
use rand::RngExt as _;
use rand::rngs::StdRng;
use service::Environment;
use service::net::{Datagrams, Interface, Network};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::DropGuard;

use crate::claim::CurrentClaim;
use crate::identity::DatanodeIdentity;

/// Time between two searches for new network interfaces.
const REFRESH: Duration = Duration::from_secs(1);
/// How many answers may wait for their time. Further probes are answered at once.
const MAX_WAITING: usize = 64;
/// The longest time over which a probe can spread answers.
const MAX_SPREAD: Duration = Duration::from_secs(10);
/// Pause after the network reported an error on receiving.
const PAUSE: Duration = Duration::from_millis(100);

/// The content of the answers, and the sockets that send them.
pub struct AnswererConfig {
    pub identity: Arc<DatanodeIdentity>,
    pub group: SocketAddrV4,
    pub interface: Interface,
    /// The address on which the datanode listens for the headnode.
    pub listen: SocketAddr,
    pub advertise: Option<SocketAddr>,
    /// The number of records that the datanode holds.
    pub records: watch::Receiver<u64>,
    /// Which headnode may store.
    pub claim: watch::Receiver<CurrentClaim>,
    /// How many numbers no readable record has.
    pub unreadable: watch::Receiver<u64>,
    /// A folder on the disk whose free space is reported.
    pub folder: PathBuf,
    /// How long the last syncs of `data.txt` took.
    pub syncs: LatencyWindow,
    pub rng: StdRng,
}

/// Joins the multicast group, and answers probes until the guard is dropped.
///
/// # Errors
/// Fails if the group cannot be joined, or if the operating system refuses a socket or thread.
pub async fn start<N: Network>(
    environment: &Environment<N, Disk>,
    config: AnswererConfig,
) -> anyhow::Result<DropGuard> {
    let (opened, outcome) = oneshot::channel();
    let network = environment.network.clone();
    let guard = environment.run_beside("heartbeat", async move {
        match Answerer::open(network, config).await {
            Ok(answerer) => {
                // The caller may have ended already, and then needs no result.
                let _ = opened.send(Ok(()));
                answerer.run().await;
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        }
    })?;
    outcome.await.context("the heartbeat's thread ended")??;
    Ok(guard)
}

struct Answerer<N: Network> {
    config: AnswererConfig,
    network: N,
    /// Receives what is sent to the group.
    member: N::Datagrams,
    /// Sends the answers, and receives what is sent to this datanode alone. Other datanodes on this host share the
    /// group's port.
    own: N::Datagrams,
    /// The last round of a headnode that leads.
    round: u64,
    /// The last probe of a headnode that leads.
    led: Option<(Epoch, Instant)>,
}

/// An answer that waits for its time.
struct DueAnswer {
    due: Instant,
    probe: Probe,
    to: SocketAddr,
}

impl<N: Network> Answerer<N> {
    async fn open(network: N, config: AnswererConfig) -> anyhow::Result<Self> {
        let AnswererConfig { group, interface, .. } = &config;
        let member = network.member(*group, interface).await.with_context(|| {
            format!("cannot join the multicast group {group}: check --group and --interface")
        })?;
        let own = network.sender(interface).await.context("cannot open a socket to answer")?;
        Ok(Self { config, network, member, own, round: 0, led: None })
    }

    /// Answers probes for ever.
    async fn run(mut self) {
        // The buffer has one byte more than allowed, so that a datagram that is too long is noticed.
        let mut to_all = [0; MAX_DATAGRAM_BYTES + 1];
        let mut to_this = to_all;
        let mut waiting: Vec<DueAnswer> = Vec::new();
        let mut junk = 0u64;
        let mut refresh = Instant::now() + REFRESH;
        loop {
            let due = waiting.iter().map(|answer| answer.due).min().unwrap_or(refresh);
            let (received, buffer) = tokio::select! {
                // The timer comes before receiving, so that a flood of datagrams cannot delay the answers.
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
                Ok((Ok(Datagram::Probe(probe)), from)) => {
                    self.answer_in_time(probe, from, &mut waiting).await;
                }
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

    async fn answer_in_time(&mut self, probe: Probe, from: SocketAddr, waiting: &mut Vec<DueAnswer>) {
        if let Some(epoch) = probe.epoch {
            self.led = Some((epoch, Instant::now()));
        }
        let spread = Duration::from_millis(probe.spread_ms).min(MAX_SPREAD);
        if spread.is_zero() || waiting.len() >= MAX_WAITING {
            return self.answer(probe, from).await;
        }
        let due = Instant::now() + spread.mul_f64(self.config.rng.random());
        waiting.push(DueAnswer { due, probe, to: from });
    }

    async fn answer(&mut self, probe: Probe, to: SocketAddr) {
        // A headnode that stands by asks as round 0.
        if probe.round != self.round && probe.round > 0 {
            self.round = probe.round;
            self.config.syncs.roll();
        }
        let answer = Datagram::Answer(ProbeAnswer {
            round: probe.round,
            token: probe.token,
            attempt: probe.attempt,
            name: self.config.identity.name.clone(),
            incarnation: self.config.identity.incarnation,
            address: self.address_for(to),
            records: *self.config.records.borrow(),
            free_bytes: self.free_bytes(),
            sync: self.sync_times(),
            leader: self.leader(),
            unreadable: *self.config.unreadable.borrow(),
        });
        // A failed answer is not repeated: the headnode probes again.
        if let Err(error) = self.own.send(&answer.encode(), to).await {
            tracing::debug!(%to, %error, "cannot answer a probe");
        }
    }

    /// Returns the address that the headnode can connect to.
    fn address_for(&self, headnode: SocketAddr) -> SocketAddr {
        if let Some(address) = self.config.advertise {
            return address;
        }
        if !self.config.listen.ip().is_unspecified() {
            return self.config.listen;
        }
        // The address may change while the program runs, because a container can be connected to its network again.
        let ip = self.network.local_address_towards(headnode);
        SocketAddr::new(ip.map_or(self.config.listen.ip(), Into::into), self.config.listen.port())
    }

    /// Returns what is known of the headnode that may store here.
    fn leader(&self) -> Option<LeaderReport> {
        let CurrentClaim { epoch, since, closed, .. } = *self.config.claim.borrow();
        let epoch = epoch?;
        let probed = self.led.filter(|(of, _)| *of == epoch).map(|(_, at)| at);
        let silent = probed.map_or(since, |at| at.max(since)).elapsed();
        Some(LeaderReport { epoch, closed, silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Returns how long the syncs of the last rounds took.
    fn sync_times(&self) -> Option<SyncTimes> {
        let recent = self.config.syncs.recent();
        Some(SyncTimes { p50_us: recent.quantile(0.5)?, p99_us: recent.quantile(0.99)? })
    }

    fn free_bytes(&self) -> u64 {
        // On systems where these numbers do not have 64 bits, they have fewer.
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        statvfs(&self.config.folder)
            .map_or(0, |disk| u64::from(disk.blocks_available()) * u64::from(disk.fragment_size()))
    }

    fn report(&self, refused: &NameRefused) {
        if refused.incarnation == self.config.identity.incarnation {
            tracing::error!(name = %refused.name, reason = refused.reason, "the headnode refuses this datanode");
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::store::types::Incarnation;
    use rand::SeedableRng as _;
    use service::net::{LocalGroup, Sockets};

    use super::*;
    use crate::claim::ClaimChannel;

    fn config(group: SocketAddrV4, records: watch::Receiver<u64>) -> AnswererConfig {
        AnswererConfig {
            identity: Arc::new(DatanodeIdentity {
                name: "datanode1".parse().unwrap(),
                incarnation: Incarnation::from_parts(1, 2),
            }),
            group,
            interface: "127.0.0.1".parse().unwrap(),
            listen: "127.0.0.1:5001".parse().unwrap(),
            advertise: None,
            unreadable: records.clone(),
            records,
            claim: ClaimChannel::new(None).watch(),
            folder: PathBuf::from("."),
            syncs: LatencyWindow::new(page::latency::Latency::default()),
            rng: StdRng::seed_from_u64(1),
        }
    }

    /// Sends a probe and returns the answer.
    async fn probe(group: SocketAddrV4) -> ProbeAnswer {
        let socket = Sockets.sender(&"127.0.0.1".parse().unwrap()).await.unwrap();
        let probe = Datagram::Probe(Probe { round: 7, token: 81, attempt: 1, spread_ms: 0, epoch: None });
        socket.multicast(&probe.encode(), group).await.unwrap();
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let (length, _) = socket.receive(&mut buffer).await.unwrap();
        match Datagram::decode(&buffer[..length]) {
            Ok(Datagram::Answer(answer)) => answer,
            other => panic!("not an answer: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_datanode_that_waits_for_its_disk_answers() {
        let group = LocalGroup::reserve().unwrap();
        let records = watch::Sender::new(12);
        let environment: Environment<_, Disk> = Environment::real(1);
        let _answering = start(&environment, config(group.address, records.subscribe())).await.unwrap();
        let address = group.address;
        let prober = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(probe(address))
        });
        // This thread is blocked until the answer arrives, as it is during a sync of `data.txt`.
        let answer = prober.join().unwrap();
        assert_eq!((answer.token, answer.records), (81, 12));
    }
}
