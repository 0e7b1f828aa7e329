//! Decides which datanodes are operative. This is a pure type: its inputs are datagrams and time, and its outputs are
//! actions for the caller.
//!
//! A round begins every interval with a probe to all datanodes. Datanodes that have not answered are probed again in
//! the same round, by default up to twice more, each time after a window of a fifth of the interval, at most one
//! second. If their address is known, these probes go to them alone. The round ends and is reported when all have
//! answered, or after the last window.
//!
//! Datagrams may be lost, or drowned by those of others. So a datanode that is probed again is also asked on its link, and any
//! reply on the link since the round began counts. A datanode is not operative if it has neither answered nor replied by the
//! end of the round. A link that is broken by then counts for nothing.
//!
//! # False alarms
//! At a loss rate `p` per datagram, a probe or its answer is lost with probability `q = 1 - (1 - p)²`, and all three
//! attempts of a round with `q³`. So an operative datanode is taken for a failed one in one round of 130,000 at a loss
//! rate of 1%, in one of 1,100 at 5%, and in one of 146 at 10%. With one attempt per round, that would be one round of
//! 50 at 1%. (The test `false_alarms_are_as_rare_as_stated` measures this.) That is what counts until a datanode is connected.
//!
//! Then the false alarm needs a silent link too. TCP repeats what is lost: within the two seconds that are left after the first
//! window, Linux sends a lone packet at 0, 0.2, 0.4, 0.8 and 1.6 s at the latest. At a loss rate of 10% the question or the reply
//! is lost five times with a probability of about 0.00003. With `q³` that is less than one false alarm in a million rounds.

mod node;
mod replies;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use protocol::store::heartbeat::{NameRefused, Probe, ProbeAnswer};
use protocol::store::types::{Incarnation, NodeName, NodeState, UnavailableCause};

use crate::cluster_event::{ClusterEvent, Happening};
pub use node::Node;
use node::{LinkState, refuse};

/// The default number of probes per round before a datanode that does not answer counts as not operative.
pub const DEFAULT_ATTEMPTS: u32 = 3;
/// The highest number of datanodes that are remembered. Answers of further ones are dropped.
pub const MAX_DATANODES: usize = 100_000;
/// After this many rounds without any answer, the operator is told what to check.
pub const SILENT_ROUNDS: u64 = 3;

const MAX_WINDOW: Duration = Duration::from_secs(1);
/// Up to this many datanodes, answers are not spread out.
const UNSPREAD_ANSWERS: usize = 64;
/// The time over which answers are spread, per datanode. A receiver handles 20,000 answers per second easily.
const SPREAD_PER_NODE: Duration = Duration::from_micros(50);

/// The settings of membership.
#[derive(Debug, Clone, Copy)]
pub struct MembershipConfig {
    /// Time from the beginning of one round to the beginning of the next.
    pub interval: Duration,
    /// The number of probes within a round, at least 1.
    pub attempts: u32,
    /// The number of datanodes that are expected.
    pub expected: usize,
}

impl MembershipConfig {
    /// Returns how long each attempt waits for answers.
    fn window(&self) -> Duration {
        (self.interval / 5).min(MAX_WINDOW)
    }
}

/// An action for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipAction {
    /// Send a probe to the group, and to the peers that are listed.
    ProbeAll(Probe),
    /// Send a probe to one address.
    ProbeOne(SocketAddr, Probe),
    /// Ask a datanode on its link whether it is there.
    Ping(NodeName),
    /// Tell a datanode that it is not accepted.
    Refuse(SocketAddr, NameRefused),
    /// Connect to a datanode that is new, is back, has restarted, or has moved.
    Connect(NodeName, Incarnation, SocketAddr),
    /// Give up the connection to a datanode that does not answer.
    Disconnect(NodeName),
    /// A round has ended.
    Report(RoundReport),
}

/// The result of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundReport {
    /// The number of the round, from 1.
    pub number: u64,
    /// Every datanode that was ever known, by name.
    pub nodes: Vec<Sighting>,
    /// The number of datanodes that answered.
    pub answered: usize,
    /// The number of datanodes that answered, or replied on their links.
    pub operative: usize,
    /// The number of datanodes that are expected.
    pub expected: usize,
    /// The number of rounds in a row without any answer, including this one.
    pub silent: u64,
}

/// The result of a round for one datanode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub name: NodeName,
    /// The address on which the datanode stores, if it has answered since the start.
    pub address: Option<SocketAddr>,
    /// The time from the probe to its answer, if the datanode answered.
    pub round_trip: Option<Duration>,
    /// Whether it answered, or replied on its link.
    pub is_operative: bool,
    /// Its state differs from the previous round, or it is new.
    pub changed: bool,
}

/// An answer that does not belong to the present round, or that no probe asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale;

/// All datanodes, and the present round. Times count from a fixed moment that the caller chooses.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    nodes: BTreeMap<NodeName, Node>,
    /// Datanodes that have not answered since the start, each with whether a round has reported it.
    absent: BTreeMap<NodeName, bool>,
    /// The names in `nodes` and `absent`, in the order in which they became known.
    names: Vec<NodeName>,
    /// The datanodes that are gone for ever.
    forgotten: BTreeSet<NodeName>,
    round: u64,
    token: u64,
    /// When each attempt of this round was sent.
    sent: Vec<Duration>,
    open: bool,
    /// The number of datanodes that have answered in this round.
    answered: usize,
    next_round: Duration,
    silent: u64,
    changed: bool,
    /// What has happened since [`take_events`](Self::take_events).
    events: Vec<ClusterEvent>,
}

impl Membership {
    /// Returns a membership that knows no datanode. The first round begins at `start`.
    #[must_use]
    pub fn new(config: MembershipConfig, start: Duration) -> Self {
        Self {
            config,
            nodes: BTreeMap::new(),
            absent: BTreeMap::new(),
            names: Vec::new(),
            forgotten: BTreeSet::new(),
            round: 0,
            token: 0,
            sent: Vec::new(),
            open: false,
            answered: 0,
            next_round: start,
            silent: 0,
            changed: false,
            events: Vec::new(),
        }
    }

    /// Ignores these datanodes until they answer. Those that answer now are kept.
    pub fn forget(&mut self, names: &[NodeName]) {
        for name in names {
            self.absent.remove(name);
            let is_gone = self.nodes.get(name).is_some_and(|node| !node.answers);
            if is_gone {
                self.nodes.remove(name);
                self.changed = true;
            }
        }
        self.forgotten.extend(names.iter().cloned());
    }

    /// Adds a datanode that existed before the start. Returns whether it was unknown.
    pub fn remember(&mut self, name: &NodeName) -> bool {
        let is_news = !self.nodes.contains_key(name)
            && !self.absent.contains_key(name)
            && !self.forgotten.contains(name)
            && self.names.len() < MAX_DATANODES;
        if is_news {
            self.absent.insert(name.clone(), false);
            self.names.push(name.clone());
        }
        is_news
    }

    /// Returns the names of all datanodes that were ever known, in the order in which they became known.
    #[must_use]
    pub fn names(&self) -> &[NodeName] {
        &self.names
    }

    /// Returns the datanodes that have not answered since the start, by name.
    pub fn absent(&self) -> impl Iterator<Item = &NodeName> {
        self.absent.keys()
    }

    /// Returns the datanodes that have answered since the start, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &Node)> {
        self.nodes.iter()
    }

    /// Returns whether the [`state`](Node::state) or the run of any datanode has changed since
    /// [`clear_changed`](Self::clear_changed).
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// Returns whether anything has changed, and resets that.
    pub fn clear_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns what has happened to datanodes since the last call, in order.
    pub fn take_events(&mut self) -> Vec<ClusterEvent> {
        std::mem::take(&mut self.events)
    }

    fn note(&mut self, datanode: NodeName, happening: Happening) {
        self.events.push(ClusterEvent { datanode, happening });
    }

    /// Returns when the last probe of the present round was sent, and how many were sent.
    #[must_use]
    pub fn probes(&self) -> (Duration, usize) {
        (self.sent.last().copied().unwrap_or_default(), self.sent.len())
    }

    /// Returns the number of rounds in a row without any answer.
    #[must_use]
    pub fn silent_rounds(&self) -> u64 {
        self.silent
    }

    /// Returns the number of the present round, from 1.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Returns when [`tick`](Self::tick) has something to do next.
    #[must_use]
    pub fn next_tick(&self) -> Duration {
        match self.sent.last() {
            Some(sent) if self.open => (*sent + self.config.window()).min(self.next_round),
            _ => self.next_round,
        }
    }

    /// Brings the membership to the time `now`. `token` is a fresh random number, which is used if a round begins.
    pub fn tick(&mut self, now: Duration, token: u64) -> Vec<MembershipAction> {
        let mut actions = Vec::new();
        if self.open && now >= self.next_tick() {
            let may_probe = self.sent.len() < self.config.attempts as usize && now < self.next_round;
            if may_probe && !self.all_have_answered() {
                self.probe_again(now, &mut actions);
            } else {
                self.end_round(&mut actions);
            }
        }
        if now >= self.next_round {
            self.begin_round(now, token, &mut actions);
        }
        actions
    }

    /// Returns whether all datanodes of this run have answered in this round, and are at least as many as expected.
    fn all_have_answered(&self) -> bool {
        self.nodes.len() >= self.config.expected && self.answered == self.nodes.len()
    }

    fn begin_round(&mut self, now: Duration, token: u64, actions: &mut Vec<MembershipAction>) {
        // Rounds that were missed while the machine was suspended are not repeated.
        let due = self.next_round + self.config.interval;
        self.next_round = if due > now { due } else { now + self.config.interval };
        self.round += 1;
        self.token = token;
        self.open = true;
        self.answered = 0;
        self.sent = vec![now];
        actions.push(MembershipAction::ProbeAll(self.probe()));
        if self.config.attempts == 1 {
            self.ping_silent(actions);
        }
    }

    fn probe(&self) -> Probe {
        let nodes = self.nodes.len().max(self.config.expected);
        let spread = if nodes > UNSPREAD_ANSWERS {
            (SPREAD_PER_NODE * u32::try_from(nodes).unwrap_or(u32::MAX)).min(self.config.window() / 2)
        } else {
            Duration::ZERO
        };
        Probe {
            round: self.round,
            token: self.token,
            attempt: u32::try_from(self.sent.len()).unwrap_or(u32::MAX),
            spread_ms: u64::try_from(spread.as_millis()).unwrap_or(u64::MAX),
            epoch: None,
        }
    }

    fn probe_again(&mut self, now: Duration, actions: &mut Vec<MembershipAction>) {
        self.sent.push(now);
        let probe = self.probe();
        // A datanode that has never answered can only be reached through the group.
        if self.nodes.len() < self.config.expected {
            actions.push(MembershipAction::ProbeAll(probe));
        }
        let silent = self.nodes.values().filter(|node| node.last_round != self.round);
        actions.extend(silent.map(|node| MembershipAction::ProbeOne(node.datagrams_from, probe)));
        self.ping_silent(actions);
    }

    fn end_round(&mut self, actions: &mut Vec<MembershipAction>) {
        self.open = false;
        let mut sightings = Vec::with_capacity(self.nodes.len());
        for (name, node) in &mut self.nodes {
            let answered = node.last_round == self.round;
            let has_replied =
                node.state() == NodeState::Available && node.replied_in_round == Some(self.round);
            let is_operative = answered || has_replied;
            if !is_operative && node.answers {
                node.answers = false;
                node.link = LinkState::Broken(UnavailableCause::NoAnswer);
                self.changed = true;
                let happening = Happening::NotOperative(UnavailableCause::NoAnswer);
                self.events.push(ClusterEvent { datanode: name.clone(), happening });
                actions.push(MembershipAction::Disconnect(name.clone()));
            }
            sightings.push(Sighting {
                name: name.clone(),
                address: Some(node.address),
                round_trip: answered.then_some(node.round_trip),
                is_operative,
                changed: node.reported.replace(is_operative) != Some(is_operative),
            });
        }
        for (name, reported) in &mut self.absent {
            let changed = !std::mem::replace(reported, true);
            if changed {
                let happening = Happening::NotOperative(UnavailableCause::NoAnswer);
                self.events.push(ClusterEvent { datanode: name.clone(), happening });
            }
            let (address, round_trip, is_operative) = (None, None, false);
            sightings.push(Sighting { name: name.clone(), address, round_trip, is_operative, changed });
        }
        sightings.sort_by(|one, other| one.name.cmp(&other.name));
        let answered = sightings.iter().filter(|sighting| sighting.round_trip.is_some()).count();
        let operative = sightings.iter().filter(|sighting| sighting.is_operative).count();
        self.silent = if answered == 0 { self.silent + 1 } else { 0 };
        actions.push(MembershipAction::Report(RoundReport {
            number: self.round,
            nodes: sightings,
            answered,
            operative,
            expected: self.config.expected,
            silent: self.silent,
        }));
    }

    /// Processes `answer`, which came from address `from`.
    ///
    /// # Errors
    /// Fails with [`Stale`] if the answer does not belong to this round. The caller then has nothing to do.
    pub fn answered(
        &mut self,
        now: Duration,
        from: SocketAddr,
        answer: &ProbeAnswer,
    ) -> Result<Vec<MembershipAction>, Stale> {
        let attempt = (answer.attempt as usize).checked_sub(1).and_then(|attempt| self.sent.get(attempt));
        let (Some(sent), true) = (attempt, (answer.round, answer.token) == (self.round, self.token)) else {
            return Err(Stale);
        };
        let round_trip = now.saturating_sub(*sent);
        if self.absent.remove(&answer.name).is_none() && !self.nodes.contains_key(&answer.name) {
            // A datanode that was forgotten while the headnode ran keeps its place among the names.
            let is_named = self.forgotten.contains(&answer.name) && self.names.contains(&answer.name);
            if !is_named && self.names.len() >= MAX_DATANODES {
                return Err(Stale);
            }
            self.names.extend((!is_named).then(|| answer.name.clone()));
        }
        let known = self.nodes.get(&answer.name);
        if let Some(refused) = known.and_then(|node| refuse(node, from, answer)) {
            self.note_refusal(answer);
            return Ok(vec![MembershipAction::Refuse(from, refused)]);
        }
        let same = known.filter(|node| {
            node.answers && (node.incarnation, node.address) == (answer.incarnation, answer.address)
        });
        let link = same.map_or(LinkState::Connecting, |node| node.link);
        let mut actions = Vec::new();
        if same.is_none() {
            let happening = match known {
                None => Happening::Joined(answer.address),
                Some(node) if node.answers => Happening::Restarted(answer.address),
                Some(_) => Happening::Back(answer.address),
            };
            self.events.push(ClusterEvent { datanode: answer.name.clone(), happening });
            self.changed = true;
            actions.push(MembershipAction::Connect(answer.name.clone(), answer.incarnation, answer.address));
        }
        let node = Node {
            incarnation: answer.incarnation,
            address: answer.address,
            records: answer.records,
            free_bytes: answer.free_bytes,
            unreadable: answer.unreadable,
            last_answer: now,
            round_trip,
            sync: answer.sync,
            last_round: self.round,
            replied_in_round: None,
            attempt: answer.attempt,
            answers: true,
            link,
            datagrams_from: from,
            full_in_round: known.and_then(|node| node.full_in_round),
            refused: known.and_then(|node| node.refused),
            reported: known.and_then(|node| node.reported),
        };
        let known = self.nodes.insert(answer.name.clone(), node);
        self.answered += usize::from(known.is_none_or(|known| known.last_round != self.round));
        // Datanodes that only an earlier run of the headnode has known may answer in the first window. They do not delay a
        // round for longer.
        if self.open && self.all_have_answered() && self.absent.is_empty() {
            self.end_round(&mut actions);
        }
        Ok(actions)
    }

    /// Notes that a datanode was refused because of its name. That is told once for each run of it.
    fn note_refusal(&mut self, answer: &ProbeAnswer) {
        let node = self.nodes.get_mut(&answer.name);
        if node.is_some_and(|node| node.refused.replace(answer.incarnation) != Some(answer.incarnation)) {
            self.note(answer.name.clone(), Happening::NameRefused(answer.address));
        }
    }

    /// Marks this run of a datanode as connected: messages can be sent to it. `reconciled` of its records were added to the
    /// registry, and `lost` that are registered are not held.
    pub fn mark_connected(&mut self, name: &NodeName, incarnation: Incarnation, reconciled: u64, lost: u64) {
        if self.set_link(name, incarnation, LinkState::Connected) {
            if lost > 0 {
                self.note(name.clone(), Happening::NotHeld(lost));
            }
            self.note(name.clone(), Happening::Connected(reconciled));
        }
    }

    /// Marks this run of a datanode as not connected: nothing is sent to it from now on.
    pub fn mark_disconnected(&mut self, name: &NodeName, incarnation: Incarnation, cause: UnavailableCause) {
        let was_broken = self.nodes.get(name).is_some_and(|node| matches!(node.link, LinkState::Broken(_)));
        if self.set_link(name, incarnation, LinkState::Broken(cause)) && !was_broken {
            self.note(name.clone(), Happening::Suspect(cause));
        }
    }

    /// Notes that a datanode had no space for a message. That is told again only after a round without it.
    pub fn mark_full(&mut self, name: &NodeName) {
        let round = self.round;
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.full_in_round.replace(round).is_none_or(|last| last + 1 < round) {
            self.note(name.clone(), Happening::DiskFull);
        }
    }

    /// Sets the state of the connection to this run of a datanode. Returns whether it was another one.
    fn set_link(&mut self, name: &NodeName, incarnation: Incarnation, link: LinkState) -> bool {
        let node = self.nodes.get_mut(name).filter(|node| node.answers && node.incarnation == incarnation);
        let Some(node) = node.filter(|node| node.link != link) else { return false };
        node.link = link;
        self.changed = true;
        true
    }
}

#[cfg(test)]
mod tests;
