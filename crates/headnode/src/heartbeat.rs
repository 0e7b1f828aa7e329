//! The heartbeat's loop, which alone owns the membership and the links to datanodes.
//!
//! Its inputs are datagrams, time, events of links, and questions about the status. Its outputs are datagrams, links,
//! `hearbeat_server.txt`, and the [`DatanodeTable`] that placement reads.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use journal::{JournalFile, WriteFailure};
use protocol::store::heartbeat::{Datagram, MAX_DATAGRAM_BYTES, Probe};
use protocol::store::types::{NodeName, NodeState};
use rand::RngExt as _;
use rand::rngs::StdRng;
use service::net::{Datagrams, Network};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::datanode_table::DatanodeTable;
use crate::heartbeat_file::{round_lines, state_word};
use crate::link::{Link, LinkContext, LinkEvent};
use crate::membership::{Membership, MembershipAction, RoundReport, SILENT_ROUNDS};

/// How many events of links, and how many questions, may wait for the loop.
const QUEUED_EVENTS: usize = 1024;
/// After this many events a new table is published, even if further events wait.
const EVENTS_PER_TABLE: u32 = 256;
/// Pause after the network reported an error on receiving.
const PAUSE: Duration = Duration::from_millis(100);

/// The state of the heartbeat's loop.
pub struct HeartbeatLoop<N: Network> {
    membership: Membership,
    /// The link to each datanode that answers, connected or not.
    links: HashMap<NodeName, Arc<Link>>,
    /// The moment from which `membership` counts its times.
    start: Instant,
    rng: StdRng,
    datagrams: Arc<N::Datagrams>,
    group: SocketAddrV4,
    peers: Vec<String>,
    file: JournalFile,
    link_context: Arc<LinkContext<N>>,
    inbox: Inbox,
    table: watch::Sender<DatanodeTable>,
    names: watch::Sender<Arc<[NodeName]>>,
    /// The number of datagrams that were dropped.
    junk: u64,
}

/// The loop's ends of the channels from the rest of the program.
pub struct Inbox {
    events: mpsc::Receiver<LinkEvent>,
    questions: mpsc::Receiver<StatusQuestion>,
    table: watch::Sender<DatanodeTable>,
    names: watch::Sender<Arc<[NodeName]>>,
}

/// The other ends of the channels, for the rest of the program.
pub struct Outlets {
    /// Links report their events here.
    pub events: mpsc::Sender<LinkEvent>,
    /// The names of all datanodes that were ever known, in the order in which they became known. Links read them here.
    pub names: watch::Receiver<Arc<[NodeName]>>,
    /// The part that placement uses.
    pub cluster: ClusterView,
}

/// The view of the cluster that placement and clients use.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// The datanodes to which messages can be sent.
    pub table: watch::Receiver<DatanodeTable>,
    questions: mpsc::Sender<StatusQuestion>,
}

type StatusQuestion = oneshot::Sender<ClusterStatus>;

/// The state of the datanodes at one moment.
#[derive(Debug, Clone, Default)]
pub struct ClusterStatus {
    /// The present probe round, from 1.
    pub round: u64,
    /// All datanodes that were ever known, by name.
    pub datanodes: Vec<DatanodeStatus>,
}

/// The state of one datanode at one moment.
#[derive(Debug, Clone)]
pub struct DatanodeStatus {
    pub name: NodeName,
    /// Whether the datanode answers, and whether messages can be sent to it.
    pub state: NodeState,
    /// The last answer of the datanode, or `None` if it has not answered since the headnode started.
    pub last_answer: Option<LastAnswer>,
}

/// The last answer of a datanode.
#[derive(Debug, Clone)]
pub struct LastAnswer {
    /// When the answer arrived.
    pub time: DateTime<Utc>,
    /// The time from the probe to the answer.
    pub round_trip: Duration,
    /// The address on which the datanode stores.
    pub address: SocketAddr,
    /// The number of records that the datanode held.
    pub records: u64,
    /// The free space for the datanode, in bytes.
    pub free_bytes: u64,
}

impl ClusterView {
    /// Asks the loop for the status. Returns an empty status if the loop has ended.
    pub async fn status(&self) -> ClusterStatus {
        let (question, answer) = oneshot::channel();
        // If the loop has ended, receiving the answer fails too.
        let _ = self.questions.send(question).await;
        answer.await.unwrap_or_default()
    }
}

/// Returns the two ends of the channels between the loop and the rest of the program.
pub fn channels() -> (Inbox, Outlets) {
    let (events, events_in) = mpsc::channel(QUEUED_EVENTS);
    let (questions, questions_in) = mpsc::channel(QUEUED_EVENTS);
    let (table, names) = (watch::Sender::default(), watch::Sender::new(Arc::from([])));
    let outlets = Outlets {
        events,
        names: names.subscribe(),
        cluster: ClusterView { table: table.subscribe(), questions },
    };
    (Inbox { events: events_in, questions: questions_in, table, names }, outlets)
}

/// What the loop needs from outside: the network and the file.
pub struct HeartbeatSurroundings<N: Network> {
    /// The socket that sends probes and receives answers.
    pub datagrams: N::Datagrams,
    /// The multicast group and its port.
    pub group: SocketAddrV4,
    /// Hosts and ports that are probed by unicast too.
    pub peers: Vec<String>,
    /// `hearbeat_server.txt`.
    pub file: JournalFile,
}

/// An event that wakes the loop.
enum Wake {
    Tick,
    Event(LinkEvent),
    Question(StatusQuestion),
    Datagram(io::Result<(usize, SocketAddr)>),
    /// Nothing else waits, so changes can be published.
    Quiet,
}

impl<N: Network> HeartbeatLoop<N> {
    /// Returns the loop without starting it. Its links use `link_context`.
    pub fn new(
        membership: Membership,
        rng: StdRng,
        surroundings: HeartbeatSurroundings<N>,
        link_context: Arc<LinkContext<N>>,
        inbox: Inbox,
    ) -> Self {
        let HeartbeatSurroundings { datagrams, group, peers, file } = surroundings;
        Self {
            membership,
            links: HashMap::new(),
            start: Instant::now(),
            rng,
            datagrams: Arc::new(datagrams),
            group,
            peers,
            file,
            link_context,
            table: inbox.table.clone(),
            names: inbox.names.clone(),
            inbox,
            junk: 0,
        }
    }

    /// Runs for ever, or until `hearbeat_server.txt` fails.
    pub async fn run(mut self) -> WriteFailure {
        // The buffer has one byte more than allowed, so that a datagram that is too long is noticed.
        let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
        let mut due = self.next_tick();
        // The timer is moved only when the next tick changes, because setting a timer for each datagram costs a system
        // call.
        let timer = sleep_until(due);
        tokio::pin!(timer);
        let mut unpublished = 0;
        self.publish();
        loop {
            let wake = tokio::select! {
                // The timer comes before receiving, so that a flood of datagrams cannot delay the rounds.
                biased;
                () = &mut timer => Wake::Tick,
                () = std::future::ready(()), if unpublished >= EVENTS_PER_TABLE => Wake::Quiet,
                Some(event) = self.inbox.events.recv() => Wake::Event(event),
                Some(question) = self.inbox.questions.recv() => Wake::Question(question),
                received = self.datagrams.receive(&mut buffer) => Wake::Datagram(received),
                () = std::future::ready(()), if unpublished > 0 => Wake::Quiet,
            };
            let actions = match wake {
                Wake::Tick => self.membership.tick(self.now(), self.rng.random()),
                Wake::Event(event) => self.note(event),
                Wake::Question(question) => {
                    // A client that has disconnected needs no answer.
                    let _ = question.send(self.status());
                    continue;
                }
                Wake::Datagram(Ok((length, from))) => self.answered(&buffer[..length], from),
                Wake::Datagram(Err(error)) => {
                    tracing::debug!(%error, "cannot receive");
                    tokio::time::sleep(PAUSE).await;
                    Vec::new()
                }
                Wake::Quiet => {
                    self.publish();
                    unpublished = 0;
                    continue;
                }
            };
            for action in actions {
                if let Err(failure) = self.act(action).await {
                    return failure;
                }
            }
            if unpublished > 0 || self.has_news() {
                unpublished += 1;
            }
            let next = self.next_tick();
            if next != due {
                due = next;
                timer.as_mut().reset(due);
            }
        }
    }

    fn now(&self) -> Duration {
        Instant::now().duration_since(self.start)
    }

    fn next_tick(&self) -> Instant {
        self.start + self.membership.next_tick()
    }

    /// Returns whether something has changed that other tasks read.
    fn has_news(&self) -> bool {
        self.membership.has_changed() || self.membership.names().len() != self.names.borrow().len()
    }

    fn publish(&mut self) {
        if self.membership.names().len() != self.names.borrow().len() {
            self.names.send_replace(self.membership.names().into());
        }
        if self.membership.clear_changed() {
            let available = self.membership.nodes().filter(|(_, node)| node.state() == NodeState::Available);
            let links = available.filter_map(|(name, _)| self.links.get(name).cloned());
            self.table.send_replace(links.collect());
        }
    }

    fn note(&mut self, event: LinkEvent) -> Vec<MembershipAction> {
        match event {
            LinkEvent::Connected(name, incarnation) => self.membership.mark_connected(&name, incarnation),
            LinkEvent::Disconnected(name, incarnation) => {
                self.membership.mark_disconnected(&name, incarnation);
            }
            LinkEvent::NamesLearnt(names) => {
                for name in names {
                    self.membership.remember(&name);
                }
            }
        }
        Vec::new()
    }

    fn status(&self) -> ClusterStatus {
        let (now, wall_clock) = (self.now(), Utc::now());
        let answered = self.membership.nodes().map(|(name, node)| DatanodeStatus {
            name: name.clone(),
            state: node.state(),
            last_answer: Some(LastAnswer {
                time: wall_clock - now.saturating_sub(node.last_answer),
                round_trip: node.round_trip,
                address: node.address,
                records: node.records,
                free_bytes: node.free_bytes,
            }),
        });
        let absent = self.membership.absent().map(|name| DatanodeStatus {
            name: name.clone(),
            state: NodeState::NotOperative,
            last_answer: None,
        });
        let mut datanodes: Vec<_> = answered.chain(absent).collect();
        datanodes.sort_by(|one, other| one.name.cmp(&other.name));
        ClusterStatus { round: self.membership.round(), datanodes }
    }

    fn answered(&mut self, bytes: &[u8], from: SocketAddr) -> Vec<MembershipAction> {
        let now = self.now();
        let outcome = match Datagram::decode(bytes) {
            Ok(Datagram::Answer(answer)) => self.membership.answered(now, from, &answer).ok(),
            _ => None,
        };
        outcome.unwrap_or_else(|| {
            self.junk += 1;
            if self.junk.is_power_of_two() {
                tracing::warn!(%from, junk = self.junk, "datagrams that are no answer, or to no probe of this round: dropped");
            }
            Vec::new()
        })
    }

    async fn act(&mut self, action: MembershipAction) -> Result<(), WriteFailure> {
        match action {
            MembershipAction::ProbeAll(probe) => self.probe_all(probe).await,
            MembershipAction::ProbeOne(address, probe) => self.send(Datagram::Probe(probe), address).await,
            MembershipAction::Refuse(address, refused) => {
                tracing::error!(%address, reason = refused.reason, "datanode refused");
                self.send(Datagram::Refused(refused), address).await;
            }
            MembershipAction::Connect(name, incarnation, address) => {
                self.link_context.registry.expect(&name);
                let link = Arc::new(Link::new(name.clone(), incarnation, address));
                if let Some(old) = self.links.insert(name, link.clone()) {
                    old.give_up();
                }
                tokio::spawn(link.run(self.link_context.clone()));
            }
            MembershipAction::Disconnect(name) => {
                if let Some(link) = self.links.remove(&name) {
                    link.give_up();
                }
            }
            MembershipAction::Report(round) => {
                self.report(&round)?;
                self.link_context.registry.note_completeness();
                for link in self.links.values() {
                    link.send_names(self.membership.names());
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, datagram: Datagram, to: SocketAddr) {
        // A failed datagram is not repeated: the next probe replaces it.
        if let Err(error) = self.datagrams.send(&datagram.encode(), to).await {
            tracing::debug!(%to, %error, "cannot send");
        }
    }

    async fn probe_all(&mut self, probe: Probe) {
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

    fn report(&mut self, round: &RoundReport) -> Result<(), WriteFailure> {
        for node in round.nodes.iter().filter(|node| node.changed) {
            let state = state_word(node.round_trip.is_some());
            let address = node.address.map(tracing::field::display);
            tracing::info!(datanode = %node.name, address, round = round.number, "{state}");
        }
        if round.silent == SILENT_ROUNDS {
            tracing::warn!(
                group = %self.group,
                "no datanode has answered in {SILENT_ROUNDS} rounds: check that datanodes run, that --group is the same everywhere, \
                 and that the network carries multicast (--interface); where it does not, list the datanodes with --peers"
            );
        }
        let lines = round_lines(round, Utc::now());
        match self.file.write(lines.as_bytes()) {
            Err(error @ WriteFailure::NoSpace(_)) => {
                tracing::error!(%error, "this round is not in hearbeat_server.txt");
                Ok(())
            }
            outcome => outcome.map(|_| ()),
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

impl<N: Network> Drop for HeartbeatLoop<N> {
    /// Ends all links, because nothing owns them any more.
    fn drop(&mut self) {
        for link in self.links.values() {
            link.give_up();
        }
    }
}
