//! The lines of `hearbeat_server.txt`, which record the result of each probe round.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use text::timestamp;

use crate::membership::RoundReport;

/// Returns the word for a datanode that answers or does not answer.
pub fn state_word(operative: bool) -> &'static str {
    if operative { "operativo" } else { "no operativo" }
}

/// Returns the lines of `hearbeat_server.txt` about a round. `ENLACE` marks a datanode that has answered no probe, and has
/// replied on its link.
pub fn round_lines(round: &RoundReport, now: DateTime<Utc>) -> String {
    let RoundReport { number, nodes, operative, expected, .. } = round;
    let time = timestamp(now);
    let mut lines = String::new();
    for node in nodes {
        let round_trip = node
            .round_trip
            .map_or("-".to_owned(), |round_trip| format!("{:.3}ms", round_trip.as_secs_f64() * 1000.0));
        let change = if node.changed { " CAMBIO" } else { "" };
        let state = state_word(node.is_operative);
        let by_link = if node.is_operative && node.round_trip.is_none() { " ENLACE" } else { "" };
        let address = node.address.map_or("-".to_owned(), |address| address.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            lines,
            "{time} ronda={number} {} {address} {state} rtt={round_trip}{by_link}{change}",
            node.name
        );
    }
    let missing = expected.saturating_sub(*operative);
    let _ =
        writeln!(lines, "{time} ronda={number} operativos={operative} esperados={expected} faltan={missing}");
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::membership::Sighting;

    #[test]
    fn golden_lines() {
        let node = |name: &str, round_trip, changed| Sighting {
            name: name.parse().unwrap(),
            address: Some("172.20.0.3:5001".parse().unwrap()),
            round_trip,
            is_operative: round_trip.is_some(),
            changed,
        };
        let by_link = Sighting { is_operative: true, ..node("datanode4", None, true) };
        let absent = Sighting { address: None, ..node("datanode3", None, true) };
        let round = RoundReport {
            number: 7,
            nodes: vec![
                node("datanode1", Some(Duration::from_micros(412)), false),
                node("datanode2", None, true),
                absent,
                by_link,
            ],
            answered: 1,
            operative: 2,
            expected: 3,
            silent: 0,
        };
        let now = DateTime::from_timestamp_millis(1_795_253_400_123).unwrap();
        let time = "2026-11-21T09:30:00.123Z";
        let expected = format!(
            "{time} ronda=7 datanode1 172.20.0.3:5001 operativo rtt=0.412ms\n\
             {time} ronda=7 datanode2 172.20.0.3:5001 no operativo rtt=- CAMBIO\n\
             {time} ronda=7 datanode3 - no operativo rtt=- CAMBIO\n\
             {time} ronda=7 datanode4 172.20.0.3:5001 operativo rtt=- ENLACE CAMBIO\n\
             {time} ronda=7 operativos=2 esperados=3 faltan=1\n"
        );
        assert_eq!(round_lines(&round, now), expected);
    }
}
