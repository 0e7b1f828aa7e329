//! Stores a message on datanodes and reads it back, although datanodes may fail meanwhile.

mod copying;

use std::collections::BTreeSet;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use journal::plants::{Plant, is_planted};
use protocol::store::json;
use protocol::store::node_api::{NodeFailure, NodeReply, NodeRequest};
use protocol::store::types::{
    Epoch, Id, MessageCrc, NodeName, NodeState, Place, RegistryEntry, StoredRecord, beginning,
};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use service::WallClock;
use tokio::sync::{Semaphore, watch};

use crate::cluster_view::{ClusterStatus, ClusterView, DatanodeStatus, WantedEvents};
use crate::copies::{Discount, Discounts};
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
    /// The datanodes whose copies do not count, and that get no messages.
    discounts: watch::Receiver<Discounts>,
    settings: PlacerSettings,
    room: Semaphore,
    clock: WallClock,
    rng: Mutex<StdRng>,
}

/// What does not change while the headnode leads.
#[derive(Debug, Clone, Copy)]
pub struct PlacerSettings {
    /// The epoch in which the headnode leads.
    pub epoch: Epoch,
    /// The number of datanodes that must confirm each message.
    pub replicas: usize,
    /// So many datanodes have to say that this headnode still leads before it calls a message unknown. `None` means that
    /// there is no second headnode.
    pub confirmed_by: Option<usize>,
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

/// The state of one copy of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    Good,
    /// It is damaged or gone, or holds another message.
    Damaged,
    /// Its datanode cannot tell now.
    Unknown,
}

/// The state of the whole store at one moment.
#[derive(Debug, Clone)]
pub struct StoreOverview {
    pub cluster: ClusterStatus,
    /// The datanodes that are drained.
    pub drained: BTreeSet<NodeName>,
    /// What the registry records about each datanode, in the order of `cluster`.
    pub registered: Vec<RegisteredRecords>,
    /// The number of datanodes that must confirm each message.
    pub replicas: usize,
    /// The number of messages in the registry.
    pub messages: u64,
    /// The epoch in which the headnode leads, or `None` if it stands by.
    pub epoch: Option<Epoch>,
}

impl StoreOverview {
    /// Returns the number of datanodes that get new messages.
    #[must_use]
    pub fn available(&self) -> usize {
        self.cluster.datanodes.iter().filter(|datanode| self.is_available(datanode)).count()
    }

    /// Returns whether this datanode gets new messages.
    #[must_use]
    pub fn is_available(&self, datanode: &DatanodeStatus) -> bool {
        datanode.state == NodeState::Available && !self.drained.contains(&datanode.name)
    }
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
    /// Returns a placer that stores each message on datanodes that are chosen with `rng`.
    #[must_use]
    pub fn new(
        cluster: ClusterView,
        registry: Registry,
        discounts: watch::Receiver<Discounts>,
        settings: PlacerSettings,
        clock: WallClock,
        rng: StdRng,
    ) -> Self {
        let room = Semaphore::new(IN_FLIGHT_BYTES);
        Self { cluster, registry, discounts, settings, room, clock, rng: Mutex::new(rng) }
    }

    /// Returns how many datanodes have to confirm each message.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.settings.replicas
    }

    /// Returns an identifier for a message that arrived without one.
    #[must_use]
    pub fn new_id(&self) -> Id {
        self.clock.new_ulid(self.rng().random())
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
        let (mut attempts, mut gone) = (Attempts::default(), Vec::new());
        match self.registry.lookup(id) {
            Ok(Some(entry)) if entry.message_crc32c != message_crc32c => {
                return Err(PlacementError::IdConflict);
            }
            Ok(Some(entry)) => {
                gone = self.lost(&entry.places);
                attempts.places = self.trusted(entry.places);
            }
            Ok(None) if !is_new => self.check_that_nothing_is_missing()?,
            Ok(None) => {}
            Err(UnreadableLine) => return Err(PlacementError::UnreadableLine),
        }
        if attempts.places.len() >= self.settings.replicas {
            return Ok(PlacedMessage { places: attempts.places, message_crc32c });
        }
        let (line_bytes, bytes) = in_flight_bytes(&message, self.settings.replicas);
        let permits = u32::try_from(bytes.min(IN_FLIGHT_BYTES)).unwrap_or(u32::MAX);
        // This cannot fail, because the semaphore is never closed.
        let _room = self.room.acquire_many(permits).await;
        let mut line = Vec::with_capacity(line_bytes);
        let beginning = Some(beginning(&message));
        json::encode(&NodeRequest::Store { id, client, message }, &mut line);
        self.place(id, &line, message_crc32c, &mut attempts, self.settings.replicas).await;
        if attempts.places.is_empty() {
            return Err(attempts.verdict(self.settings.replicas));
        }
        let confirmed = attempts.places.clone();
        let places = mem::take(&mut attempts.places);
        let registration = Registration { time: None, id, client, places, gone, message_crc32c, beginning };
        let registered = self.registry.record(registration).await;
        let entry = registered.map_err(|error| not_registered(id, &error))?;
        // A datanode may have begun to be drained meanwhile. Whoever drains it has seen this message, or it is refused here.
        if self.discounts.borrow().count(&confirmed) >= self.settings.replicas {
            if entry.places.len() > confirmed.len() {
                // Some of the places that were registered before may not hold the message any more.
                self.registry.doubt();
            }
            return Ok(PlacedMessage { places: entry.places, message_crc32c });
        }
        self.registry.doubt();
        attempts.places = confirmed;
        Err(attempts.verdict(self.settings.replicas))
    }

    /// Sends the message to datanodes until `goal` of them have confirmed it, or too few are left to try.
    async fn place(
        &self,
        id: Id,
        line: &[u8],
        message_crc32c: MessageCrc,
        attempts: &mut Attempts,
        goal: usize,
    ) {
        while attempts.places.len() < goal && !attempts.conflict {
            let wanted = goal - attempts.places.len();
            let chosen = self.choose(wanted, attempts);
            if chosen.len() < wanted {
                return;
            }
            let asked: Vec<_> = chosen.iter().map(|link| (link, link.ask(line))).collect();
            for (link, asked) in asked {
                let reply = match asked {
                    Ok(reply) => reply.await.ok(),
                    Err(_not_connected) => None,
                };
                if matches!(reply, Some(NodeReply::Failed { code: NodeFailure::DiskFull, .. })) {
                    self.cluster.report_full(link.name.clone());
                }
                attempts.note(link, id, message_crc32c, reply);
            }
        }
    }

    /// Chooses up to `wanted` datanodes at random that may store a message and were not tried.
    fn choose(&self, wanted: usize, attempts: &Attempts) -> Vec<Arc<Link>> {
        let discounts = self.discounts.borrow();
        let is_eligible = |name: &NodeName| attempts.is_untried(name) && discounts.of(name).is_none();
        self.cluster.table.borrow().choose(wanted, &mut *self.rng(), is_eligible)
    }

    /// Returns the places that count and can be trusted without asking the datanode. A datanode that has lost acknowledged
    /// records may have lost any record.
    fn trusted(&self, places: Vec<Place>) -> Vec<Place> {
        let discounts = self.discounts.borrow();
        self.registry.holdings(|holdings| {
            let has_losses = |name: &NodeName| !is_planted(Plant::LostCopyCounted) && holdings.lost(name) > 0;
            let is_trusted =
                |place: &Place| discounts.counts(&place.datanode) && !has_losses(&place.datanode);
            places.into_iter().filter(is_trusted).collect()
        })
    }

    /// Returns the registered places that do not hold the message any more.
    fn lost(&self, places: &[Place]) -> Vec<Place> {
        let is_lost = |holdings: &Holdings| {
            places.iter().filter(|place| holdings.is_lost(place)).cloned().collect::<Vec<_>>()
        };
        self.registry.holdings(is_lost)
    }

    /// Fails if an id that is not registered may nevertheless have been used.
    fn check_that_nothing_is_missing(&self) -> Result<(), PlacementError> {
        match self.registry.holdings(Holdings::unasked) {
            None => Ok(()),
            Some(_) if is_planted(Plant::NotFoundUnasked) => Ok(()),
            Some(unasked) => Err(PlacementError::CannotTell { unasked }),
        }
    }

    /// Fails if another headnode may have taken over, and stored the message, before this request began. A datanode answers
    /// only while it serves no other headnode, and another one serves no client before a majority serves it.
    async fn check_that_it_leads(&self, id: Id) -> Result<(), PlacementError> {
        let Some(needed) = self.settings.confirmed_by else { return Ok(()) };
        let mut line = Vec::new();
        json::encode(&NodeRequest::Fetch { id }, &mut line);
        let links: Vec<_> = self.cluster.table.borrow().links().cloned().collect();
        let asked: Vec<_> = links.iter().filter_map(|link| link.ask(&line).ok()).collect();
        let serves = |reply: &Result<NodeReply, _>| {
            let taken_over = NodeFailure::TakenOver;
            reply
                .as_ref()
                .is_ok_and(|reply| !matches!(reply, NodeReply::Failed { code, .. } if *code == taken_over))
        };
        let confirmed = join_all(asked).await.iter().filter(|reply| serves(reply)).count();
        if confirmed >= needed { Ok(()) } else { Err(PlacementError::MayNotLead { confirmed, needed }) }
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
                self.check_that_it_leads(id).await?;
                return Err(PlacementError::NotFound);
            }
            Err(UnreadableLine) => return Err(PlacementError::UnreadableLine),
        };
        self.read(entry).await
    }

    /// Reads a registered message from any datanode that holds it.
    async fn read(&self, entry: RegistryEntry) -> Result<FoundMessage, PlacementError> {
        let mut places = entry.places.clone();
        places.shuffle(&mut *self.rng());
        self.registry.holdings(|holdings| places.sort_by_key(|place| holdings.is_lost(place)));
        let (mut damaged, mut away, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
        for place in places {
            match self.fetch(&entry, &place).await {
                Ok(found) => return Ok(found),
                Err(CopyState::Damaged) => damaged.push(place),
                Err(_) if self.discounts.borrow().of(&place.datanode) == Some(Discount::Forgotten) => {
                    forgotten.push(place);
                }
                Err(_) => away.push(place),
            }
        }
        Err(if !away.is_empty() {
            PlacementError::Away { places: away }
        } else if !forgotten.is_empty() {
            PlacementError::Lost { places: forgotten }
        } else {
            PlacementError::Damaged { places: damaged }
        })
    }

    /// Reads one copy of a message, and returns its state.
    pub async fn check_copy(&self, entry: &RegistryEntry, place: &Place) -> CopyState {
        self.fetch(entry, place).await.map_or_else(|state| state, |_| CopyState::Good)
    }

    /// Reads one copy of a message. If it is damaged or gone, that is noted, so that it is repaired.
    async fn fetch(&self, entry: &RegistryEntry, place: &Place) -> Result<FoundMessage, CopyState> {
        let mut line = Vec::new();
        json::encode(&NodeRequest::Fetch { id: entry.id }, &mut line);
        let link = self.cluster.table.borrow().find(&place.datanode).cloned();
        let Some(Ok(asked)) = link.map(|link| link.ask(&line)) else { return Err(CopyState::Unknown) };
        match asked.await {
            Ok(NodeReply::Record(StoredRecord { seq, time, id, client, message }))
                if (id, MessageCrc::of(&message)) == (entry.id, entry.message_crc32c) =>
            {
                let from = Place { datanode: place.datanode.clone(), seq };
                Ok(FoundMessage { time, client, message, from })
            }
            // What the disk does not give now, it may give later.
            Ok(NodeReply::Failed { code: NodeFailure::Unreadable, .. }) | Err(_) => Err(CopyState::Unknown),
            Ok(NodeReply::Failed { code: NodeFailure::Damaged | NodeFailure::NotFound, .. }) => {
                self.registry.mark_lost(place);
                Err(CopyState::Damaged)
            }
            Ok(_) => Err(CopyState::Damaged),
        }
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
    pub async fn overview(&self, events: WantedEvents) -> StoreOverview {
        let cluster = self.cluster.status(events).await;
        let registered = self.registry.holdings(|holdings| {
            let of = |DatanodeStatus { name, .. }: &DatanodeStatus| RegisteredRecords {
                held: holdings.records(name),
                lost: holdings.lost(name),
            };
            cluster.datanodes.iter().map(of).collect()
        });
        let PlacerSettings { epoch, replicas, .. } = self.settings;
        let messages = self.registry.messages();
        let drained = self.discounts.borrow().draining().cloned().collect();
        StoreOverview { cluster, drained, registered, replicas, messages, epoch: Some(epoch) }
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
