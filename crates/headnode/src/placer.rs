//! Stores a message on datanodes and reads it back, although datanodes may fail meanwhile.

use std::mem;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::store::json;
use protocol::store::node_api::{NodeFailure, NodeReply, NodeRequest};
use protocol::store::types::{Id, MessageCrc, NodeName, Place, RegistryEntry, beginning};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use service::new_ulid;
use tokio::sync::Semaphore;

use crate::heartbeat::{ClusterView, DatanodeStatus};
use crate::link::Link;
use crate::placement_error::PlacementError;
use crate::registry::{Holdings, Registration, Registry, RegistryError, UnreadableLine};

/// Memory for messages on their way to datanodes, in bytes. Further messages wait until there is room.
const IN_FLIGHT_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that a message on its way takes besides its text, in each form in which it is in memory.
const OVERHEAD_BYTES: usize = 512;

/// Stores messages on datanodes, and reads them back.
#[derive(Debug)]
pub struct Placer {
    cluster: ClusterView,
    registry: Registry,
    replicas: usize,
    room: Semaphore,
    rng: Mutex<StdRng>,
}

/// A message that enough datanodes have on disk, and that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedMessage {
    /// The places at which the message is on disk.
    pub places: Vec<Place>,
    pub message_crc32c: MessageCrc,
}

/// A message that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMessage {
    /// When the datanode wrote the message: RFC 3339, UTC.
    pub time: String,
    /// The address of the client that sent the message.
    pub client: SocketAddr,
    pub message: String,
    /// The place from which the message was read.
    pub from: Place,
}

/// The state of the whole store at one moment.
#[derive(Debug, Clone)]
pub struct StoreOverview {
    /// The present probe round, from 1.
    pub round: u64,
    /// Every datanode that was ever known, by name, with its registered and its lost records.
    pub datanodes: Vec<(DatanodeStatus, RegisteredRecords)>,
    /// The number of datanodes that must confirm each message.
    pub replicas: usize,
    /// The number of messages in the registry.
    pub messages: u64,
}

/// What the registry records about one datanode.
#[derive(Debug, Clone, Copy)]
pub struct RegisteredRecords {
    /// The number of registered records that the datanode has not lost.
    pub held: u64,
    /// The number of registered records that the datanode has lost.
    pub lost: u64,
}

/// The results of sending a message to datanodes.
#[derive(Debug, Default)]
struct Attempts {
    places: Vec<Place>,
    tried: Vec<NodeName>,
    full: usize,
    conflict: bool,
}

impl Placer {
    /// Returns a placer that stores each message on `replicas` datanodes, chosen with `rng`.
    #[must_use]
    pub fn new(cluster: ClusterView, registry: Registry, replicas: usize, rng: StdRng) -> Self {
        let room = Semaphore::new(IN_FLIGHT_BYTES);
        Self { cluster, registry, replicas, room, rng: Mutex::new(rng) }
    }

    /// Returns an identifier for a message that arrived without one.
    #[must_use]
    pub fn new_id(&self) -> Id {
        new_ulid(self.rng().random())
    }

    /// Stores a message, unless it is stored already. `is_new` states that its id was never sent before.
    ///
    /// # Errors
    /// Fails with a [`PlacementError`] that gives the reason.
    pub async fn put(
        &self,
        id: Id,
        is_new: bool,
        message: String,
        client: SocketAddr,
    ) -> Result<PlacedMessage, PlacementError> {
        let message_crc32c = MessageCrc::of(&message);
        let mut attempts = Attempts::default();
        match self.registry.lookup(id) {
            Ok(Some(entry)) if entry.message_crc32c != message_crc32c => {
                return Err(PlacementError::IdConflict);
            }
            Ok(Some(entry)) => attempts.places = self.trusted(entry.places),
            Ok(None) if !is_new => self.check_that_nothing_is_missing()?,
            Ok(None) => {}
            Err(UnreadableLine) => return Err(PlacementError::UnreadableLine),
        }
        if attempts.places.len() >= self.replicas {
            return Ok(PlacedMessage { places: attempts.places, message_crc32c });
        }
        let (line_bytes, bytes) = in_flight_bytes(&message, self.replicas);
        let permits = u32::try_from(bytes.min(IN_FLIGHT_BYTES)).unwrap_or(u32::MAX);
        // This cannot fail, because the semaphore is never closed.
        let _room = self.room.acquire_many(permits).await;
        let mut line = Vec::with_capacity(line_bytes);
        let beginning = Some(beginning(&message));
        json::encode(&NodeRequest::Store { id, client, message }, &mut line);
        self.place(id, &line, message_crc32c, &mut attempts).await;
        if attempts.places.is_empty() {
            return Err(attempts.verdict(self.replicas));
        }
        let confirmed = attempts.places.len();
        let places = mem::take(&mut attempts.places);
        let registration = Registration { time: None, id, client, places, message_crc32c, beginning };
        let registered = self.registry.record(registration).await;
        let entry = registered.map_err(|error| not_registered(id, &error))?;
        if confirmed >= self.replicas {
            return Ok(PlacedMessage { places: entry.places, message_crc32c });
        }
        attempts.places = entry.places;
        Err(attempts.verdict(self.replicas))
    }

    /// Sends the message to datanodes until enough have confirmed it, or none is left to try.
    async fn place(&self, id: Id, line: &[u8], message_crc32c: MessageCrc, attempts: &mut Attempts) {
        while attempts.places.len() < self.replicas && !attempts.conflict {
            let wanted = self.replicas - attempts.places.len();
            let is_untried = |name: &NodeName| attempts.is_untried(name);
            let chosen = self.cluster.table.borrow().choose(wanted, &mut *self.rng(), is_untried);
            if chosen.len() < wanted {
                return;
            }
            let asked: Vec<_> = chosen.iter().map(|link| (link, link.ask(line))).collect();
            for (link, asked) in asked {
                let reply = match asked {
                    Ok(reply) => reply.await.ok(),
                    Err(_not_connected) => None,
                };
                attempts.note(link, id, message_crc32c, reply);
            }
        }
    }

    /// Returns the places that can be trusted without asking the datanode. A datanode that has lost acknowledged
    /// records may have lost any record.
    fn trusted(&self, places: Vec<Place>) -> Vec<Place> {
        let has_losses =
            |place: &Place| self.registry.holdings(|holdings| holdings.lost(&place.datanode) > 0);
        places.into_iter().filter(|place| !has_losses(place)).collect()
    }

    /// Fails if an id that is not registered may nevertheless have been used.
    fn check_that_nothing_is_missing(&self) -> Result<(), PlacementError> {
        match self.registry.holdings(Holdings::unasked) {
            None => Ok(()),
            Some(unasked) => Err(PlacementError::CannotTell { unasked }),
        }
    }

    /// Reads a message back, from any datanode that holds it.
    ///
    /// # Errors
    /// Fails with a [`PlacementError`] that gives the reason.
    pub async fn get(&self, id: Id) -> Result<FoundMessage, PlacementError> {
        let entry = match self.registry.lookup(id) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.check_that_nothing_is_missing()?;
                return Err(PlacementError::NotFound);
            }
            Err(UnreadableLine) => return Err(PlacementError::UnreadableLine),
        };
        let mut places = entry.places;
        places.shuffle(&mut *self.rng());
        let mut line = Vec::new();
        json::encode(&NodeRequest::Fetch { id }, &mut line);
        let mut damaged = Vec::new();
        let mut away = Vec::new();
        for place in places {
            let link = self.cluster.table.borrow().find(&place.datanode).cloned();
            let Some(Ok(asked)) = link.map(|link| link.ask(&line)) else {
                away.push(place);
                continue;
            };
            match asked.await {
                Ok(NodeReply::Record(record))
                    if record.id == id && MessageCrc::of(&record.message) == entry.message_crc32c =>
                {
                    let from = Place { datanode: place.datanode, seq: record.seq };
                    let (time, client, message) = (record.time, record.client, record.message);
                    return Ok(FoundMessage { time, client, message, from });
                }
                Ok(_) => damaged.push(place),
                Err(_) => away.push(place),
            }
        }
        Err(if away.is_empty() {
            PlacementError::Damaged { places: damaged }
        } else {
            PlacementError::Away { places: away }
        })
    }

    /// Returns up to `last` of the messages in front of the mark `before`, newest first, and the mark for older ones.
    ///
    /// # Errors
    /// Fails with [`PlacementError::CannotReadRegistry`] if the file cannot be read.
    pub fn list(
        &self,
        last: usize,
        before: Option<u64>,
    ) -> Result<(Vec<RegistryEntry>, Option<u64>), PlacementError> {
        self.registry.list(last, before).map_err(|cause| {
            tracing::error!(%cause, "cannot read registro_server.txt");
            PlacementError::CannotReadRegistry
        })
    }

    /// Returns the state of the whole store.
    pub async fn overview(&self) -> StoreOverview {
        let status = self.cluster.status().await;
        let registered = |name: &NodeName| {
            self.registry.holdings(|holdings| RegisteredRecords {
                held: holdings.records(name),
                lost: holdings.lost(name),
            })
        };
        let with_records = |datanode: DatanodeStatus| {
            let records = registered(&datanode.name);
            (datanode, records)
        };
        StoreOverview {
            round: status.round,
            datanodes: status.datanodes.into_iter().map(with_records).collect(),
            replicas: self.replicas,
            messages: self.registry.messages(),
        }
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        // No code that holds the lock can panic in the middle of a change.
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the highest number of bytes that the line of a message takes. Also returns the number for everything that is
/// in memory at the same time: the message, its line, and a copy of the line in the queue of each datanode.
fn in_flight_bytes(message: &str, replicas: usize) -> (usize, usize) {
    let line_bytes = json::string_bytes(message) + OVERHEAD_BYTES;
    (line_bytes, message.len() + line_bytes * (1 + replicas))
}

impl Attempts {
    fn is_untried(&self, name: &NodeName) -> bool {
        !self.tried.contains(name) && !self.places.iter().any(|place| &place.datanode == name)
    }

    /// Adds the reply of a datanode about the message. `None` means that no reply arrived.
    fn note(&mut self, link: &Link, id: Id, message_crc32c: MessageCrc, reply: Option<NodeReply>) {
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
                tracing::error!(datanode = %link.name, %id, "the datanode confirms another message than it was sent");
            }
            None => tracing::debug!(datanode = %link.name, %id, "no confirmation: trying elsewhere"),
        }
        self.tried.push(link.name.clone());
    }

    /// Returns the error for a message that too few datanodes have confirmed.
    fn verdict(&self, replicas: usize) -> PlacementError {
        if self.conflict {
            return PlacementError::IdConflict;
        }
        if self.tried.is_empty() && self.places.is_empty() && replicas == 1 {
            return PlacementError::NoAvailableDatanode;
        }
        if self.full > 0 && self.full == self.tried.len() {
            return PlacementError::DatanodesFull;
        }
        PlacementError::NotEnoughDatanodes {
            confirmed: self.places.len(),
            replicas,
            failed: self.tried.len(),
        }
    }
}

fn not_registered(id: Id, cause: &RegistryError) -> PlacementError {
    tracing::error!(%id, %cause, "stored, but not registered");
    match cause {
        RegistryError::NoSpace(_) => PlacementError::RegistryFull,
        RegistryError::Fatal(_) | RegistryError::Closed => PlacementError::RegistryFailed,
    }
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
            let request = NodeRequest::Store { id: Id::max(), client, message: message.clone() };
            json::encode(&request, &mut line);
            for replicas in [1, 2, 16] {
                let (line_bytes, all_bytes) = in_flight_bytes(&message, replicas);
                assert!(line.len() <= line_bytes, "{text:?}: {} bytes", line.len());
                assert!(message.len() + line.len() * (1 + replicas) <= all_bytes);
                assert!(line_bytes - line.len() <= OVERHEAD_BYTES, "no more than needed");
            }
        }
    }
}
