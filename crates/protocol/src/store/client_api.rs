//! Actividad 2, between a client and the headnode: one JSON object per line, so that a person can use the protocol with
//! `nc`.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | client | `{"put":{"id":"01…","new":true,"message":"Hola"}}` | store the message; without `id` the headnode makes one, and a retry is another message; `new` states that this id was never sent before |
//! | client | `{"get":{"id":"01…"}}` | read the message back |
//! | client | `{"list":{"last":10}}` | list the last messages, newest first; `before` asks for older ones |
//! | client | `{"status":{}}` | report the datanodes and totals |
//! | headnode | `{"saved":{"id":"01…","places":[{"datanode":"datanode2","seq":17}],"message_crc32c":"bfaac1a4"}}` | the message is on disk at these places |
//! | headnode | `{"record":{"id":"01…","time":"…","client":"…","message":"Hola","from":{"datanode":"datanode2","seq":17}}}` | reply to get |
//! | headnode | `{"messages":{"entries":[…],"before":123}}` | reply to list; ask again with this `before` for older ones |
//! | headnode | `{"status":{…}}` | reply to status: [`StoreStatus`] |
//! | headnode | `{"error":{"id":"01…","code":"no-available-datanode","reason":"…"}}` | the request was not carried out; [`ErrorCode`] lists the codes |
//!
//! A line that does not begin with `{` is a message in plain text, and its reply is a line in Spanish: see [`plain`].
//!
//! Any request may state the version, `"v":1`. A client may send requests without waiting for replies, which come in
//! the same order. After an error the connection stays open, except after `too-many-connections`, `idle-timeout`,
//! `shutting-down` and `registry-failed`.

pub mod plain;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::store::json::{self, Malformed};
use crate::store::types::{Id, MessageCrc, NodeName, Place};
pub use crate::store::types::{NodeState, RegistryEntry};

/// The highest number of entries in one reply to `list`.
pub const LIST_PAGE: usize = 500;

/// A request of a client to the headnode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientRequest {
    /// Store a message.
    Put {
        /// The message's identifier. If there is none, the headnode makes one.
        id: Option<Id>,
        /// Whether the identifier was made just now and never sent before.
        is_new: bool,
        /// The text to store, at most [`MAX_MESSAGE_BYTES`](crate::store::types::MAX_MESSAGE_BYTES).
        message: String,
    },
    /// Read a message back.
    Get {
        /// The identifier of the message.
        id: Id,
    },
    /// List the last messages that were stored.
    List {
        /// How many messages to list, at most [`LIST_PAGE`].
        last: usize,
        /// Lists only messages in front of this mark, which an earlier reply contained.
        before: Option<u64>,
    },
    /// Report the datanodes and totals.
    Status,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Id>,
    #[serde(default, rename = "new", skip_serializing_if = "is_false")]
    is_new: bool,
    message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GetBody {
    id: Id,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListBody {
    #[serde(default = "default_last")]
    last: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
}

fn default_last() -> usize {
    10
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

/// A request as it is sent. It is a struct, because serde reads a struct several times faster than an enum with a
/// version beside it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestFrame {
    #[serde(default = "json::version")]
    v: u32,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    put: Option<PutBody>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    get: Option<GetBody>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    list: Option<ListBody>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    status: Option<EmptyBody>,
}

/// Reads a value that is present, so that `null` does not count as a request that was left out.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl ClientRequest {
    /// Appends the request and a line end to `line`.
    pub fn encode(self, line: &mut Vec<u8>) {
        let mut frame = RequestFrame { v: json::VERSION, put: None, get: None, list: None, status: None };
        match self {
            Self::Put { id, is_new, message } => frame.put = Some(PutBody { id, is_new, message }),
            Self::Get { id } => frame.get = Some(GetBody { id }),
            Self::List { last, before } => frame.list = Some(ListBody { last, before }),
            Self::Status => frame.status = Some(EmptyBody {}),
        }
        json::encode(&frame, line);
    }

    /// Reads a request from a line.
    ///
    /// # Errors
    /// Fails with [`Malformed`] if the line is not a request.
    pub fn decode(line: &str) -> Result<Self, Malformed> {
        let frame: RequestFrame = match json::decode(line.as_bytes()) {
            Ok(frame) => frame,
            // A message of a later version may have any form.
            Err(malformed) => return Err(json::check_version(line.as_bytes()).err().unwrap_or(malformed)),
        };
        if frame.v != json::VERSION {
            return Err(Malformed::Version(frame.v));
        }
        match frame {
            RequestFrame {
                put: Some(PutBody { id, is_new, message }),
                get: None,
                list: None,
                status: None,
                ..
            } => Ok(Self::Put { id, is_new, message }),
            RequestFrame { put: None, get: Some(GetBody { id }), list: None, status: None, .. } => {
                Ok(Self::Get { id })
            }
            RequestFrame {
                put: None,
                get: None,
                list: Some(ListBody { last, before }),
                status: None,
                ..
            } => Ok(Self::List { last, before }),
            RequestFrame { put: None, get: None, list: None, status: Some(EmptyBody {}), .. } => {
                Ok(Self::Status)
            }
            _ => Err(Malformed::Shape("exactly one of put, get, list and status is needed".to_owned())),
        }
    }
}

/// A reply of the headnode to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadnodeReply {
    /// The reply to `put`: the message is on disk.
    Saved {
        /// The identifier of the message.
        id: Id,
        /// The places at which the message is on disk.
        places: Vec<Place>,
        /// The checksum of the message as it was stored.
        message_crc32c: MessageCrc,
    },
    /// The reply to `get`.
    Record {
        /// The identifier of the message.
        id: Id,
        /// When the datanode wrote the message: RFC 3339, UTC.
        time: String,
        /// The address of the client that sent the message.
        client: SocketAddr,
        /// The text of the message.
        message: String,
        /// The place from which the message was read.
        from: Place,
    },
    /// The reply to `list`.
    Messages {
        /// The messages, newest first.
        entries: Vec<RegistryEntry>,
        /// The mark in front of which older messages are. It is absent if there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
    },
    /// The reply to `status`.
    Status(StoreStatus),
    /// The request was not carried out.
    Error {
        /// The identifier in the request, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// The reason for programs.
        code: ErrorCode,
        /// The cause, and what to do about it, for people.
        reason: String,
    },
}

/// The state of all datanodes, and totals of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// All datanodes that were ever known, by name.
    pub datanodes: Vec<NodeStatus>,
    /// The number of datanodes that answer the heartbeat.
    pub operative: usize,
    /// How many of the operative datanodes messages can be sent to.
    pub available: usize,
    /// The number of datanodes that are expected.
    pub expected: usize,
    /// The number of datanodes that must confirm each message.
    pub replicas: usize,
    /// The number of messages in the registry.
    pub messages: u64,
    /// The present round of the heartbeat, from 1.
    pub round: u64,
}

/// The state of one datanode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The name of the datanode.
    pub name: NodeName,
    /// Whether the datanode answers, and whether messages can be sent to it.
    pub state: NodeState,
    /// The address on which the datanode stores, if it has answered since the headnode started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The number of records that the datanode held at its last answer.
    pub records: u64,
    /// The number of registered records that the datanode does not hold any more.
    pub lost: u64,
    /// The free space for the datanode at its last answer, in bytes.
    pub free_bytes: u64,
    /// When the datanode last answered: RFC 3339, UTC. It is absent if the datanode has not answered since the headnode
    /// started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answer: Option<String>,
    /// The time from the probe to the last answer, in microseconds.
    pub round_trip_us: u64,
}

/// Why the headnode did not carry out a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The line cannot be read as a request.
    Malformed,
    /// The line has a version that the headnode does not support.
    UnsupportedVersion,
    /// The line or its message is too long.
    MessageTooLong,
    /// The line is not UTF-8.
    InvalidUtf8,
    /// The id was used for another message.
    IdConflict,
    /// No datanode is available.
    NoAvailableDatanode,
    /// Fewer datanodes confirmed the message than `--replicas` asks for.
    NotEnoughDatanodes,
    /// The datanodes, or the headnode itself, have no room for the message.
    DiskFull,
    /// No message has this id.
    NotFound,
    /// The datanodes that hold the message, or may hold it, are not available.
    Unavailable,
    /// Every copy of the message is damaged.
    Damaged,
    /// The headnode already serves as many connections as it may.
    TooManyConnections,
    /// No whole request arrived in the allowed time.
    IdleTimeout,
    /// The headnode is shutting down.
    ShuttingDown,
    /// The headnode cannot write its registry and stops.
    RegistryFailed,
}

/// Writes the code as it is sent.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl ErrorCode {
    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        match self {
            Self::NoAvailableDatanode
            | Self::NotEnoughDatanodes
            | Self::DiskFull
            | Self::Unavailable
            | Self::TooManyConnections
            | Self::IdleTimeout
            | Self::ShuttingDown
            | Self::RegistryFailed => true,
            Self::Malformed
            | Self::UnsupportedVersion
            | Self::MessageTooLong
            | Self::InvalidUtf8
            | Self::IdConflict
            | Self::NotFound
            | Self::Damaged => false,
        }
    }

    /// Whether the headnode closes the connection after this error.
    #[must_use]
    pub fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::TooManyConnections | Self::IdleTimeout | Self::ShuttingDown | Self::RegistryFailed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000010000000000000002";

    fn id() -> Id {
        Id::from_parts(1, 2)
    }

    #[test]
    fn golden_requests() {
        let golden = [
            (
                ClientRequest::Put { id: Some(id()), is_new: false, message: "Hola \"tú\"\n".to_owned() },
                format!(r#"{{"v":1,"put":{{"id":"{ID}","message":"Hola \"tú\"\n"}}}}"#),
            ),
            (
                ClientRequest::Put { id: Some(id()), is_new: true, message: "Hola".to_owned() },
                format!(r#"{{"v":1,"put":{{"id":"{ID}","new":true,"message":"Hola"}}}}"#),
            ),
            (ClientRequest::Get { id: id() }, format!(r#"{{"v":1,"get":{{"id":"{ID}"}}}}"#)),
            (
                ClientRequest::List { last: 10, before: Some(3) },
                r#"{"v":1,"list":{"last":10,"before":3}}"#.to_owned(),
            ),
            (ClientRequest::Status, r#"{"v":1,"status":{}}"#.to_owned()),
        ];
        for (request, line) in golden {
            assert_eq!(ClientRequest::decode(&line), Ok(request.clone()));
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("{line}\n"));
        }
    }

    #[test]
    fn a_person_may_leave_things_out() {
        let put = ClientRequest::Put { id: None, is_new: false, message: "Hola".to_owned() };
        assert_eq!(ClientRequest::decode(r#" { "put": {"message": "Hola"} } "#), Ok(put));
        assert_eq!(
            ClientRequest::decode(r#"{"list":{}}"#),
            Ok(ClientRequest::List { last: 10, before: None })
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let told = |line: &str| ClientRequest::decode(line).unwrap_err().to_string();
        assert!(told("hola").starts_with("not JSON: expected value"), "{}", told("hola"));
        assert!(told("").starts_with("not JSON: "), "{}", told(""));
        assert!(
            told(r#"{"delete":{}}"#).contains("unknown field `delete`, expected one of `v`, `put`"),
            "{}",
            told(r#"{"delete":{}}"#)
        );
        assert!(told("{}").contains("exactly one of put, get, list and status"));
        for extra in
            [r#""get":{"id":"x"}"#, r#""get":null"#, r#""other":{}"#, r#""put":null"#, r#""status":{}"#]
        {
            let put = r#""put":{"message":"a"}"#;
            for line in [format!("{{{put},{extra}}}"), format!("{{{extra},{put}}}")] {
                assert!(ClientRequest::decode(&line).is_err(), "{line}");
            }
        }
        assert!(told(r#"{"get":{"id":"x"}}"#).starts_with("not a message: "));
        assert_eq!(told(r#"{"v":2,"status":{}}"#), "version 2 is not supported; use 1");
        assert_eq!(told(r#"{"v":2,"delete":{}}"#), "version 2 is not supported; use 1");
    }

    #[test]
    fn golden_replies() {
        let place = Place { datanode: "datanode2".parse().unwrap(), seq: 17 };
        let crc = MessageCrc::of("Hola");
        let client = "172.21.0.3:40522".parse().unwrap();
        let time = "2026-11-21T09:30:00.123Z".to_owned();
        let entry = |beginning: Option<&str>| RegistryEntry {
            time: time.clone(),
            id: id(),
            client,
            places: vec![place.clone()],
            message_crc32c: crc,
            beginning: beginning.map(str::to_owned),
        };
        let entries = vec![entry(Some("Hola")), entry(None)];
        let node = NodeStatus {
            name: "datanode2".parse().unwrap(),
            state: NodeState::NotOperative,
            address: Some("172.20.0.3:5001".parse().unwrap()),
            records: 17,
            lost: 1,
            free_bytes: 1000,
            last_answer: Some(time.clone()),
            round_trip_us: 412,
        };
        let status = StoreStatus {
            datanodes: vec![node],
            operative: 1,
            available: 0,
            expected: 3,
            replicas: 1,
            messages: 17,
            round: 7,
        };
        let golden = [
            (
                HeadnodeReply::Saved { id: id(), places: vec![place.clone()], message_crc32c: crc },
                format!(r#"{{"saved":{{"id":"{ID}","places":[{{"datanode":"datanode2","seq":17}}],"message_crc32c":"bfaac1a4"}}}}"#),
            ),
            (
                HeadnodeReply::Record {
                    id: id(),
                    time: time.clone(),
                    client,
                    message: "Hola".to_owned(),
                    from: place.clone(),
                },
                format!(r#"{{"record":{{"id":"{ID}","time":"2026-11-21T09:30:00.123Z","client":"172.21.0.3:40522","message":"Hola","from":{{"datanode":"datanode2","seq":17}}}}}}"#),
            ),
            (
                HeadnodeReply::Messages { entries, before: Some(123) },
                format!(r#"{{"messages":{{"entries":[{{"time":"2026-11-21T09:30:00.123Z","id":"{ID}","client":"172.21.0.3:40522","places":[{{"datanode":"datanode2","seq":17}}],"message_crc32c":"bfaac1a4","beginning":"Hola"}},{{"time":"2026-11-21T09:30:00.123Z","id":"{ID}","client":"172.21.0.3:40522","places":[{{"datanode":"datanode2","seq":17}}],"message_crc32c":"bfaac1a4"}}],"before":123}}}}"#),
            ),
            (
                HeadnodeReply::Status(status),
                r#"{"status":{"datanodes":[{"name":"datanode2","state":"not-operative","address":"172.20.0.3:5001","records":17,"lost":1,"free_bytes":1000,"last_answer":"2026-11-21T09:30:00.123Z","round_trip_us":412}],"operative":1,"available":0,"expected":3,"replicas":1,"messages":17,"round":7}}"#.to_owned(),
            ),
            (
                HeadnodeReply::Error { id: None, code: ErrorCode::NoAvailableDatanode, reason: "why".to_owned() },
                r#"{"error":{"code":"no-available-datanode","reason":"why"}}"#.to_owned(),
            ),
        ];
        for (reply, line) in golden {
            let mut bytes = Vec::new();
            json::encode(&reply, &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("{line}\n"));
            assert_eq!(json::decode::<HeadnodeReply>(line.as_bytes()), Ok(reply));
        }
    }
}
