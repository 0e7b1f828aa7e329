//! Actividad 2, between the headnode and a datanode: one JSON object a line, over a TCP connection that is kept.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | headnode | `{"hello":{"v":1,"headnode":"01…","datanode":"datanode1","incarnation":"01…"}}` | the first line: whom it takes this for |
//! | headnode | `{"store":{"id":"01…","client":"172.21.0.3:40522","message":"Hola"}}` | store this, once |
//! | headnode | `{"fetch":{"id":"01…"}}` | give it back |
//! | headnode | `{"inventory":{"from":1}}` | what is held from this number on |
//! | datanode | `{"welcome":{"v":1,"records":12}}` | reply to hello; from now on this connection alone may store |
//! | datanode | `{"stored":{"id":"01…","seq":17,"message_crc32c":"bfaac1a4"}}` | on disk, now or before |
//! | datanode | `{"record":{"seq":17,"time":"…","id":"01…","client":"…","message":"Hola"}}` | reply to fetch |
//! | datanode | `{"holdings":{"records":[[17,"01…","…","172.21.0.3:40522","bfaac1a4"]],"more":false}}` | reply to inventory: number, id, time, client, checksum; a part of them if `more` |
//! | datanode | `{"failed":{"code":"disk-full","reason":"…"}}` | reply to anything |
//!
//! Requests may follow each other without waiting; replies come in their order. Numbers go up by one from record to
//! record; one that is missing belongs to a damaged record.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::types::{Id, Incarnation, MessageCrc, NodeName, Record};

/// Records in one reply to `inventory`, at most.
pub const HOLDINGS_PAGE: usize = 2000;

/// What the headnode says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The first line: who speaks, and whom it takes the listener for.
    Hello {
        /// The version that is spoken.
        v: u32,
        /// Which run of the headnode.
        headnode: Incarnation,
        /// Whom it wants to speak to.
        datanode: NodeName,
        /// Which run of it.
        incarnation: Incarnation,
    },
    /// Store a message, unless it is held already.
    Store {
        /// Its identifier.
        id: Id,
        /// Who sent it.
        client: SocketAddr,
        /// What was sent.
        message: String,
    },
    /// Give a record back.
    Fetch {
        /// Its identifier.
        id: Id,
    },
    /// List what is held.
    Inventory {
        /// The first sequence number to list.
        from: u64,
    },
}

/// What a datanode says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// To `hello`.
    Welcome {
        /// The version that is spoken.
        v: u32,
        /// Records held.
        records: u64,
    },
    /// To `store`: the message is on disk.
    Stored {
        /// Its identifier.
        id: Id,
        /// The record's number.
        seq: u64,
        /// Checksum of the message as it was stored.
        message_crc32c: MessageCrc,
    },
    /// To `fetch`.
    Record(Record),
    /// To `inventory`.
    Holdings {
        /// In the order of their numbers.
        records: Vec<Holding>,
        /// There are further ones.
        more: bool,
    },
    /// The request was not done.
    Failed {
        /// For programs.
        code: Failure,
        /// For people.
        reason: String,
    },
}

/// A record without its message: number, id, time of writing, client, checksum of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding(pub u64, pub Id, pub String, pub SocketAddr, pub MessageCrc);

/// Why a datanode did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// There is no room for the record.
    DiskFull,
    /// The disk failed: the datanode stops.
    StorageFailed,
    /// The same id was used for another message.
    IdConflict,
    /// It does not hold such a record.
    NotFound,
    /// The record is damaged.
    Damaged,
    /// Another datanode, or another run of it, than the hello was for.
    WrongDatanode,
    /// A newer connection has taken over.
    TakenOver,
    /// The request cannot be read.
    Malformed,
    /// It serves as many connections as it may.
    TooManyConnections,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::json;

    fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T, line: &str) {
        let mut bytes = Vec::new();
        json::encode(message, &mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{line}\n"));
        assert_eq!(json::decode::<T>(line.as_bytes()).as_ref(), Ok(message));
    }

    #[test]
    fn golden_requests() {
        let id = Id::from_parts(1, 2);
        let hello =
            Request::Hello { v: 1, headnode: id, datanode: "datanode1".parse().unwrap(), incarnation: id };
        golden(
            &hello,
            r#"{"hello":{"v":1,"headnode":"00000000010000000000000002","datanode":"datanode1","incarnation":"00000000010000000000000002"}}"#,
        );
        let client = "172.21.0.3:40522".parse().unwrap();
        golden(
            &Request::Store { id, client, message: "a\n\0".to_owned() },
            r#"{"store":{"id":"00000000010000000000000002","client":"172.21.0.3:40522","message":"a\n\u0000"}}"#,
        );
        golden(&Request::Fetch { id }, r#"{"fetch":{"id":"00000000010000000000000002"}}"#);
        golden(&Request::Inventory { from: 1 }, r#"{"inventory":{"from":1}}"#);
    }

    #[test]
    fn golden_replies() {
        let id = Id::from_parts(1, 2);
        let client = "172.21.0.3:40522".parse().unwrap();
        let message_crc32c = MessageCrc::of("Hola");
        let time = "2026-11-21T09:30:00.123Z".to_owned();
        golden(&Reply::Welcome { v: 1, records: 12 }, r#"{"welcome":{"v":1,"records":12}}"#);
        golden(
            &Reply::Stored { id, seq: 17, message_crc32c },
            r#"{"stored":{"id":"00000000010000000000000002","seq":17,"message_crc32c":"bfaac1a4"}}"#,
        );
        golden(
            &Reply::Record(Record { seq: 17, time: time.clone(), id, client, message: "Hola".to_owned() }),
            r#"{"record":{"seq":17,"time":"2026-11-21T09:30:00.123Z","id":"00000000010000000000000002","client":"172.21.0.3:40522","message":"Hola"}}"#,
        );
        golden(
            &Reply::Holdings { records: vec![Holding(17, id, time, client, message_crc32c)], more: false },
            r#"{"holdings":{"records":[[17,"00000000010000000000000002","2026-11-21T09:30:00.123Z","172.21.0.3:40522","bfaac1a4"]],"more":false}}"#,
        );
        golden(
            &Reply::Failed { code: Failure::DiskFull, reason: "why".to_owned() },
            r#"{"failed":{"code":"disk-full","reason":"why"}}"#,
        );
    }

    #[test]
    fn a_page_of_holdings_fits_a_frame() {
        let time = "2026-11-21T09:30:00.123Z".to_owned();
        let client = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let holding = Holding(u64::MAX, Id::max(), time, client, MessageCrc::of(""));
        let mut line = Vec::new();
        json::encode(&Reply::Holdings { records: vec![holding; HOLDINGS_PAGE], more: false }, &mut line);
        assert!(line.len() <= json::MAX_FRAME_BYTES, "{}", line.len());
    }
}
