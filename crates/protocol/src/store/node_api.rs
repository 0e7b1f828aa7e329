//! Actividad 2, between the headnode and a datanode: one JSON object per line, over a TCP connection that stays open.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | headnode | `{"hello":{"v":1,"headnode":"01…","datanode":"datanode1","incarnation":"01…","highest":17,"epoch":"3:01…"}}` | the first line, at most [`MAX_HELLO_BYTES`]: the datanode that the headnode expects here, the highest number that the headnode knows of it, and the epoch in which the headnode leads |
//! | headnode | `{"peers":{"names":["datanode1"],"after":"datanode1"}}` | remember these datanodes, and send the names that you remember behind `after`, in order |
//! | headnode | `{"gaps":{"from":1}}` | list the numbers, from this one on, that were assigned and that no readable record has |
//! | headnode | `{"store":{"id":"01…","client":"172.21.0.3:40522","message":"Hola"}}` | store this message, once |
//! | headnode | `{"fetch":{"id":"01…"}}` | send this record |
//! | headnode | `{"inventory":{"from":1}}` | list the records from this number on |
//! | headnode | `{"ping":{}}` | are you there? |
//! | headnode | `{"drain":{"on":true}}` | remember that an operator drains you, or with `false` that nobody does |
//! | datanode | `{"welcome":{"v":1,"records":12}}` | reply to hello, once the epoch is on disk; from now on this connection alone may store, and no headnode with a lower epoch ever will; `"draining":true` says that an operator drains this datanode |
//! | datanode | `{"superseded":{"epoch":"4:01…"}}` | reply to the hello of a headnode whose epoch is lower than this one |
//! | datanode | `{"stored":{"id":"01…","seq":17,"message_crc32c":"bfaac1a4"}}` | the message is on disk, stored now or before |
//! | datanode | `{"record":{"seq":17,"time":"…","id":"01…","client":"…","message":"Hola"}}` | reply to fetch |
//! | datanode | `{"holdings":{"records":[[17,"01…","…","172.21.0.3:40522","bfaac1a4","Hola"]],"more":false}}` | reply to inventory: number, id, time, client, checksum and beginning of each message; `more` says that further ones follow |
//! | datanode | `{"peers":{"names":["datanode1","datanode2"],"more":false}}` | reply to peers, once the names are on disk; `more` says that further ones follow |
//! | datanode | `{"gaps":{"ranges":[[7,9]],"more":false}}` | reply to gaps: first and last number of each; `more` says that further ones follow |
//! | datanode | `{"pong":{}}` | reply to ping |
//! | datanode | `{"drain":{"on":true}}` | reply to drain, once that is on disk |
//! | datanode | `{"failed":{"code":"disk-full","reason":"…"}}` | reply to any request that was not carried out |
//!
//! The headnode may send requests without waiting for replies, which come in the same order. Any other first line than
//! `hello` is refused. Numbers increase from record to record, and none is ever assigned twice. A missing number
//! belongs to a record that was damaged, lost, or torn by a crash.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::store::types::{Epoch, Id, Incarnation, MessageCrc, NodeName, StoredRecord};

/// The highest number of records in one reply to `inventory`.
pub const HOLDINGS_PAGE: usize = 700;
/// The highest number of names in one `peers` request or reply.
pub const PEERS_PAGE: usize = 2000;
/// The highest number of ranges in one reply to `gaps`.
pub const GAPS_PAGE: usize = 5000;
/// The longest first line of a connection, in bytes.
pub const MAX_HELLO_BYTES: usize = 1024;

/// A request of the headnode to a datanode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeRequest {
    /// The first line: introduces the headnode, and names the datanode that it expects.
    Hello {
        /// The version of the protocol.
        v: u32,
        /// The run of the headnode.
        headnode: Incarnation,
        /// The name of the datanode that the headnode expects.
        datanode: NodeName,
        /// The run of that datanode.
        incarnation: Incarnation,
        /// The highest number that the registry knows of this datanode, or 0.
        #[serde(default)]
        highest: u64,
        /// The epoch in which the headnode leads. Headnodes of older versions have none, which is lower than any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
    },
    /// Exchange the names of the datanodes that were ever known.
    Peers {
        /// Names to be remembered, at most [`PEERS_PAGE`].
        names: Vec<NodeName>,
        /// The reply lists names behind this one, or from the first one on if it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<NodeName>,
    },
    /// List the numbers that were assigned and that no readable record has.
    Gaps {
        /// The first number to list.
        from: u64,
    },
    /// Store a message, unless the datanode holds it already.
    Store {
        /// The identifier of the message.
        id: Id,
        /// The address of the client that sent the message.
        client: SocketAddr,
        /// The text of the message.
        message: String,
    },
    /// Send a record.
    Fetch {
        /// The identifier of the message.
        id: Id,
    },
    /// List the records that the datanode holds.
    Inventory {
        /// The first sequence number to list.
        from: u64,
    },
    /// Tell that you are there.
    Ping {},
    /// Remember whether an operator drains this datanode.
    Drain {
        /// Whether its messages are moved elsewhere, so that it can be removed.
        on: bool,
    },
}

/// A reply of a datanode to the headnode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeReply {
    /// The reply to `hello`.
    Welcome {
        /// The version of the protocol.
        v: u32,
        /// The number of records that the datanode holds.
        records: u64,
        /// Whether an operator drains it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        draining: bool,
    },
    /// The reply to the `hello` of a headnode that leads no more.
    Superseded {
        /// The highest epoch of any headnode that this datanode has met.
        epoch: Epoch,
    },
    /// The reply to `peers`: the names are on disk.
    Peers {
        /// The names that the datanode remembers, in order.
        names: Vec<NodeName>,
        /// Whether further ones follow.
        more: bool,
    },
    /// The reply to `ping`.
    Pong {},
    /// The reply to `drain`: it is on disk.
    Drain {
        /// What the datanode remembers.
        on: bool,
    },
    /// The reply to `gaps`.
    Gaps {
        /// First and last number of each gap, in order.
        ranges: Vec<(u64, u64)>,
        /// Whether further ones follow.
        more: bool,
    },
    /// The reply to `store`: the message is on disk.
    Stored {
        /// The identifier of the message.
        id: Id,
        /// The number of the record.
        seq: u64,
        /// The checksum of the message as it was stored.
        message_crc32c: MessageCrc,
    },
    /// The reply to `fetch`.
    Record(StoredRecord),
    /// The reply to `inventory`.
    Holdings {
        /// The records, in the order of their numbers.
        records: Vec<HeldRecord>,
        /// Whether further ones follow.
        more: bool,
    },
    /// The request was not carried out.
    Failed {
        /// The reason for programs.
        code: NodeFailure,
        /// The reason for people.
        reason: String,
    },
}

/// A record without its message: number, id, time of writing, client, checksum and
/// [`beginning`](crate::store::types::beginning) of the message. Older datanodes leave the beginning out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord(
    pub u64,
    pub Id,
    pub String,
    pub SocketAddr,
    pub MessageCrc,
    #[serde(default, skip_serializing_if = "Option::is_none")] pub Option<String>,
);

/// Why a datanode did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeFailure {
    /// There is no room for the record.
    DiskFull,
    /// The disk failed, and the datanode stops.
    StorageFailed,
    /// The same id was used for another message.
    IdConflict,
    /// The datanode does not hold such a record.
    NotFound,
    /// The record is damaged.
    Damaged,
    /// The disk does not give the record now. It may do so later.
    Unreadable,
    /// The hello was meant for another datanode, or for another run of this one.
    WrongDatanode,
    /// A newer connection has taken over.
    TakenOver,
    /// The request cannot be read.
    Malformed,
    /// The datanode already serves as many connections as it may.
    TooManyConnections,
    /// No `hello` arrived in the allowed time.
    HelloTimeout,
    /// The datanode serves only connections that show a key.
    KeyRequired,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::store::json;
    use crate::store::types::{BEGINNING_CHARS, beginning};

    fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T, line: &str) {
        let mut bytes = Vec::new();
        json::encode(message, &mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{line}\n"));
        assert_eq!(json::decode::<T>(line.as_bytes()).as_ref(), Ok(message));
    }

    #[test]
    fn golden_requests() {
        let id = Id::from_parts(1, 2);
        let datanode: NodeName = "datanode1".parse().unwrap();
        golden(
            &NodeRequest::Hello {
                v: 1,
                headnode: id,
                datanode: datanode.clone(),
                incarnation: id,
                highest: 17,
                epoch: Some(Epoch { number: 3, taken_by: id }),
            },
            r#"{"hello":{"v":1,"headnode":"00000000010000000000000002","datanode":"datanode1","incarnation":"00000000010000000000000002","highest":17,"epoch":"3:00000000010000000000000002"}}"#,
        );
        golden(
            &NodeRequest::Peers { names: vec![datanode.clone()], after: Some(datanode) },
            r#"{"peers":{"names":["datanode1"],"after":"datanode1"}}"#,
        );
        golden(&NodeRequest::Peers { names: vec![], after: None }, r#"{"peers":{"names":[]}}"#);
        golden(&NodeRequest::Gaps { from: 1 }, r#"{"gaps":{"from":1}}"#);
        golden(&NodeRequest::Ping {}, r#"{"ping":{}}"#);
        golden(&NodeReply::Pong {}, r#"{"pong":{}}"#);
        golden(&NodeRequest::Drain { on: true }, r#"{"drain":{"on":true}}"#);
        golden(&NodeReply::Drain { on: false }, r#"{"drain":{"on":false}}"#);
        let client = "172.21.0.3:40522".parse().unwrap();
        golden(
            &NodeRequest::Store { id, client, message: "a\n\0".to_owned() },
            r#"{"store":{"id":"00000000010000000000000002","client":"172.21.0.3:40522","message":"a\n\u0000"}}"#,
        );
        golden(&NodeRequest::Fetch { id }, r#"{"fetch":{"id":"00000000010000000000000002"}}"#);
        golden(&NodeRequest::Inventory { from: 1 }, r#"{"inventory":{"from":1}}"#);
    }

    #[test]
    fn golden_replies() {
        let id = Id::from_parts(1, 2);
        let client = "172.21.0.3:40522".parse().unwrap();
        let message_crc32c = MessageCrc::of("Hola");
        let time = "2026-11-21T09:30:00.123Z".to_owned();
        let welcome = |draining| NodeReply::Welcome { v: 1, records: 12, draining };
        golden(&welcome(false), r#"{"welcome":{"v":1,"records":12}}"#);
        golden(&welcome(true), r#"{"welcome":{"v":1,"records":12,"draining":true}}"#);
        golden(
            &NodeReply::Superseded { epoch: Epoch { number: 4, taken_by: id } },
            r#"{"superseded":{"epoch":"4:00000000010000000000000002"}}"#,
        );
        golden(
            &NodeReply::Peers { names: vec!["datanode1".parse().unwrap()], more: false },
            r#"{"peers":{"names":["datanode1"],"more":false}}"#,
        );
        golden(
            &NodeReply::Gaps { ranges: vec![(7, 9)], more: false },
            r#"{"gaps":{"ranges":[[7,9]],"more":false}}"#,
        );
        golden(
            &NodeReply::Stored { id, seq: 17, message_crc32c },
            r#"{"stored":{"id":"00000000010000000000000002","seq":17,"message_crc32c":"bfaac1a4"}}"#,
        );
        golden(
            &NodeReply::Record(StoredRecord {
                seq: 17,
                time: time.clone(),
                id,
                client,
                message: "Hola".to_owned(),
            }),
            r#"{"record":{"seq":17,"time":"2026-11-21T09:30:00.123Z","id":"00000000010000000000000002","client":"172.21.0.3:40522","message":"Hola"}}"#,
        );
        let holding =
            |beginning: Option<String>| HeldRecord(17, id, time.clone(), client, message_crc32c, beginning);
        golden(
            &NodeReply::Holdings { records: vec![holding(Some("Hola".to_owned()))], more: false },
            r#"{"holdings":{"records":[[17,"00000000010000000000000002","2026-11-21T09:30:00.123Z","172.21.0.3:40522","bfaac1a4","Hola"]],"more":false}}"#,
        );
        golden(
            &NodeReply::Holdings { records: vec![holding(None)], more: false },
            r#"{"holdings":{"records":[[17,"00000000010000000000000002","2026-11-21T09:30:00.123Z","172.21.0.3:40522","bfaac1a4"]],"more":false}}"#,
        );
        golden(
            &NodeReply::Failed { code: NodeFailure::DiskFull, reason: "why".to_owned() },
            r#"{"failed":{"code":"disk-full","reason":"why"}}"#,
        );
    }

    #[test]
    fn a_page_of_holdings_fits_a_frame() {
        let time = "2026-11-21T09:30:00.123Z".to_owned();
        let client = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        // Each of these characters takes six bytes.
        let message = "\u{1}".repeat(BEGINNING_CHARS + 1);
        let (crc, beginning) = (MessageCrc::of(""), Some(beginning(&message)));
        let holding = HeldRecord(u64::MAX, Id::max(), time, client, crc, beginning);
        fits(
            &NodeReply::Holdings { records: vec![holding; HOLDINGS_PAGE], more: false },
            json::MAX_FRAME_BYTES,
        );
    }

    #[test]
    fn pages_of_names_and_gaps_and_the_longest_hello_fit() {
        let name: NodeName = "x".repeat(63).parse().unwrap();
        let names = vec![name.clone(); PEERS_PAGE];
        fits(&NodeRequest::Peers { names, after: Some(name.clone()) }, json::MAX_FRAME_BYTES);
        fits(
            &NodeReply::Gaps { ranges: vec![(u64::MAX, u64::MAX); GAPS_PAGE], more: false },
            json::MAX_FRAME_BYTES,
        );
        let longest = NodeRequest::Hello {
            v: u32::MAX,
            headnode: Id::max(),
            datanode: name,
            incarnation: Id::max(),
            highest: u64::MAX,
            epoch: Some(Epoch { number: u64::MAX, taken_by: Id::max() }),
        };
        fits(&longest, MAX_HELLO_BYTES);
    }

    fn fits(message: &impl Serialize, bytes: usize) {
        let mut line = Vec::new();
        json::encode(message, &mut line);
        assert!(line.len() <= bytes, "{}", line.len());
    }
}
