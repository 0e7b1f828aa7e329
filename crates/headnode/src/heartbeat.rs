//! The heartbeat's loop, which alone owns the membership and the links to datanodes.
//!
//! Its inputs are datagrams, time, events of links, and questions about the status. Its outputs are datagrams, links,
//! `hearbeat_server.txt`, and the [`DatanodeTable`] that placement reads.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use journal::{JournalFile, WriteFailure};
use page::history::Ring;
use protocol::store::heartbeat::{Datagram, MAX_DATAGRAM_BYTES, Probe};
use protocol::store::types::{NodeName, NodeState, UnavailableCause};
use rand::RngExt as _;
use rand::rngs::StdRng;
use service::WallClock;
use service::net::{Datagrams, Network};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cluster_event::TimedEvent;
use crate::cluster_view::{
    ClusterStatus, ClusterView, DatanodeStatus, LastAnswer, StatusQuestion, WantedEvents,
};
use crate::datanode_table::DatanodeTable;
use crate::heartbeat_file::{round_lines, state_word};
use crate::lead::LeadEnd;
use crate::link::{Link, LinkContext, LinkEvent};
use crate::membership::{Membership, MembershipAction, RoundReport, SILENT_ROUNDS};
use crate::metrics::HeadnodeMetrics;
use crate::probing::Prober;
use crate::standby::SILENT_INTERVALS;

/// How many events of links, and how many questions, may wait for the loop.
const QUEUED_EVENTS: usize = 1024;
/// How many of the last events of datanodes are kept.
pub const TIMELINE: usize = 256;
/// After this many events a new table is published, even if further events wait.
const EVENTS_PER_TABLE: u32 = 256;
/// Pause after the network reported an error on receiving.
const PAUSE: Duration = Duration::from_millis(100);

/// The state of the heartbeat's loop.
pub struct HeartbeatLoop<N: Network> {
    membership: Membership,
    /// The link to each datanode that answers, connected or not. Links are in the order of their names, so that a
    /// simulation can be repeated.
    links: BTreeMap<NodeName, Arc<Link>>,
    /// The moment from which `membership` counts its times.
    start: Instant,
    rng: StdRng,
    prober: Arc<Prober<N::Datagrams>>,
    clock: WallClock,
    file: JournalFile,
    needed: Option<usize>,
    /// The number of rounds in a row that fewer than `needed` datanodes have answered.
    isolated: u64,
    link_context: Arc<LinkContext<N>>,
    inbox: Inbox,
    table: watch::Sender<DatanodeTable>,
    names: watch::Sender<Arc<[NodeName]>>,
    timeline: Ring<TimedEvent>,
    metrics: HeadnodeMetrics,
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

/// Returns the two ends of the channels between the loop and the rest of the program.
pub fn channels() -> (Inbox, Outlets) {
    let (events, events_in) = mpsc::channel(QUEUED_EVENTS);
    let (questions, questions_in) = mpsc::channel(QUEUED_EVENTS);
    let (table, names) = (watch::Sender::default(), watch::Sender::new(Arc::from([])));
    let cluster = ClusterView { table: table.subscribe(), questions, reports: events.clone() };
    let outlets = Outlets { events, names: names.subscribe(), cluster };
    (Inbox { events: events_in, questions: questions_in, table, names }, outlets)
}

/// What the loop needs from outside: the network, the date and the file.
pub struct HeartbeatSurroundings<N: Network> {
    /// Sends probes, and receives answers.
    pub prober: Arc<Prober<N::Datagrams>>,
    /// Tells the dates in the file.
    pub clock: WallClock,
    /// `hearbeat_server.txt`.
    pub file: JournalFile,
    /// If fewer datanodes answer for several rounds, the lead ends. `None` means that there is no second headnode.
    pub needed: Option<usize>,
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
        let metrics = link_context.metrics.clone();
        let HeartbeatSurroundings { prober, clock, file, needed } = surroundings;
        Self {
            membership,
            links: BTreeMap::new(),
            start: Instant::now(),
            rng,
            prober,
            clock,
            file,
            needed,
            isolated: 0,
            link_context,
            table: inbox.table.clone(),
            names: inbox.names.clone(),
            inbox,
            timeline: Ring::new(TIMELINE),
            metrics,
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
                received = self.prober.datagrams.receive(&mut buffer) => Wake::Datagram(received),
                () = std::future::ready(()), if unpublished > 0 => Wake::Quiet,
            };
            let actions = match wake {
                Wake::Tick => {
                    self.look_at_links();
                    self.membership.tick(self.now(), self.rng.random())
                }
                Wake::Event(event) => self.note(event),
                Wake::Question(question) => {
                    // A client that has disconnected needs no answer.
                    let _ = question.answer.send(self.status(question.events));
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
            self.keep_events();
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

    /// Tells membership which of the datanodes that have not answered in this round have replied on their links since it began.
    fn look_at_links(&mut self) {
        let begun = self.start + self.membership.round_begun();
        for name in self.membership.silent() {
            let Some(link) = self.links.get(&name) else { continue };
            if link.last_reply().is_some_and(|reply| reply >= begun) {
                self.membership.note_reply(&name, link.incarnation);
            }
        }
    }

    fn note(&mut self, event: LinkEvent) -> Vec<MembershipAction> {
        match event {
            LinkEvent::Connected { name, incarnation, reconciled, lost } => {
                self.membership.mark_connected(&name, incarnation, reconciled, lost);
            }
            LinkEvent::Disconnected(name, incarnation, cause) => {
                self.membership.mark_disconnected(&name, incarnation, cause);
            }
            LinkEvent::Full(name) => self.membership.mark_full(&name),
            LinkEvent::Forgotten(name) => self.membership.forget(&[name]),
            LinkEvent::NamesLearnt(names) => {
                for name in names {
                    self.membership.remember(&name);
                }
            }
        }
        Vec::new()
    }

    /// Moves what has happened to datanodes into the timeline.
    fn keep_events(&mut self) {
        for event in self.membership.take_events() {
            self.timeline.push(TimedEvent { time: self.clock.now(), event });
        }
    }

    fn status(&self, events: WantedEvents) -> ClusterStatus {
        let (now, wall_clock) = (self.now(), self.clock.now());
        let answered = self.membership.nodes().map(|(name, node)| DatanodeStatus {
            name: name.clone(),
            state: node.state(),
            cause: node.cause(),
            last_answer: Some(LastAnswer {
                time: wall_clock - now.saturating_sub(node.last_answer),
                round: node.last_round,
                attempt: node.attempt,
                round_trip: node.round_trip,
                address: node.address,
                records: node.records,
                free_bytes: node.free_bytes,
                unreadable: node.unreadable,
                sync: node.sync,
            }),
        });
        let absent = self.membership.absent().map(|name| DatanodeStatus {
            name: name.clone(),
            state: NodeState::NotOperative,
            cause: Some(UnavailableCause::NoAnswer),
            last_answer: None,
        });
        let mut datanodes: Vec<_> = answered.chain(absent).collect();
        datanodes.sort_by(|one, other| one.name.cmp(&other.name));
        let (last_probe, attempts) = self.membership.probes();
        let newest = self.timeline.newest(events.newest).filter(|(number, _)| *number > events.since);
        ClusterStatus {
            round: self.membership.round(),
            attempts,
            probe_age: now.saturating_sub(last_probe),
            silent_rounds: self.membership.silent_rounds(),
            datanodes,
            last_event: self.timeline.last(),
            events: newest.map(|(number, event)| (number, event.clone())).collect(),
        }
    }

    fn answered(&mut self, bytes: &[u8], from: SocketAddr) -> Vec<MembershipAction> {
        let now = self.now();
        let outcome = match Datagram::decode(bytes) {
            Ok(Datagram::Answer(answer)) => {
                let actions = self.membership.answered(now, from, &answer).ok();
                if let (Some(_), Some(leader)) = (&actions, answer.leader) {
                    self.link_context.lead.hears(leader.epoch);
                }
                actions
            }
            _ => None,
        };
        outcome.unwrap_or_else(|| {
            self.junk += 1;
            self.metrics.dropped_datagrams.inc();
            if self.junk.is_power_of_two() {
                tracing::warn!(%from, junk = self.junk, "datagrams that are no answer, or to no probe of this round: dropped");
            }
            Vec::new()
        })
    }

    async fn act(&mut self, action: MembershipAction) -> Result<(), WriteFailure> {
        match action {
            MembershipAction::ProbeAll(probe) => self.prober.probe_all(self.of_leader(probe)).await,
            MembershipAction::ProbeOne(address, probe) => {
                self.prober.send(Datagram::Probe(self.of_leader(probe)), address).await;
            }
            MembershipAction::Ping(name) => {
                if let Some(link) = self.links.get(&name) {
                    link.ping();
                }
            }
            MembershipAction::Refuse(address, refused) => {
                tracing::error!(%address, reason = refused.reason, "datanode refused");
                self.prober.send(Datagram::Refused(refused), address).await;
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
                self.look_for_isolation(&round);
                self.link_context.registry.note_completeness();
                for name in self.link_context.registry.take_behind() {
                    if let Some(link) = self.links.get(&name) {
                        link.compare_again();
                    }
                }
                for link in self.links.values() {
                    link.send_names(self.membership.names());
                }
            }
        }
        Ok(())
    }

    /// Adds the epoch, so that datanodes know that the leader lives.
    fn of_leader(&self, probe: Probe) -> Probe {
        Probe { epoch: Some(self.link_context.lead.epoch), ..probe }
    }

    /// Ends the lead if another headnode may have taken over because this one reaches too few datanodes.
    fn look_for_isolation(&mut self, round: &RoundReport) {
        let Some(needed) = self.needed else { return };
        self.isolated = if round.answered < needed { self.isolated + 1 } else { 0 };
        if self.isolated >= u64::from(SILENT_INTERVALS) {
            self.link_context.lead.ends(LeadEnd::Isolated);
        }
    }

    fn report(&mut self, round: &RoundReport) -> Result<(), WriteFailure> {
        for node in round.nodes.iter().filter(|node| node.changed) {
            let state = state_word(node.is_operative);
            let address = node.address.map(tracing::field::display);
            tracing::info!(datanode = %node.name, address, round = round.number, "{state}");
        }
        for node in round.nodes.iter().filter(|node| node.is_operative && node.round_trip.is_none()) {
            tracing::info!(datanode = %node.name, round = round.number, "answered no probe, and replies on its link");
        }
        if round.silent == SILENT_ROUNDS {
            tracing::warn!(
                group = %self.prober.group,
                "no datanode has answered in {SILENT_ROUNDS} rounds: check that datanodes run, that --group is the same everywhere, \
                 and that the network carries multicast (--interface); where it does not, list the datanodes with --peers"
            );
        }
        let lines = round_lines(round, self.clock.now());
        match self.file.write(lines.as_bytes()) {
            Err(error @ WriteFailure::NoSpace(_)) => {
                tracing::error!(%error, "this round is not in hearbeat_server.txt");
                Ok(())
            }
            outcome => outcome.map(|_| ()),
        }
    }
}

impl<N: Network> Drop for HeartbeatLoop<N> {
    /// Ends all links, because nothing owns them any more.
    fn drop(&mut self) {
        for link in self.links.values() {
            link.give_up();
        }
    }
}
