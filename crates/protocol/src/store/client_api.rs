//! Actividad 2, between a client and the headnode: one JSON object per line, so that a person can use the protocol with
//! `nc`.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | client | `{"put":{"id":"01…","new":true,"message":"Hola"}}` | store the message; without `id` the headnode makes one, and a retry is another message; `new` states that this id was never sent before |
//! | client | `{"get":{"id":"01…"}}` | read the message back |
//! | client | `{"list":{"last":10}}` | list the last messages, newest first; `before` asks for older ones |
//! | client | `{"status":{}}` | report the datanodes and totals |
//! | client | `{"drain":{"datanode":"datanode1"}}` | move the messages of this datanode elsewhere, and tell how far that is; `"undo":true` takes it back |
//! | client | `{"forget":{"datanode":"datanode1"}}` | the datanode is gone for ever; `"accept_loss":true` if messages exist nowhere else |
//! | client | `{"fsck":{"from":0}}` | check the copies of a page of messages; `"deep":true` reads each of them |
//! | headnode | `{"saved":{"id":"01…","places":[{"datanode":"datanode2","seq":17}],"message_crc32c":"bfaac1a4"}}` | the message is on disk at these places |
//! | headnode | `{"record":{"id":"01…","time":"…","client":"…","message":"Hola","from":{"datanode":"datanode2","seq":17}}}` | reply to get |
//! | headnode | `{"messages":{"entries":[…],"before":123}}` | reply to list; ask again with this `before` for older ones |
//! | headnode | `{"status":{…}}` | reply to status: [`StoreStatus`] |
//! | headnode | `{"draining":{"datanode":"datanode1","left":12}}` | reply to drain: so many messages have still to be copied, if that was counted yet |
//! | headnode | `{"drained":{"datanode":"datanode1"}}` | reply to drain: its messages are elsewhere |
//! | headnode | `{"kept":{"datanode":"datanode1"}}` | reply to drain with undo |
//! | headnode | `{"forgotten":{"datanode":"datanode1","lost":3}}` | reply to forget: so many messages existed nowhere else |
//! | headnode | `{"fsck":{…}}` | reply to fsck: [`FsckPage`]; ask again with its `next` for further messages |
//! | headnode | `{"error":{"id":"01…","code":"no-available-datanode","reason":"…"}}` | the request was not carried out; [`ErrorCode`] lists the codes |
//!
//! A line that does not begin with `{` is a message in plain text, and its reply is a line in Spanish: see [`plain`].
//!
//! Any request may state the version, `"v":1`. A client may send requests without waiting for replies, which come in
//! the same order. After an error the connection stays open, except after `too-many-connections`, `idle-timeout`,
//! `shutting-down`, `registry-failed` and `key-required`.

mod operating;
pub mod plain;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::store::json::{self, Malformed};
use crate::store::types::{Epoch, Id, MessageCrc, NodeName, Place, UnavailableCause};
pub use crate::store::types::{NodeState, RegistryEntry};
pub use operating::{CheckedMessage, FSCK_PAGE, FsckPage, FsckVerdict, MAX_CHECKED_PLACES};
use operating::{DrainBody, ForgetBody, FsckBody};

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
    /// Move the messages of a datanode elsewhere, so that it can be removed.
    Drain {
        /// The datanode.
        datanode: NodeName,
        /// Whether to take an earlier request back.
        undo: bool,
    },
    /// Declare a datanode lost.
    Forget {
        /// The datanode.
        datanode: NodeName,
        /// Whether the loss of messages that exist nowhere else is accepted.
        accept_loss: bool,
    },
    /// Check the copies of a page of messages.
    Fsck {
        /// Whether to read each copy.
        deep: bool,
        /// The mark that an earlier reply contained, or 0.
        from: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Id>,
    #[serde(default, rename = "new", skip_serializing_if = "std::ops::Not::not")]
    is_new: bool,
    message: String,
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
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    drain: Option<DrainBody>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    forget: Option<ForgetBody>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    fsck: Option<FsckBody>,
}

impl Default for RequestFrame {
    /// Returns a frame that holds no request.
    fn default() -> Self {
        let v = json::VERSION;
        Self { v, put: None, get: None, list: None, status: None, drain: None, forget: None, fsck: None }
    }
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
        let mut frame = RequestFrame::default();
        match self {
            Self::Put { id, is_new, message } => frame.put = Some(PutBody { id, is_new, message }),
            Self::Get { id } => frame.get = Some(GetBody { id }),
            Self::List { last, before } => frame.list = Some(ListBody { last, before }),
            Self::Status => frame.status = Some(EmptyBody {}),
            Self::Drain { datanode, undo } => frame.drain = Some(DrainBody { datanode, undo }),
            Self::Forget { datanode, accept_loss } => {
                frame.forget = Some(ForgetBody { datanode, accept_loss });
            }
            Self::Fsck { deep, from } => frame.fsck = Some(FsckBody { deep, from }),
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
        let RequestFrame { v: _, put, get, list, status, drain, forget, fsck } = frame;
        let requests = [
            put.map(|PutBody { id, is_new, message }| Self::Put { id, is_new, message }),
            get.map(|GetBody { id }| Self::Get { id }),
            list.map(|ListBody { last, before }| Self::List { last, before }),
            status.map(|EmptyBody {}| Self::Status),
            drain.map(|DrainBody { datanode, undo }| Self::Drain { datanode, undo }),
            forget.map(|ForgetBody { datanode, accept_loss }| Self::Forget { datanode, accept_loss }),
            fsck.map(|FsckBody { deep, from }| Self::Fsck { deep, from }),
        ];
        let mut requests = requests.into_iter().flatten();
        match (requests.next(), requests.next()) {
            (Some(request), None) => Ok(request),
            _ => Err(Malformed::Shape(
                "exactly one of put, get, list, status, drain, forget and fsck is needed".to_owned(),
            )),
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
    /// The reply to `drain` while messages have still to be copied.
    Draining {
        /// The datanode.
        datanode: NodeName,
        /// How many messages have to be copied, if that was counted since the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<u64>,
    },
    /// The reply to `drain` when enough copies of each of its messages are elsewhere.
    Drained {
        /// The datanode.
        datanode: NodeName,
    },
    /// The reply to `drain` with `undo`: the copies on the datanode count.
    Kept {
        /// The datanode.
        datanode: NodeName,
    },
    /// The reply to `forget`.
    Forgotten {
        /// The datanode.
        datanode: NodeName,
        /// How many messages existed nowhere else.
        lost: u64,
    },
    /// The reply to `fsck`.
    Fsck(FsckPage),
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
    /// The number of datanodes that get new messages: the headnode is connected to them, and nobody drains them.
    pub available: usize,
    /// The number of datanodes that are expected.
    pub expected: usize,
    /// The number of datanodes that must confirm each message.
    pub replicas: usize,
    /// The number of messages in the registry.
    pub messages: u64,
    /// The present round of the heartbeat, from 1.
    pub round: u64,
    /// The epoch in which the headnode leads. It is absent in replies of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

impl StoreStatus {
    /// Returns whether messages can be stored now: as many datanodes are available as must confirm each message.
    #[must_use]
    pub fn stores_messages(&self) -> bool {
        self.available >= self.replicas
    }
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
    /// Why messages cannot be sent to the datanode. It is absent if they can, or while a first connection is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<UnavailableCause>,
    /// Whether an operator drains the datanode: it gets no new messages, and its messages are moved elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

impl NodeStatus {
    /// Returns whether the datanode gets new messages.
    #[must_use]
    pub fn gets_messages(&self) -> bool {
        self.state == NodeState::Available && !self.draining
    }
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
    /// The message was only on datanodes that are declared lost.
    Lost,
    /// No datanode of this name was ever known.
    UnknownDatanode,
    /// The datanode is operative, so it cannot be declared lost.
    DatanodeOperative,
    /// The datanode is not available, so it cannot be told that it is drained.
    DatanodeAway,
    /// Messages exist only on the datanode, and their loss was not accepted.
    WouldLose,
    /// The headnode already serves as many connections as it may.
    TooManyConnections,
    /// No whole request arrived in the allowed time.
    IdleTimeout,
    /// The headnode is shutting down.
    ShuttingDown,
    /// The headnode cannot write its registry and stops.
    RegistryFailed,
    /// The headnode serves only connections that show a key.
    KeyRequired,
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
            | Self::Damaged
            | Self::Lost
            | Self::UnknownDatanode
            | Self::DatanodeOperative
            | Self::DatanodeAway
            | Self::WouldLose
            | Self::KeyRequired => false,
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
mod tests;
