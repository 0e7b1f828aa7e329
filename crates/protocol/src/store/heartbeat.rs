//! Actividad 2, the heartbeat: one JSON object per datagram, of at most [`MAX_DATAGRAM_BYTES`].
//!
//! | from | to | datagram | meaning |
//! | --- | --- | --- | --- |
//! | headnode | group (multicast), or one datanode | `{"v":1,"probe":{"round":7,"token":81,"attempt":1,"spread_ms":0,"epoch":"3:01…"}}` | are you operative? A headnode that leads tells its epoch; one that stands by tells none, and asks as round 0 |
//! | datanode | headnode | `{"v":1,"answer":{"round":7,"token":81,"attempt":1,"name":"datanode1","incarnation":"01…","address":"172.20.0.3:5001","records":12,"free_bytes":1000,"sync":{"p50_us":210,"p99_us":900},"leader":{"epoch":"3:01…","closed":false,"silent_ms":120},"unreadable":2}}` | I am operative |
//! | headnode | datanode | `{"v":1,"refused":{"name":"datanode1","incarnation":"01…","reason":"…"}}` | another datanode has your name |
//!
//! `token` is random for each round: an answer without it does not belong to this round. `spread_ms` asks each datanode
//! to wait a random part of that time, so that thousands of answers do not arrive at once. Any other datagram is
//! counted and dropped.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::store::json::{self, Malformed};
use crate::store::types::{Epoch, Incarnation, NodeName};

/// The longest datagram in bytes. It fits into one packet of every usual network, so it is never sent in fragments.
pub const MAX_DATAGRAM_BYTES: usize = 1200;

/// The default multicast group and port.
pub const DEFAULT_GROUP: &str = "239.255.50.10:5003";

/// Asks datanodes whether they are operative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Number of the round, from 1. It is 0 if the headnode stands by.
    pub round: u64,
    /// A number that is random for each round.
    pub token: u64,
    /// The number of the probe within its round, from 1.
    pub attempt: u32,
    /// Milliseconds over which answers are to be spread at random.
    pub spread_ms: u64,
    /// The epoch in which the headnode leads. It is absent if it stands by, or is of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// The answer of a datanode that is operative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// The probe's.
    pub round: u64,
    /// The probe's.
    pub token: u64,
    /// The probe's.
    pub attempt: u32,
    /// The name of the datanode that answers.
    pub name: NodeName,
    /// The run of the datanode.
    pub incarnation: Incarnation,
    /// The TCP address on which the datanode stores.
    pub address: SocketAddr,
    /// The number of records that the datanode holds.
    pub records: u64,
    /// The free space for the datanode, in bytes.
    pub free_bytes: u64,
    /// How long its disk takes. It is absent if nothing was stored lately, or in answers of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncTimes>,
    /// What the datanode knows of the headnode that leads. It is absent if none has led here, or in answers of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderReport>,
    /// How many record numbers it has assigned that no readable record has. If that changes, records were found damaged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a datanode knows of the headnode with the highest epoch that it has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderReport {
    /// That epoch.
    pub epoch: Epoch,
    /// Whether the connection of that headnode to the datanode has ended, and no other one has come since.
    pub closed: bool,
    /// The time since that headnode last gave a sign of life, or since the start of the datanode, in milliseconds.
    pub silent_ms: u64,
}

/// How long the last syncs of `data.txt` took, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncTimes {
    /// Half of them took at most so long.
    pub p50_us: u64,
    /// 99 of 100 took at most so long.
    pub p99_us: u64,
}

/// Tells a datanode that it is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRefused {
    /// The name of the datanode that is refused.
    pub name: NodeName,
    /// The run of the datanode.
    pub incarnation: Incarnation,
    /// The reason, for people.
    pub reason: String,
}

/// The content of a datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Datagram {
    /// The headnode asks; see [`Probe`].
    Probe(Probe),
    /// A datanode answers; see [`ProbeAnswer`].
    Answer(ProbeAnswer),
    /// The headnode refuses a datanode; see [`NameRefused`].
    Refused(NameRefused),
}

#[derive(Serialize, Deserialize)]
struct VersionedDatagram<T> {
    v: u32,
    #[serde(flatten)]
    datagram: T,
}

impl Datagram {
    /// Returns the bytes to send.
    ///
    /// # Panics
    /// Never panics: all fields of a datagram can be written as JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let versioned = VersionedDatagram { v: json::VERSION, datagram: self };
        serde_json::to_vec(&versioned).expect("datagrams hold nothing that JSON cannot")
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// Fails with [`Malformed`] if the bytes are not a datagram of this protocol.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_DATAGRAM_BYTES {
            return Err(Malformed::Shape(format!("longer than {MAX_DATAGRAM_BYTES} bytes")));
        }
        json::check_version(bytes)?;
        json::decode::<VersionedDatagram<Self>>(bytes).map(|versioned| versioned.datagram)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_datagrams() {
        let probe = Datagram::Probe(Probe { round: 7, token: 81, attempt: 1, spread_ms: 0, epoch: None });
        let epoch = Epoch { number: 3, taken_by: Incarnation::from_parts(1, 2) };
        let leading =
            Datagram::Probe(Probe { round: 7, token: 81, attempt: 1, spread_ms: 0, epoch: Some(epoch) });
        let answer = ProbeAnswer {
            round: 7,
            token: 81,
            attempt: 1,
            name: "datanode1".parse().unwrap(),
            incarnation: Incarnation::from_parts(1, 2),
            address: "172.20.0.3:5001".parse().unwrap(),
            records: 12,
            free_bytes: 1000,
            sync: None,
            leader: None,
            unreadable: 0,
        };
        let sync = Some(SyncTimes { p50_us: 210, p99_us: 900 });
        let synced = ProbeAnswer { sync, unreadable: 2, ..answer.clone() };
        let led = LeaderReport { epoch, closed: true, silent_ms: 120 };
        let led = ProbeAnswer { leader: Some(led), ..answer.clone() };
        let refused = Datagram::Refused(NameRefused {
            name: "datanode1".parse().unwrap(),
            incarnation: Incarnation::from_parts(1, 2),
            reason: "why".to_owned(),
        });
        let golden = [
            (probe, r#"{"v":1,"probe":{"round":7,"token":81,"attempt":1,"spread_ms":0}}"#),
            (
                leading,
                r#"{"v":1,"probe":{"round":7,"token":81,"attempt":1,"spread_ms":0,"epoch":"3:00000000010000000000000002"}}"#,
            ),
            (
                Datagram::Answer(led),
                r#"{"v":1,"answer":{"round":7,"token":81,"attempt":1,"name":"datanode1","incarnation":"00000000010000000000000002","address":"172.20.0.3:5001","records":12,"free_bytes":1000,"leader":{"epoch":"3:00000000010000000000000002","closed":true,"silent_ms":120}}}"#,
            ),
            (
                Datagram::Answer(answer),
                r#"{"v":1,"answer":{"round":7,"token":81,"attempt":1,"name":"datanode1","incarnation":"00000000010000000000000002","address":"172.20.0.3:5001","records":12,"free_bytes":1000}}"#,
            ),
            (
                Datagram::Answer(synced),
                r#"{"v":1,"answer":{"round":7,"token":81,"attempt":1,"name":"datanode1","incarnation":"00000000010000000000000002","address":"172.20.0.3:5001","records":12,"free_bytes":1000,"sync":{"p50_us":210,"p99_us":900},"unreadable":2}}"#,
            ),
            (
                refused,
                r#"{"v":1,"refused":{"name":"datanode1","incarnation":"00000000010000000000000002","reason":"why"}}"#,
            ),
        ];
        for (datagram, bytes) in golden {
            assert_eq!(String::from_utf8(datagram.encode()).unwrap(), bytes);
            assert_eq!(Datagram::decode(bytes.as_bytes()), Ok(datagram));
        }
    }

    #[test]
    fn the_longest_answer_fits() {
        let answer = Datagram::Answer(ProbeAnswer {
            round: u64::MAX,
            token: u64::MAX,
            attempt: u32::MAX,
            name: "x".repeat(63).parse().unwrap(),
            incarnation: Incarnation::from_parts(u64::MAX >> 16, u128::MAX),
            address: "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535".parse().unwrap(),
            records: u64::MAX,
            free_bytes: u64::MAX,
            sync: Some(SyncTimes { p50_us: u64::MAX, p99_us: u64::MAX }),
            leader: Some(LeaderReport {
                epoch: Epoch {
                    number: u64::MAX,
                    taken_by: Incarnation::from_parts(u64::MAX >> 16, u128::MAX),
                },
                closed: false,
                silent_ms: u64::MAX,
            }),
            unreadable: u64::MAX,
        });
        assert!(answer.encode().len() <= MAX_DATAGRAM_BYTES);
    }

    #[test]
    fn junk_is_told_from_another_version() {
        let version = Datagram::decode(br#"{"v":2,"hello":1}"#);
        assert_eq!(version, Err(Malformed::Version(2)));
        for junk in
            ["", "hola", "{}", "[1]", r#"{"v":1}"#, r#"{"v":1,"probe":{"round":-1}}"#, r#"{"v":1,"x":{}}"#]
        {
            assert!(Datagram::decode(junk.as_bytes()).is_err(), "{junk}");
        }
        let long = format!(
            r#"{{"v":1,"probe":{{"round":7,"token":81,"attempt":1,"spread_ms":0}}}}{}"#,
            " ".repeat(1200)
        );
        assert!(Datagram::decode(long.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
            let _ = Datagram::decode(&bytes);
        }
    }
}
