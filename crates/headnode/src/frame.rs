//! What the page shows, as one JSON object: a pure function of the headnode's state.

use std::time::Duration;

use chrono::{DateTime, Utc};
use page::FrameStamp;
use page::latency::LatencySnapshot;
use protocol::store::types::{NodeState, UnavailableCause};
use serde::Serialize;
use text::timestamp;

use crate::cluster_event::{Happening, TimedEvent};
use crate::cluster_view::DatanodeStatus;
use crate::membership::SILENT_ROUNDS;
use crate::placer::{RegisteredRecords, StoreOverview};
use crate::recent_messages::RecentMessage;

/// The highest number of datanodes with a line of their own in a frame.
pub const LISTED: usize = 64;
/// A frame holds the newest events and messages. A page that has missed some asks for them.
pub const NEW_EVENTS: usize = 6;
/// See [`NEW_EVENTS`].
pub const NEW_MESSAGES: usize = 8;
/// A datanode is slow if it takes so many times as long as the one in the middle.
const SLOW: u64 = 5;
/// Fewer confirmations than this say nothing about how slow a datanode is.
const ENOUGH: u64 = 50;
/// A disk is soon full if it will be in this time.
const SOON: Duration = Duration::from_secs(3600);

/// The headnode's state at one moment.
#[derive(Debug, Clone)]
pub struct StoreState {
    pub run: String,
    pub now: DateTime<Utc>,
    pub up: Duration,
    pub interval: Duration,
    pub expected: usize,
    /// The number of messages in the registry when the headnode started.
    pub registered_at_start: u64,
    pub overview: StoreOverview,
    pub saved: u64,
    pub failed: u64,
    /// The durations of the last `put` requests.
    pub put: LatencySnapshot,
    /// In the order of the datanodes in the overview.
    pub confirmations: Vec<Confirmations>,
    pub last_message: u64,
    pub messages: Vec<(u64, RecentMessage)>,
    pub files: Vec<String>,
}

/// What a datanode has confirmed.
#[derive(Debug, Clone, Default)]
pub struct Confirmations {
    /// The number of confirmations since the headnode started.
    pub total: u64,
    /// How long the last ones took.
    pub recent: LatencySnapshot,
    /// The time until its disk is full, if it goes on as in the last minutes.
    pub full_in: Option<Duration>,
}

#[derive(Debug, Serialize)]
struct StoreFrame<'a> {
    kind: &'static str,
    run: &'a str,
    n: u64,
    time: String,
    up_s: u64,
    period_ms: u128,
    verdict: Verdict,
    expected: usize,
    replicas: usize,
    known: usize,
    operative: usize,
    available: usize,
    interval_ms: u128,
    round: Round,
    messages: u64,
    registered_at_start: u64,
    puts: Puts,
    nodes: Vec<ShownNode<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<StateCounts>,
    events: Newest<NumberedEvent<'a>>,
    recent: Newest<NumberedMessage<'a>>,
    warnings: Vec<Warning<'a>>,
    files: &'a [String],
}

/// Whether messages are saved, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub level: &'static str,
    pub code: &'static str,
}

#[derive(Debug, Serialize)]
struct Round {
    n: u64,
    attempts: usize,
    age_ms: u128,
}

#[derive(Debug, Serialize)]
struct Puts {
    ok: u64,
    failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_us: Option<u64>,
}

/// One datanode, as the page shows it.
#[derive(Debug, Serialize)]
pub struct ShownNode<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<UnavailableCause>,
    #[serde(flatten)]
    answer: Option<NodeAnswer>,
    records: u64,
    lost: u64,
    confirmed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_us: Option<u64>,
}

#[derive(Debug, Serialize)]
struct NodeAnswer {
    address: String,
    round: u64,
    attempt: u32,
    rtt_us: u128,
    age_ms: i64,
    free: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_p99_us: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct StateCounts {
    available: usize,
    draining: usize,
    connecting: usize,
    suspect: usize,
    not_operative: usize,
}

#[derive(Debug, Serialize)]
struct Newest<T> {
    last: u64,
    new: Vec<T>,
}

/// An event, as the page shows it.
#[derive(Debug, Serialize)]
pub struct NumberedEvent<'a> {
    n: u64,
    time: String,
    node: &'a str,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<UnavailableCause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

/// A message, as the page shows it.
#[derive(Debug, Serialize)]
pub struct NumberedMessage<'a> {
    n: u64,
    #[serde(flatten)]
    message: &'a RecentMessage,
}

#[derive(Debug, PartialEq, Serialize)]
struct Warning<'a> {
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    value: u64,
}

/// Returns the frame as JSON.
///
/// # Errors
/// Fails if the state cannot be written as JSON.
pub fn frame(state: &StoreState, stamp: FrameStamp) -> serde_json::Result<Vec<u8>> {
    let cluster = &state.overview.cluster;
    let all = nodes(state);
    let count = |wanted: &str| all.iter().filter(|node| node.state == wanted).count();
    let available = count("available");
    // Whoever drains a datanode does not expect it to get messages.
    let expected = state.expected.saturating_sub(count("draining"));
    let operative = all.len() - count("not-operative");
    let events: Vec<_> = cluster.events.iter().map(|(number, event)| numbered(*number, event)).collect();
    let known = all.len();
    let warnings = warnings(state, &all);
    let (nodes, more) = worst(all);
    serde_json::to_vec(&StoreFrame {
        kind: "store",
        run: &state.run,
        n: stamp.number,
        time: timestamp(state.now),
        up_s: state.up.as_secs(),
        period_ms: stamp.period.as_millis(),
        verdict: if state.overview.epoch.is_none() {
            Verdict { level: "warn", code: "stands-by" }
        } else {
            verdict(available, expected, state.overview.replicas, cluster.silent_rounds)
        },
        expected: state.expected,
        replicas: state.overview.replicas,
        known,
        operative,
        available,
        interval_ms: state.interval.as_millis(),
        round: Round { n: cluster.round, attempts: cluster.attempts, age_ms: cluster.probe_age.as_millis() },
        messages: state.overview.messages,
        registered_at_start: state.registered_at_start,
        puts: Puts {
            ok: state.saved,
            failed: state.failed,
            p50_us: state.put.quantile(0.5),
            p99_us: state.put.quantile(0.99),
        },
        nodes,
        more,
        events: Newest { last: cluster.last_event, new: events },
        recent: Newest {
            last: state.last_message,
            new: state.messages.iter().map(|(n, message)| NumberedMessage { n: *n, message }).collect(),
        },
        warnings,
        files: &state.files,
    })
}

/// Returns all datanodes, as the page shows them.
pub fn nodes(state: &StoreState) -> Vec<ShownNode<'_>> {
    let StoreOverview { cluster, drained, registered, .. } = &state.overview;
    let datanodes = cluster.datanodes.iter().zip(registered);
    datanodes
        .zip(&state.confirmations)
        .map(|((datanode, registered), confirmed)| {
            let word = word(datanode, drained.contains(&datanode.name));
            node(datanode, word, *registered, confirmed, state.now)
        })
        .collect()
}

fn node<'a>(
    datanode: &'a DatanodeStatus,
    state: &'static str,
    registered: RegisteredRecords,
    confirmed: &Confirmations,
    now: DateTime<Utc>,
) -> ShownNode<'a> {
    let answer = datanode.last_answer.as_ref();
    ShownNode {
        name: datanode.name.as_str(),
        state,
        cause: datanode.cause,
        answer: answer.map(|answer| NodeAnswer {
            address: answer.address.to_string(),
            round: answer.round,
            attempt: answer.attempt,
            rtt_us: answer.round_trip.as_micros(),
            age_ms: (now - answer.time).num_milliseconds().max(0),
            free: answer.free_bytes,
            sync_p50_us: answer.sync.map(|sync| sync.p50_us),
            sync_p99_us: answer.sync.map(|sync| sync.p99_us),
        }),
        records: datanode.records().max(registered.held),
        lost: registered.lost,
        confirmed: confirmed.total,
        p50_us: confirmed.recent.quantile(0.5),
        p99_us: confirmed.recent.quantile(0.99),
    }
}

/// Returns the state of a datanode in the page's words.
fn word(datanode: &DatanodeStatus, is_drained: bool) -> &'static str {
    match (datanode.state, datanode.cause) {
        (NodeState::Available, _) if is_drained => "draining",
        (NodeState::Available, _) => "available",
        (NodeState::Operative, None) => "connecting",
        (NodeState::Operative, Some(_)) => "suspect",
        (NodeState::NotOperative, _) => "not-operative",
    }
}

/// Returns the datanodes that the frame lists. If there are too many, these are the worst ones, and the others are counted.
fn worst(mut nodes: Vec<ShownNode<'_>>) -> (Vec<ShownNode<'_>>, Option<StateCounts>) {
    if nodes.len() <= LISTED {
        return (nodes, None);
    }
    let rank = |node: &ShownNode<'_>| match node.state {
        "not-operative" => 0,
        "suspect" => 1,
        "connecting" => 2,
        "draining" => 3,
        _ if node.lost > 0 => 4,
        _ => 5,
    };
    nodes.sort_by_key(rank);
    let mut more = StateCounts::default();
    for node in nodes.drain(LISTED..) {
        match node.state {
            "available" => more.available += 1,
            "draining" => more.draining += 1,
            "connecting" => more.connecting += 1,
            "suspect" => more.suspect += 1,
            _ => more.not_operative += 1,
        }
    }
    (nodes, Some(more))
}

/// Returns whether messages are saved.
fn verdict(available: usize, expected: usize, replicas: usize, silent_rounds: u64) -> Verdict {
    let (level, code) = match available {
        0 if silent_rounds >= SILENT_ROUNDS => ("bad", "silence"),
        0 => ("bad", "none-available"),
        _ if available < replicas => ("bad", "too-few"),
        _ if available < expected => ("warn", "fewer-than-expected"),
        _ => ("ok", "saving"),
    };
    Verdict { level, code }
}

fn warnings<'a>(state: &StoreState, nodes: &[ShownNode<'a>]) -> Vec<Warning<'a>> {
    let of_all = |rule, value| Warning { rule, node: None, value };
    let mut warnings = Vec::new();
    if state.overview.epoch.is_none() {
        return warnings;
    }
    let silent_rounds = state.overview.cluster.silent_rounds;
    if silent_rounds >= SILENT_ROUNDS {
        warnings.push(of_all("silence", silent_rounds));
    }
    let operative = nodes.iter().filter(|node| node.state != "not-operative").count();
    if operative < state.overview.replicas {
        warnings.push(of_all("fewer-than-replicas", operative as u64));
    }
    let enough = |confirmed: &Confirmations| confirmed.recent.count() >= ENOUGH;
    let measured = nodes.iter().zip(&state.confirmations).filter(|(_, confirmed)| enough(confirmed));
    let mut medians: Vec<_> = measured.filter_map(|(node, _)| node.p50_us).collect();
    medians.sort_unstable();
    let middle = medians.get(medians.len().saturating_sub(1) / 2).copied().unwrap_or(u64::MAX);
    for (node, confirmed) in nodes.iter().zip(&state.confirmations) {
        let mut warn = |rule, value| warnings.push(Warning { rule, node: Some(node.name), value });
        if medians.len() > 1 && enough(confirmed) && node.p50_us.is_some_and(|p50| p50 / SLOW >= middle) {
            warn("slow", node.p50_us.unwrap_or_default() / middle.max(1));
        }
        if let Some(left) = confirmed.full_in.filter(|left| *left <= SOON) {
            warn("disk-full-soon", left.as_secs() / 60);
        }
        if node.lost > 0 {
            warn("not-held", node.lost);
        }
    }
    warnings.truncate(NEW_MESSAGES);
    warnings
}

/// Returns an event, as the page shows it.
pub fn numbered(n: u64, TimedEvent { time, event }: &TimedEvent) -> NumberedEvent<'_> {
    let (cause, count, address) = match event.happening {
        Happening::Joined(address) | Happening::Back(address) | Happening::Restarted(address) => {
            (None, None, Some(address))
        }
        Happening::NameRefused(address) => (None, None, Some(address)),
        Happening::Suspect(cause) | Happening::NotOperative(cause) => (Some(cause), None, None),
        Happening::Connected(count) | Happening::NotHeld(count) => (None, Some(count), None),
        Happening::DiskFull => (None, None, None),
    };
    let node = event.datanode.as_str();
    let address = address.map(|address| address.to_string());
    NumberedEvent { n, time: timestamp(*time), node, what: event.happening.word(), cause, count, address }
}

/// Returns a message, as the page shows it.
pub fn numbered_message(n: u64, message: &RecentMessage) -> NumberedMessage<'_> {
    NumberedMessage { n, message }
}

#[cfg(test)]
mod tests;
