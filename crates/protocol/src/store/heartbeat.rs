//! Actividad 2, the heartbeat: one JSON object per datagram, of at most [`MAX_DATAGRAM_BYTES`].
//!
//! | from | to | datagram | meaning |
//! | --- | --- | --- | --- |
//! | headnode | group (multicast), or one datanode | `{"v":1,"probe":{"round":7,"token":81,"attempt":1,"spread_ms":0}}` | are you operative? |
//! | datanode | headnode | `{"v":1,"answer":{"round":7,"token":81,"attempt":1,"name":"datanode1","incarnation":"01…","address":"172.20.0.3:5001","records":12,"free_bytes":1000}}` | I am operative |
//! | headnode | datanode | `{"v":1,"refused":{"name":"datanode1","incarnation":"01…","reason":"…"}}` | another datanode has your name |
//!
//! `token` is random for each round: an answer without it does not belong to this round. `spread_ms` asks each datanode
//! to wait a random part of that time, so that thousands of answers do not arrive at once. Any other datagram is
//! counted and dropped.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::store::json::{self, Malformed};
use crate::store::types::{Incarnation, NodeName};

/// The longest datagram in bytes. It fits into one packet of every usual network, so it is never sent in fragments.
pub const MAX_DATAGRAM_BYTES: usize = 1200;

/// The default multicast group and port.
pub const DEFAULT_GROUP: &str = "239.255.50.10:5003";

/// Asks datanodes whether they are operative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Number of the round, from 1.
    pub round: u64,
    /// A number that is random for each round.
    pub token: u64,
    /// The number of the probe within its round, from 1.
    pub attempt: u32,
    /// Milliseconds over which answers are to be spread at random.
    pub spread_ms: u64,
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
        let probe = Datagram::Probe(Probe { round: 7, token: 81, attempt: 1, spread_ms: 0 });
        let answer = Datagram::Answer(ProbeAnswer {
            round: 7,
            token: 81,
            attempt: 1,
            name: "datanode1".parse().unwrap(),
            incarnation: Incarnation::from_parts(1, 2),
            address: "172.20.0.3:5001".parse().unwrap(),
            records: 12,
            free_bytes: 1000,
        });
        let refused = Datagram::Refused(NameRefused {
            name: "datanode1".parse().unwrap(),
            incarnation: Incarnation::from_parts(1, 2),
            reason: "why".to_owned(),
        });
        let golden = [
            (probe, r#"{"v":1,"probe":{"round":7,"token":81,"attempt":1,"spread_ms":0}}"#),
            (
                answer,
                r#"{"v":1,"answer":{"round":7,"token":81,"attempt":1,"name":"datanode1","incarnation":"00000000010000000000000002","address":"172.20.0.3:5001","records":12,"free_bytes":1000}}"#,
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
