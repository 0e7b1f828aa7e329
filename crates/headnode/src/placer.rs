//! Stores a message on datanodes and reads it back, whatever fails on the way.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use chrono::Utc;
use journal::timestamp;
use protocol::json;
use protocol::storage::{Failure, Reply as Stored, Request as Storing};
use protocol::store::{Entry, ErrorCode, NodeState, NodeStatus, Reply, Status};
use protocol::types::{Id, MessageCrc, NodeName, Place, ulid};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::directory::Directory;
use crate::link::Link;
use crate::registry::{Registry, RegistryError};

/// Memory for messages on their way to datanodes, in bytes; further ones wait their turn.
const ON_THEIR_WAY_BYTES: usize = 64 * 1024 * 1024;
/// What a message on its way takes besides its text.
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

    /// Stores a message, unless it is stored already.
    pub async fn put(&self, id: Option<Id>, message: String, client: SocketAddr) -> Reply {
        let id = id.unwrap_or_else(|| {
            let random = u128::from(self.directory.random()) << 64 | u128::from(self.directory.random());
            ulid(u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0), random)
        });
        let message_crc32c = MessageCrc::of(&message);
        let mut attempts = Attempts::default();
        if let Some(entry) = self.registry.lookup(id) {
            if entry.message_crc32c != message_crc32c {
                return conflict(id);
            }
            if entry.places.len() >= self.replicas {
                return Reply::Saved { id, places: entry.places, message_crc32c };
            }
            attempts.places = entry.places;
        }
        let bytes = u32::try_from(message.len() + OVERHEAD_BYTES).unwrap_or(u32::MAX);
        // It cannot fail: nobody closes the semaphore.
        let _room = self.room.acquire_many(bytes).await;
        let mut line = Vec::with_capacity(message.len() + OVERHEAD_BYTES);
        json::encode(&Storing::Store { id, client, message }, &mut line);
        self.place(id, &line, message_crc32c, &mut attempts).await;
        if attempts.places.is_empty() {
            return attempts.verdict(id, self.replicas);
        }
        let confirmed = attempts.places.len();
        let places = mem::take(&mut attempts.places);
        let entry = Entry { time: String::new(), id, client, places, message_crc32c };
        match self.registry.record(entry).await {
            Ok(entry) if confirmed >= self.replicas => {
                Reply::Saved { id, places: entry.places, message_crc32c }
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

    /// Reads a message back, from any datanode that holds it.
    pub async fn get(&self, id: Id) -> Reply {
        let Some(entry) = self.registry.lookup(id) else {
            return error(Some(id), ErrorCode::NotFound, "no message has this id");
        };
        let mut places = entry.places;
        self.directory.shuffle(&mut places);
        let mut line = Vec::new();
        json::encode(&Storing::Fetch { id }, &mut line);
        let mut damaged = Vec::new();
        let mut away = Vec::new();
        for place in places {
            let link = self.directory.operative().iter().find(|link| link.name == place.datanode).cloned();
            let Some(Ok(asked)) = link.map(|link| link.ask(&line)) else {
                away.push(place.to_string());
                continue;
            };
            match asked.await {
                Ok(Stored::Record(record))
                    if record.id == id && MessageCrc::of(&record.message) == entry.message_crc32c =>
                {
                    let from = Place { datanode: place.datanode, seq: record.seq };
                    let (time, client, message) = (record.time, record.client, record.message);
                    return Reply::Record { id, time, client, message, from };
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
            format!("it is held at {}, which is not operative: try again when it is", away.join(", "));
        error(Some(id), ErrorCode::Unavailable, &reason)
    }

    /// The last `last` messages in front of the mark `before`.
    pub fn list(&self, last: usize, before: Option<u64>) -> Reply {
        match self.registry.list(last, before) {
            Ok((entries, before)) => Reply::Messages { entries, before },
            Err(cause) => {
                tracing::error!(%cause, "cannot read registro_server.txt");
                error(None, ErrorCode::RegistryFailed, "the headnode cannot read its registry")
            }
        }
    }

    /// The datanodes and totals.
    #[must_use]
    pub fn status(&self) -> Reply {
        let (now, wall_clock) = (Instant::now().duration_since(self.directory.start()), Utc::now());
        let (datanodes, round) = self.directory.look(|membership| {
            let nodes = membership.nodes().map(|(name, node)| NodeStatus {
                name: name.clone(),
                state: node.state(),
                address: node.address,
                // Newer than what it last answered, if messages have been stored there since.
                records: node.records.max(self.registry.held_by(name)),
                free_bytes: node.free_bytes,
                last_answer: timestamp(wall_clock - now.saturating_sub(node.last_answer)),
                round_trip_us: u64::try_from(node.round_trip.as_micros()).unwrap_or(u64::MAX),
            });
            (nodes.collect::<Vec<_>>(), membership.round())
        });
        let operative = datanodes.iter().filter(|node| node.state == NodeState::Operative).count();
        Reply::Status(Status {
            datanodes,
            operative,
            expected: self.expected,
            replicas: self.replicas,
            messages: self.registry.messages(),
            round,
        })
    }
}

impl Attempts {
    fn is_untried(&self, name: &NodeName) -> bool {
        !self.tried.contains(name) && !self.places.iter().any(|place| &place.datanode == name)
    }

    fn take(&mut self, link: &Link, id: Id, message_crc32c: MessageCrc, reply: Option<Stored>) {
        match reply {
            Some(Stored::Stored { id: stored, seq, message_crc32c: crc })
                if (stored, crc) == (id, message_crc32c) =>
            {
                self.places.push(Place { datanode: link.name.clone(), seq });
                return;
            }
            Some(Stored::Failed { code, reason }) => {
                tracing::warn!(datanode = %link.name, %id, reason, "not stored there");
                self.full += usize::from(code == Failure::DiskFull);
                self.conflict |= code == Failure::IdConflict;
            }
            Some(_) => {
                tracing::error!(datanode = %link.name, %id, "it confirms something else than it was sent");
            }
            None => tracing::debug!(datanode = %link.name, %id, "no confirmation: trying elsewhere"),
        }
        self.tried.push(link.name.clone());
    }

    /// Why there are too few places.
    fn verdict(&self, id: Id, replicas: usize) -> Reply {
        if self.conflict {
            return conflict(id);
        }
        if self.tried.is_empty() && self.places.is_empty() && replicas == 1 {
            let reason = "no datanode is operative: the message is not stored; try again";
            return error(Some(id), ErrorCode::NoOperativeDatanode, reason);
        }
        if self.full > 0 && self.full == self.tried.len() {
            let reason = "no operative datanode has space for the message: free some, or add a datanode";
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

fn conflict(id: Id) -> Reply {
    error(Some(id), ErrorCode::IdConflict, "this id was used for another message: choose a new one")
}

fn not_registered(id: Id, cause: &RegistryError) -> Reply {
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

fn error(id: Option<Id>, code: ErrorCode, reason: &str) -> Reply {
    Reply::Error { id, code, reason: reason.to_owned() }
}
