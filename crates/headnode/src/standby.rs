//! A headnode that stands by: it asks the datanodes whether the headnode that leads is gone, and does nothing else.
//!
//! A datanode says that the leader is gone if the leader's connection to it has ended, or if the leader has been silent
//! for [`SILENT_INTERVALS`] intervals of the heartbeat. When a majority of the expected datanodes say so in two rounds of
//! questions in a row, the headnode takes over with the next epoch: as soon as they have said it the second time, because
//! another headnode may stand by too, and hears of this one when it asks next. A connection that breaks and is made again at
//! once falls between two rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::store::heartbeat::{Datagram, LeaderReport, MAX_DATAGRAM_BYTES, Probe};
use protocol::store::types::{Epoch, NodeName};
use rand::RngExt as _;
use rand::rngs::StdRng;
use service::net::Datagrams;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::lead::majority;
use crate::probing::Prober;
use crate::role::HeadnodeRole;

/// After so many intervals without a sign of life, a leader counts as gone.
pub const SILENT_INTERVALS: u32 = 3;
/// The longest time between two rounds of questions.
const LONGEST_PERIOD: Duration = Duration::from_millis(250);
/// The number of rounds in a row that have to find that the leader is gone.
const ROUNDS: u32 = 2;

/// What a headnode knows that stands by.
#[derive(Debug, Clone, Copy)]
pub struct StandbyConfig {
    /// The time from one round of the leader's heartbeat to the next.
    pub interval: Duration,
    /// The number of datanodes that are expected.
    pub expected: usize,
    /// The highest epoch that is known already.
    pub highest: Option<Epoch>,
}

/// Waits until the headnode that leads is gone. Returns the highest epoch that was heard of. What is heard meanwhile is
/// told to `role`.
pub async fn stand_by<D: Datagrams + Send + Sync + 'static>(
    prober: &Prober<D>,
    config: StandbyConfig,
    rng: &mut StdRng,
    role: &watch::Sender<HeadnodeRole>,
) -> Option<Epoch> {
    let StandbyConfig { interval, expected, mut highest } = config;
    let mut rounds = 0;
    let mut shown = None;
    let say_gone = |reports: &LeaderReports| {
        reports.values().filter(|report| is_gone(**report, interval)).count() >= majority(expected)
    };
    while rounds < ROUNDS {
        let decides = |reports: &LeaderReports| rounds + 1 == ROUNDS && say_gone(reports);
        let reports = ask(prober, rng.random(), (interval / 4).min(LONGEST_PERIOD), decides).await;
        highest = reports.values().flatten().map(|report| report.epoch).chain(highest).max();
        rounds = if say_gone(&reports) { rounds + 1 } else { 0 };
        if shown != Some(highest) {
            shown = Some(highest);
            role.send_replace(HeadnodeRole::StandsBy(highest));
            let epoch = highest.map(tracing::field::display);
            tracing::info!(epoch, "stands by: serves no clients while the headnode of this epoch leads");
        }
    }
    highest
}

/// What each datanode says of the headnode that leads. `None` says that none has led there.
type LeaderReports = BTreeMap<NodeName, Option<LeaderReport>>;

/// Asks all datanodes once, and returns what those say that answer within `period`, or at once what `decides`.
async fn ask<D: Datagrams + Send + Sync + 'static>(
    prober: &Prober<D>,
    token: u64,
    period: Duration,
    decides: impl Fn(&LeaderReports) -> bool,
) -> LeaderReports {
    let end = Instant::now() + period;
    prober.probe_all(Probe { round: 0, token, attempt: 1, spread_ms: 0, epoch: None }).await;
    let mut reports = BTreeMap::new();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    while let Ok(received) = timeout_at(end, prober.datagrams.receive(&mut buffer)).await {
        let answer = received.map(|(length, _)| Datagram::decode(&buffer[..length]));
        match answer {
            Ok(Ok(Datagram::Answer(answer))) if (answer.round, answer.token) == (0, token) => {
                reports.insert(answer.name, answer.leader);
                if decides(&reports) {
                    return reports;
                }
            }
            // Anything else is dropped. An error of the network may last, and must not keep this thread busy.
            Ok(_) => {}
            Err(_) => break,
        }
    }
    tokio::time::sleep_until(end).await;
    reports
}

/// Returns whether a datanode that reports this says that the leader is gone. A datanode at which none has led says so too.
fn is_gone(report: Option<LeaderReport>, interval: Duration) -> bool {
    report.is_none_or(|report| {
        report.closed || Duration::from_millis(report.silent_ms) >= interval * SILENT_INTERVALS
    })
}

#[cfg(test)]
mod tests {
    use protocol::store::types::ulid;

    use super::*;

    #[test]
    fn a_leader_is_gone_if_its_connection_has_ended_or_it_is_silent() {
        let interval = Duration::from_secs(5);
        let report =
            |closed, silent_ms| LeaderReport { epoch: Epoch::after(None, ulid(1, 1)), closed, silent_ms };
        assert!(is_gone(None, interval));
        assert!(is_gone(Some(report(true, 0)), interval));
        assert!(is_gone(Some(report(false, 15_000)), interval));
        assert!(!is_gone(Some(report(false, 14_999)), interval));
    }
}
