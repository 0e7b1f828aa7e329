//! What the page shows, as one JSON object: a pure function of the lottery's state.
//!
//! A frame tells how many bets have won, and never which.

use std::time::Duration;

use chrono::{DateTime, Utc};
use page::FrameStamp;
use page::latency::LatencySnapshot;
use serde::Serialize;
use text::timestamp;

use super::board::{AgencyState, AgencyStatus, DrawStatus};
use super::event::{EventCause, LotteryEvent, LotteryHappening};

/// The highest number of agencies with a line of their own in a frame.
pub const LISTED: usize = 64;
/// A frame holds the newest events. A page that has missed some asks for them.
pub const NEW_EVENTS: usize = 6;
/// The highest number of agencies that a frame warns about.
const WARNED: usize = 4;

/// The lottery's state at one moment.
#[derive(Debug, Clone)]
pub struct LotteryState {
    pub run: String,
    pub now: DateTime<Utc>,
    pub up: Duration,
    /// How long an agency may send nothing before its connection is closed.
    pub timeout: Duration,
    pub expected: u64,
    pub known: u64,
    pub finished: u64,
    /// Bets in `bets.csv`.
    pub bets: u64,
    pub connections: i64,
    pub counts: LotteryCounts,
    /// How long the last rounds took.
    pub rounds: LatencySnapshot,
    /// How long their syncs took.
    pub syncs: LatencySnapshot,
    pub draw: DrawStatus,
    pub is_disk_full: bool,
    /// The agencies that the board lists, in any order.
    pub agencies: Vec<AgencyStatus>,
    pub last_event: u64,
    pub events: Vec<(u64, LotteryEvent)>,
    pub files: Vec<String>,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LotteryCounts {
    /// Bets that were stored.
    pub bets: u64,
    /// Batches with new bets.
    pub stored: u64,
    pub repeated: u64,
    pub refused: u64,
    pub disk_full: u64,
    pub invalid: u64,
    /// Lists of winners that were sent.
    pub told: u64,
}

#[derive(Debug, Serialize)]
struct LotteryFrame<'a> {
    kind: &'static str,
    run: &'a str,
    n: u64,
    time: String,
    up_s: u64,
    period_ms: u128,
    verdict: LotteryVerdict,
    expected: u64,
    known: u64,
    finished: u64,
    bets: u64,
    connections: i64,
    counts: LotteryCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_p99_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_p99_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draw: Option<ShownDraw>,
    agencies: Vec<ShownAgency<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<FurtherAgencies>,
    events: ShownEvents<'a>,
    warnings: Vec<LotteryWarning<'a>>,
    files: &'a [String],
}

/// How the lottery is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct LotteryVerdict {
    level: &'static str,
    code: &'static str,
}

#[derive(Debug, Serialize)]
struct ShownDraw {
    winners: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownAgency<'a> {
    name: &'a str,
    state: AgencyState,
    bets: u64,
    batches: u64,
    /// The time since its last batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<i64>,
}

#[derive(Debug, Serialize)]
struct FurtherAgencies {
    sending: u64,
    finished: u64,
}

#[derive(Debug, Serialize)]
struct ShownEvents<'a> {
    last: u64,
    new: Vec<ShownEvent<'a>>,
}

/// An event, as the page shows it.
#[derive(Debug, Serialize)]
pub struct ShownEvent<'a> {
    n: u64,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agency: Option<&'a str>,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<EventCause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct LotteryWarning<'a> {
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agency: Option<&'a str>,
    value: u64,
}

/// Returns the frame as JSON.
///
/// # Errors
/// Fails if the state cannot be written as JSON.
pub fn frame(state: &LotteryState, stamp: FrameStamp) -> serde_json::Result<Vec<u8>> {
    let (agencies, more) = listed(state);
    serde_json::to_vec(&LotteryFrame {
        kind: "lottery",
        run: &state.run,
        n: stamp.number,
        time: timestamp(state.now),
        up_s: state.up.as_secs(),
        period_ms: stamp.period.as_millis(),
        verdict: verdict(state),
        expected: state.expected,
        known: state.known,
        finished: state.finished,
        bets: state.bets,
        connections: state.connections,
        counts: state.counts,
        round_p50_us: state.rounds.quantile(0.5),
        round_p99_us: state.rounds.quantile(0.99),
        sync_p50_us: state.syncs.quantile(0.5),
        sync_p99_us: state.syncs.quantile(0.99),
        draw: match state.draw {
            DrawStatus::Held { winners, time } => Some(ShownDraw { winners, time: time.map(timestamp) }),
            DrawStatus::Waiting | DrawStatus::Failed => None,
        },
        agencies,
        more,
        events: ShownEvents {
            last: state.last_event,
            new: state.events.iter().map(|(n, event)| shown_event(*n, event)).collect(),
        },
        warnings: warnings(state),
        files: &state.files,
    })
}

/// Returns the agencies that the frame lists. If there are too many, these are the ones whose batches came last, and the
/// others are counted.
fn listed(state: &LotteryState) -> (Vec<ShownAgency<'_>>, Option<FurtherAgencies>) {
    let mut agencies: Vec<_> = state.agencies.iter().collect();
    if agencies.len() > LISTED {
        agencies.sort_by_key(|agency| std::cmp::Reverse(agency.last_batch));
        agencies.truncate(LISTED);
    }
    let shown = agencies.iter().map(|agency| ShownAgency {
        name: &agency.name,
        state: agency.state,
        bets: agency.bets,
        batches: agency.batches,
        age_ms: agency.last_batch.map(|time| (state.now - time).num_milliseconds().max(0)),
    });
    let shown: Vec<_> = shown.collect();
    let sending = shown.iter().filter(|agency| agency.state == AgencyState::Sending).count() as u64;
    let finished = shown.len() as u64 - sending;
    let further = FurtherAgencies {
        sending: (state.known.saturating_sub(state.finished)).saturating_sub(sending),
        finished: state.finished.saturating_sub(finished),
    };
    let is_more = state.known > shown.len() as u64;
    (shown, is_more.then_some(further))
}

fn verdict(state: &LotteryState) -> LotteryVerdict {
    let (level, code) = match state.draw {
        _ if state.is_disk_full => ("bad", "disk-full"),
        DrawStatus::Failed => ("bad", "draw-failed"),
        DrawStatus::Held { .. } => ("ok", "drawn"),
        DrawStatus::Waiting if state.known == 0 => ("info", "nobody"),
        DrawStatus::Waiting if state.finished >= state.expected => ("info", "drawing"),
        DrawStatus::Waiting => ("ok", "receiving"),
    };
    LotteryVerdict { level, code }
}

fn warnings(state: &LotteryState) -> Vec<LotteryWarning<'_>> {
    let of_all = |rule, value| LotteryWarning { rule, agency: None, value };
    let mut warnings = Vec::new();
    if state.is_disk_full {
        warnings.push(of_all("disk-full", state.counts.disk_full));
    }
    if state.draw == DrawStatus::Failed {
        warnings.push(of_all("draw-failed", 1));
    }
    if state.known > state.expected {
        warnings.push(of_all("more-than-expected", state.known));
    }
    let is_drawn = matches!(state.draw, DrawStatus::Held { .. });
    let silent = state.agencies.iter().filter(|agency| agency.state == AgencyState::Sending && !is_drawn);
    let mut silent: Vec<_> = silent
        .filter_map(|agency| {
            let silence =
                (state.now - agency.last_batch?).to_std().ok().filter(|time| *time > state.timeout)?;
            Some(LotteryWarning { rule: "silent", agency: Some(&agency.name), value: silence.as_secs() })
        })
        .collect();
    silent.sort_by_key(|warning| std::cmp::Reverse(warning.value));
    warnings.extend(silent.into_iter().take(WARNED));
    warnings
}

/// Returns an event, as the page shows it.
pub fn shown_event(n: u64, event: &LotteryEvent) -> ShownEvent<'_> {
    let count = match event.happening {
        LotteryHappening::Drawn(winners) => Some(winners),
        _ => None,
    };
    ShownEvent {
        n,
        time: timestamp(event.time),
        agency: event.agency.as_deref(),
        what: event.happening.word(),
        cause: event.happening.cause(),
        count,
    }
}

#[cfg(test)]
mod tests;
