//! Decides which datanodes are operative. This is a pure type: its inputs are datagrams and time, and its outputs are
//! actions for the caller.
//!
//! A round begins every interval with a probe to all datanodes. Datanodes that have not answered are probed again in
//! the same round, by default up to twice more, each time after a window of a fifth of the interval, at most one
//! second. If their address is known, these probes go to them alone. The round ends and is reported when all have
//! answered, or after the last window. A datanode that has not answered by then is not operative.
//!
//! # False alarms
//! At a loss rate `p` per datagram, a probe or its answer is lost with probability `q = 1 - (1 - p)²`, and all three
//! attempts of a round with `q³`. So an operative datanode is taken for a failed one in one round of 130,000 at a loss
//! rate of 1%, in one of 1,100 at 5%, and in one of 146 at 10%. With one attempt per round, that would be one round of
//! 50 at 1%. (The test `false_alarms_are_as_rare_as_stated` measures this.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use protocol::store::heartbeat::{NameRefused, Probe, ProbeAnswer};
use protocol::store::types::{Incarnation, NodeName, NodeState};

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
    /// Its state differs from the previous round, or it is new.
    pub changed: bool,
}

/// A datanode that has answered since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub incarnation: Incarnation,
    /// The address on which the datanode stores.
    pub address: SocketAddr,
    /// The number of records that the datanode held at its last answer.
    pub records: u64,
    /// The free space for the datanode at its last answer, in bytes.
    pub free_bytes: u64,
    /// When the datanode last answered.
    pub last_answer: Duration,
    /// The time from the probe to the last answer.
    pub round_trip: Duration,
    /// Whether the datanode answers.
    answers: bool,
    link: LinkState,
    /// The address that its answers come from.
    datagrams_from: SocketAddr,
    last_round: u64,
    reported: Option<bool>,
}

/// The state of the connection to a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Connecting,
    Connected,
    Broken,
}

impl Node {
    /// Returns whether the datanode answers, and whether messages can be sent to it.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match (self.answers, self.link) {
            (false, _) => NodeState::NotOperative,
            (true, LinkState::Connected) => NodeState::Available,
            (true, LinkState::Connecting | LinkState::Broken) => NodeState::Operative,
        }
    }
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
        }
    }

    /// Ignores these datanodes until they answer.
    pub fn forget(&mut self, names: &[NodeName]) {
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
    }

    fn end_round(&mut self, actions: &mut Vec<MembershipAction>) {
        self.open = false;
        let mut sightings = Vec::with_capacity(self.nodes.len());
        for (name, node) in &mut self.nodes {
            let answered = node.last_round == self.round;
            if !answered && node.answers {
                node.answers = false;
                node.link = LinkState::Broken;
                self.changed = true;
                actions.push(MembershipAction::Disconnect(name.clone()));
            }
            sightings.push(Sighting {
                name: name.clone(),
                address: Some(node.address),
                round_trip: answered.then_some(node.round_trip),
                changed: node.reported.replace(answered) != Some(answered),
            });
        }
        sightings.extend(self.absent.iter_mut().map(|(name, reported)| Sighting {
            name: name.clone(),
            address: None,
            round_trip: None,
            changed: !std::mem::replace(reported, true),
        }));
        sightings.sort_by(|one, other| one.name.cmp(&other.name));
        let answered = sightings.iter().filter(|sighting| sighting.round_trip.is_some()).count();
        self.silent = if answered == 0 { self.silent + 1 } else { 0 };
        actions.push(MembershipAction::Report(RoundReport {
            number: self.round,
            nodes: sightings,
            answered,
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
            if self.names.len() >= MAX_DATANODES {
                return Err(Stale);
            }
            self.names.push(answer.name.clone());
        }
        let known = self.nodes.get(&answer.name);
        if let Some(refused) = known.and_then(|node| refuse(node, from, answer)) {
            return Ok(vec![MembershipAction::Refuse(from, refused)]);
        }
        let same = known.filter(|node| {
            node.answers && (node.incarnation, node.address) == (answer.incarnation, answer.address)
        });
        let link = same.map_or(LinkState::Connecting, |node| node.link);
        let mut actions = Vec::new();
        if same.is_none() {
            self.changed = true;
            actions.push(MembershipAction::Connect(answer.name.clone(), answer.incarnation, answer.address));
        }
        let node = Node {
            incarnation: answer.incarnation,
            address: answer.address,
            records: answer.records,
            free_bytes: answer.free_bytes,
            last_answer: now,
            round_trip,
            answers: true,
            link,
            datagrams_from: from,
            last_round: self.round,
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

    /// Marks this run of a datanode as connected: messages can be sent to it.
    pub fn mark_connected(&mut self, name: &NodeName, incarnation: Incarnation) {
        self.set_link(name, incarnation, LinkState::Connected);
    }

    /// Marks this run of a datanode as not connected: nothing is sent to it from now on.
    pub fn mark_disconnected(&mut self, name: &NodeName, incarnation: Incarnation) {
        self.set_link(name, incarnation, LinkState::Broken);
    }

    fn set_link(&mut self, name: &NodeName, incarnation: Incarnation, link: LinkState) {
        if let Some(node) = self.nodes.get_mut(name).filter(|node| node.incarnation == incarnation) {
            self.changed |= node.link != link;
            node.link = link;
        }
    }
}

/// Returns the refusal if two datanodes have one name. The first one keeps the name as long as it answers and its
/// connection is not broken.
fn refuse(known: &Node, from: SocketAddr, answer: &ProbeAnswer) -> Option<NameRefused> {
    let first_is_alive = known.answers && known.link != LinkState::Broken;
    (first_is_alive && known.incarnation != answer.incarnation).then(|| NameRefused {
        name: answer.name.clone(),
        incarnation: answer.incarnation,
        reason: format!(
            "another datanode named {} is operative at {}; the one that answers from {from} is not used: give it another --name",
            answer.name, known.address
        ),
    })
}

#[cfg(test)]
mod tests;
