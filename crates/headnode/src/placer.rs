//! Stores a message on datanodes and reads it back, whatever fails on the way.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use chrono::Utc;
use protocol::store::client_api::{
    ErrorCode, HeadnodeReply, NodeState, NodeStatus, RegistryEntry, StoreStatus,
};
use protocol::store::json;
use protocol::store::node_api::{NodeFailure, NodeReply, NodeRequest};
use protocol::store::types::{Id, MessageCrc, NodeName, Place, beginning};
use service::new_ulid;
use text::timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::directory::Directory;
use crate::link::Link;
use crate::registry::{Holdings, Registry, RegistryError, UnreadableLine};

/// Memory for messages on their way to datanodes, in bytes; further ones wait their turn.
const ON_THEIR_WAY_BYTES: usize = 64 * 1024 * 1024;
/// What a message on its way takes besides its text, in each form in which it stands somewhere.
const OVERHEAD_BYTES: usize = 512;

/// Puts messages on datanodes, and gets them back.
#[derive(Debug)]
pub struct Placer {
    directory: Arc<Directory>,
    registry: Registry,
    replicas: usize,
    expected: usize,
    room: Semaphore,
}

/// What became of a message on the datanodes that were tried.
#[derive(Debug, Default)]
struct Attempts {
    places: Vec<Place>,
    tried: Vec<NodeName>,
    full: usize,
    conflict: bool,
}

impl Placer {
    /// Each message is to be confirmed by `replicas` datanodes; `expected` is only reported.
    #[must_use]
    pub fn new(directory: Arc<Directory>, registry: Registry, replicas: usize, expected: usize) -> Self {
        Self { directory, registry, replicas, expected, room: Semaphore::new(ON_THEIR_WAY_BYTES) }
    }

    /// Stores a message, unless it is stored already. Without an id it gets one; `is_new` tells that its id was never
    /// sent before.
    pub async fn put(
        &self,
        id: Option<Id>,
        is_new: bool,
        message: String,
        client: SocketAddr,
    ) -> HeadnodeReply {
        let is_new = is_new || id.is_none();
        let id = id.unwrap_or_else(|| {
            let random = u128::from(self.directory.random()) << 64 | u128::from(self.directory.random());
            new_ulid(random)
        });
        let message_crc32c = MessageCrc::of(&message);
        let mut attempts = Attempts::default();
        match self.registry.lookup(id) {
            Ok(Some(entry)) if entry.message_crc32c != message_crc32c => return conflict(id),
            Ok(Some(entry)) => attempts.places = self.trusted(entry.places),
            Ok(None) if !is_new => {
                if let Some(refused) = self.cannot_tell(id) {
                    return refused;
                }
            }
            Ok(None) => {}
            Err(UnreadableLine) => return unreadable_line(id),
        }
        if attempts.places.len() >= self.replicas {
            return HeadnodeReply::Saved { id, places: attempts.places, message_crc32c };
        }
        let (line_bytes, bytes) = bytes_on_the_way(&message, self.replicas);
        let permits = u32::try_from(bytes.min(ON_THEIR_WAY_BYTES)).unwrap_or(u32::MAX);
        // It cannot fail: nobody closes the semaphore.
        let _room = self.room.acquire_many(permits).await;
        let mut line = Vec::with_capacity(line_bytes);
        let beginning = Some(beginning(&message));
        json::encode(&NodeRequest::Store { id, client, message }, &mut line);
        self.place(id, &line, message_crc32c, &mut attempts).await;
        if attempts.places.is_empty() {
            return attempts.verdict(id, self.replicas);
        }
        let confirmed = attempts.places.len();
        let places = mem::take(&mut attempts.places);
        let entry = RegistryEntry { time: String::new(), id, client, places, message_crc32c, beginning };
        match self.registry.record(entry).await {
            Ok(entry) if confirmed >= self.replicas => {
                HeadnodeReply::Saved { id, places: entry.places, message_crc32c }
            }
            Ok(entry) => {
                attempts.places = entry.places;
                attempts.verdict(id, self.replicas)
            }
            Err(error) => not_registered(id, &error),
        }
    }

    /// Sends the message to datanodes until enough have confirmed it, or none is left to try.
    async fn place(&self, id: Id, line: &[u8], message_crc32c: MessageCrc, attempts: &mut Attempts) {
        while attempts.places.len() < self.replicas && !attempts.conflict {
            let wanted = self.replicas - attempts.places.len();
            let chosen = self.directory.choose(wanted, |name| attempts.is_untried(name));
            if chosen.len() < wanted {
                return;
            }
            let asked: Vec<_> = chosen.iter().map(|link| (link, link.ask(line))).collect();
            for (link, asked) in asked {
                let reply = match asked {
                    Ok(reply) => reply.await.ok(),
                    Err(_not_standing) => None,
                };
                attempts.take(link, id, message_crc32c, reply);
            }
        }
    }

    /// The places that can be believed without asking: a datanode that has lost acknowledged records may have lost any.
    fn trusted(&self, places: Vec<Place>) -> Vec<Place> {
        let has_losses =
            |place: &Place| self.registry.holdings(|holdings| holdings.lost(&place.datanode) > 0);
        places.into_iter().filter(|place| !has_losses(place)).collect()
    }

    /// The reply about an id that is not registered, where that does not tell whether it was ever used.
    fn cannot_tell(&self, id: Id) -> Option<HeadnodeReply> {
        let unasked = self.registry.holdings(Holdings::unasked)?;
        let names: Vec<_> = unasked.iter().map(NodeName::to_string).collect();
        let who = if names.is_empty() { "any datanode".to_owned() } else { names.join(", ") };
        let reason = format!(
            "the registry may lack messages, and {who} was not asked yet for what it holds: nobody can tell whether this id \
             is in use; start it, or tell the headnode to --forget it if it is gone for ever"
        );
        Some(error(Some(id), ErrorCode::Unavailable, &reason))
    }

    /// Reads a message back, from any datanode that holds it.
    pub async fn get(&self, id: Id) -> HeadnodeReply {
        let entry = match self.registry.lookup(id) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                let not_found = || error(Some(id), ErrorCode::NotFound, "no message has this id");
                return self.cannot_tell(id).unwrap_or_else(not_found);
            }
            Err(UnreadableLine) => return unreadable_line(id),
        };
        let mut places = entry.places;
        self.directory.shuffle(&mut places);
        let mut line = Vec::new();
        json::encode(&NodeRequest::Fetch { id }, &mut line);
        let mut damaged = Vec::new();
        let mut away = Vec::new();
        for place in places {
            let link = self.directory.available().iter().find(|link| link.name == place.datanode).cloned();
            let Some(Ok(asked)) = link.map(|link| link.ask(&line)) else {
                away.push(place.to_string());
                continue;
            };
            match asked.await {
                Ok(NodeReply::Record(record))
                    if record.id == id && MessageCrc::of(&record.message) == entry.message_crc32c =>
                {
                    let from = Place { datanode: place.datanode, seq: record.seq };
                    let (time, client, message) = (record.time, record.client, record.message);
                    return HeadnodeReply::Record { id, time, client, message, from };
                }
                Ok(_) => damaged.push(place.to_string()),
                Err(_) => away.push(place.to_string()),
            }
        }
        if away.is_empty() {
            let reason = format!("the record is damaged or gone at {}", damaged.join(", "));
            return error(Some(id), ErrorCode::Damaged, &reason);
        }
        let reason =
            format!("it is held at {}, which is not available: try again when it is", away.join(", "));
        error(Some(id), ErrorCode::Unavailable, &reason)
    }

    /// The last `last` messages in front of the mark `before`.
    pub fn list(&self, last: usize, before: Option<u64>) -> HeadnodeReply {
        match self.registry.list(last, before) {
            Ok((entries, before)) => HeadnodeReply::Messages { entries, before },
            Err(cause) => {
                tracing::error!(%cause, "cannot read registro_server.txt");
                error(None, ErrorCode::RegistryFailed, "the headnode cannot read its registry")
            }
        }
    }

    /// The datanodes and totals.
    #[must_use]
    pub fn status(&self) -> HeadnodeReply {
        let (now, wall_clock) = (Instant::now().duration_since(self.directory.start()), Utc::now());
        let (datanodes, round) = self.directory.look(|membership| {
            let answering = membership.nodes().map(|(name, node)| {
                let (registered, lost) = self.registered(name);
                NodeStatus {
                    name: name.clone(),
                    state: node.state(),
                    address: Some(node.address),
                    // Newer than what it last answered, if messages have been stored there since.
                    records: node.records.max(registered),
                    lost,
                    free_bytes: node.free_bytes,
                    last_answer: Some(timestamp(wall_clock - now.saturating_sub(node.last_answer))),
                    round_trip_us: u64::try_from(node.round_trip.as_micros()).unwrap_or(u64::MAX),
                }
            });
            let absent = membership.absent().map(|name| {
                let (records, lost) = self.registered(name);
                NodeStatus {
                    name: name.clone(),
                    state: NodeState::NotOperative,
                    address: None,
                    records,
                    lost,
                    free_bytes: 0,
                    last_answer: None,
                    round_trip_us: 0,
                }
            });
            let mut datanodes: Vec<_> = answering.chain(absent).collect();
            datanodes.sort_by(|one, other| one.name.cmp(&other.name));
            (datanodes, membership.round())
        });
        let count = |state| datanodes.iter().filter(|node| node.state == state).count();
        let available = count(NodeState::Available);
        HeadnodeReply::Status(StoreStatus {
            operative: available + count(NodeState::Operative),
            available,
            datanodes,
            expected: self.expected,
            replicas: self.replicas,
            messages: self.registry.messages(),
            round,
        })
    }

    /// How many records of a datanode are registered, and how many of them it has lost.
    fn registered(&self, name: &NodeName) -> (u64, u64) {
        self.registry.holdings(|holdings| (holdings.records(name), holdings.lost(name)))
    }
}

/// The most that the line of a message takes in bytes, and with it the message itself, its line, and a copy of the line in
/// the queue of each datanode that it is sent to.
fn bytes_on_the_way(message: &str, replicas: usize) -> (usize, usize) {
    let line_bytes = json::string_bytes(message) + OVERHEAD_BYTES;
    (line_bytes, message.len() + line_bytes * (1 + replicas))
}

impl Attempts {
    fn is_untried(&self, name: &NodeName) -> bool {
        !self.tried.contains(name) && !self.places.iter().any(|place| &place.datanode == name)
    }

    fn take(&mut self, link: &Link, id: Id, message_crc32c: MessageCrc, reply: Option<NodeReply>) {
        match reply {
            Some(NodeReply::Stored { id: stored, seq, message_crc32c: crc })
                if (stored, crc) == (id, message_crc32c) =>
            {
                self.places.push(Place { datanode: link.name.clone(), seq });
                return;
            }
            Some(NodeReply::Failed { code, reason }) => {
                tracing::warn!(datanode = %link.name, %id, reason, "not stored there");
                self.full += usize::from(code == NodeFailure::DiskFull);
                self.conflict |= code == NodeFailure::IdConflict;
            }
            Some(_) => {
                tracing::error!(datanode = %link.name, %id, "it confirms something else than it was sent");
            }
            None => tracing::debug!(datanode = %link.name, %id, "no confirmation: trying elsewhere"),
        }
        self.tried.push(link.name.clone());
    }

    /// Why there are too few places.
    fn verdict(&self, id: Id, replicas: usize) -> HeadnodeReply {
        if self.conflict {
            return conflict(id);
        }
        if self.tried.is_empty() && self.places.is_empty() && replicas == 1 {
            let reason = "no datanode is available: the message is not stored; try again";
            return error(Some(id), ErrorCode::NoAvailableDatanode, reason);
        }
        if self.full > 0 && self.full == self.tried.len() {
            let reason = "no available datanode has space for the message: free some, or add a datanode";
            return error(Some(id), ErrorCode::DiskFull, reason);
        }
        let reason = format!(
            "{} of {replicas} datanodes confirmed the message, {} failed: it is not acknowledged; try again with the same id",
            self.places.len(),
            self.tried.len()
        );
        error(Some(id), ErrorCode::NotEnoughDatanodes, &reason)
    }
}

fn conflict(id: Id) -> HeadnodeReply {
    error(Some(id), ErrorCode::IdConflict, "this id was used for another message: choose a new one")
}

fn unreadable_line(id: Id) -> HeadnodeReply {
    let reason = "the registry's line about this id is damaged: restart the headnode, which then asks the datanodes again";
    error(Some(id), ErrorCode::Unavailable, reason)
}

fn not_registered(id: Id, cause: &RegistryError) -> HeadnodeReply {
    tracing::error!(%id, %cause, "stored, but not registered");
    match cause {
        RegistryError::NoSpace(_) => error(
            Some(id),
            ErrorCode::DiskFull,
            "the headnode has no space for its registry: try again with the same id",
        ),
        RegistryError::Fatal(_) | RegistryError::Closed => {
            error(Some(id), ErrorCode::RegistryFailed, "the headnode cannot write its registry and stops")
        }
    }
}

fn error(id: Option<Id>, code: ErrorCode, reason: &str) -> HeadnodeReply {
    HeadnodeReply::Error { id, code, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use protocol::store::types::MAX_MESSAGE_BYTES;

    use super::*;

    #[test]
    fn the_room_that_a_message_takes_covers_its_line_in_every_queue() {
        for text in ["", "x", "\u{1}", "\"", "ñ", "\u{2028}"] {
            let message = text.repeat(MAX_MESSAGE_BYTES / text.len().max(1));
            let client = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
            let mut line = Vec::new();
            json::encode(&NodeRequest::Store { id: Id::max(), client, message: message.clone() }, &mut line);
            for replicas in [1, 2, 16] {
                let (line_bytes, all_bytes) = bytes_on_the_way(&message, replicas);
                assert!(line.len() <= line_bytes, "{text:?}: {} bytes", line.len());
                assert!(message.len() + line.len() * (1 + replicas) <= all_bytes);
                assert!(line_bytes - line.len() <= OVERHEAD_BYTES, "no more than needed");
            }
        }
    }
}
