//! The lines of `hearbeat_server.txt`, which record the result of each probe round.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use chrono::{DateTime, Utc};
use protocol::store::types::NodeName;
use text::timestamp;

use crate::membership::RoundReport;

/// The beginning of the word, in a round's last line, that states how many datanodes have answered.
const TOTAL_KEY: &str = "operativos=";
/// The longest round in `hearbeat_server.txt`, in bytes: 100,000 datanodes with the longest names.
const MAX_ROUND_BYTES: u64 = 20 * 1024 * 1024;

/// Returns the word for a datanode that answers or does not answer.
pub fn state_word(operative: bool) -> &'static str {
    if operative { "operativo" } else { "no operativo" }
}

/// Returns the lines of `hearbeat_server.txt` about a round.
pub fn round_lines(round: &RoundReport, now: DateTime<Utc>) -> String {
    let RoundReport { number, nodes, answered, expected, .. } = round;
    let time = timestamp(now);
    let mut lines = String::new();
    for node in nodes {
        let round_trip = node
            .round_trip
            .map_or("-".to_owned(), |round_trip| format!("{:.3}ms", round_trip.as_secs_f64() * 1000.0));
        let change = if node.changed { " CAMBIO" } else { "" };
        let state = state_word(node.round_trip.is_some());
        let address = node.address.map_or("-".to_owned(), |address| address.to_string());
        // Writing to a String cannot fail.
        let _ =
            writeln!(lines, "{time} ronda={number} {} {address} {state} rtt={round_trip}{change}", node.name);
    }
    let missing = expected.saturating_sub(*answered);
    let _ =
        writeln!(lines, "{time} ronda={number} {TOTAL_KEY}{answered} esperados={expected} faltan={missing}");
    lines
}

/// Returns the datanodes in the last whole round of `hearbeat_server.txt`, which are all that earlier runs have known.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn names_in_last_round(path: &Path) -> io::Result<Vec<NodeName>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_ROUND_BYTES)))?;
    let mut tail = Vec::new();
    file.take(MAX_ROUND_BYTES).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let third_words = tail.lines().rev().map(|line| line.split(' ').nth(2).unwrap_or_default());
    let is_total = |word: &&str| word.starts_with(TOTAL_KEY);
    let last_round =
        third_words.skip_while(|word| !is_total(word)).skip(1).take_while(|word| !is_total(word));
    let mut names: Vec<NodeName> = last_round.filter_map(|word| word.parse().ok()).collect();
    names.reverse();
    Ok(names)
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
            changed,
        };
        let absent = Sighting { address: None, ..node("datanode3", None, true) };
        let round = RoundReport {
            number: 7,
            nodes: vec![
                node("datanode1", Some(Duration::from_micros(412)), false),
                node("datanode2", None, true),
                absent,
            ],
            answered: 1,
            expected: 3,
            silent: 0,
        };
        let now = DateTime::from_timestamp_millis(1_795_253_400_123).unwrap();
        let time = "2026-11-21T09:30:00.123Z";
        let expected = format!(
            "{time} ronda=7 datanode1 172.20.0.3:5001 operativo rtt=0.412ms\n\
             {time} ronda=7 datanode2 172.20.0.3:5001 no operativo rtt=- CAMBIO\n\
             {time} ronda=7 datanode3 - no operativo rtt=- CAMBIO\n\
             {time} ronda=7 operativos=1 esperados=3 faltan=2\n"
        );
        assert_eq!(round_lines(&round, now), expected);
    }

    #[test]
    fn the_names_of_the_last_whole_round_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hearbeat_server.txt");
        let names = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let names = names_in_last_round(&path).unwrap();
            names.iter().map(NodeName::to_string).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names(""), "");
        let first = "t ronda=1 a 1.1.1.1:1 operativo rtt=1ms\nt ronda=1 operativos=1 esperados=3 faltan=2\n";
        assert_eq!(names(first), "a");
        let second = "t ronda=1 b - no operativo rtt=-\nt ronda=1 c - no operativo rtt=-\n";
        assert_eq!(names(&format!("{first}{second}")), "a", "the second round is not whole");
        let whole = format!("{first}{second}t ronda=1 operativos=0 esperados=3 faltan=3\nt ron");
        assert_eq!(names(&whole), "b,c");
        assert_eq!(names("hola\n\n x\n"), "", "somebody's own text");
    }
}
