//! The registry's file and its index.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;

use chrono::Utc;
use journal::{Batch, Checksum, JournalFile, OffsetIndex, Records, WriteFailure, record_at};
use protocol::store::json::MAX_FRAME_BYTES;
use protocol::store::types::{Id, MessageCrc, NodeName, Place, RegistryEntry};
use records::{parse_entry, push_entry};
use text::timestamp;

use super::completeness::Completeness;
use super::holdings::{Holdings, RECHECKED};

/// How many bytes are read at a time when the last messages are listed.
const LIST_BLOCK_BYTES: u64 = 64 * 1024;
/// The highest number of bytes of a reply to `list` besides its entries.
const REPLY_BYTES: usize = 128;
/// The highest number of bytes of such an entry beyond those of its line in the file. Each place may take `PLACE_BYTES`
/// more.
const ENTRY_BYTES: usize = 128;
const PLACE_BYTES: usize = 24;
/// Memory that is kept between batches, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// A message is registered, but its line cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadableLine;

/// Places of a message to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// When the message was stored there: RFC 3339, UTC. `None` stands for now.
    pub time: Option<String>,
    pub id: Id,
    /// The address of the client that sent the message.
    pub client: SocketAddr,
    /// The places at which the message is on disk.
    pub places: Vec<Place>,
    pub message_crc32c: MessageCrc,
    /// The beginning of the message, if it is known.
    pub beginning: Option<String>,
}

/// A record that a datanode holds, without its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    pub seq: u64,
    pub id: Id,
    /// When the record was written: RFC 3339, UTC.
    pub time: String,
    /// Address of the client that sent the message.
    pub client: SocketAddr,
    pub message_crc32c: MessageCrc,
    /// The beginning of the message. Older datanodes do not send it.
    pub beginning: Option<String>,
}

/// The data that the registry's lock protects.
#[derive(Debug)]
pub struct RegistryState {
    /// `None` once the registry is closed.
    pub file: Option<JournalFile>,
    pub reader: File,
    /// The offset of each message's newest line.
    pub index: OffsetIndex,
    pub holdings: Holdings,
    pub completeness: Completeness,
    pub batch: Batch,
}

impl RegistryState {
    /// Returns the entry that is registered for `id`.
    pub fn lookup(&self, id: Id) -> Result<Option<RegistryEntry>, UnreadableLine> {
        let Some(offset) = self.index.get(id.into()) else { return Ok(None) };
        let line = record_at(&self.reader, offset, Checksum::Crc32c).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read registro_server.txt");
            None
        });
        let entry = line.and_then(|line| parse_entry(&line)).filter(|entry| entry.id == id);
        entry.map(Some).ok_or(UnreadableLine)
    }

    /// Writes a line for each of `registrations` that adds something new. Returns the whole entry of each message.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`] if the lines cannot be written.
    pub fn write(&mut self, registrations: Vec<Registration>) -> Result<Vec<RegistryEntry>, WriteFailure> {
        let mut merged: Vec<RegistryEntry> = Vec::with_capacity(registrations.len());
        // For each identifier in this batch: the offset of its newest line within the batch, and the position of its
        // entry.
        let mut fresh: HashMap<Id, (u64, usize)> = HashMap::with_capacity(registrations.len());
        self.batch.clear(KEPT_BYTES);
        let now = timestamp(Utc::now());
        for Registration { time, id, client, places, message_crc32c, beginning } in registrations {
            let time = time.unwrap_or_else(|| now.clone());
            let entry = RegistryEntry { time, id, client, places, message_crc32c, beginning };
            let known = match fresh.get(&entry.id) {
                Some((_, at)) => merged.get(*at).cloned(),
                // A line that cannot be read is replaced by a new one.
                None => self.lookup(entry.id).unwrap_or(None),
            };
            let (entry, is_news) = merge(known, entry);
            if is_news {
                fresh.insert(entry.id, (self.batch.as_bytes().len() as u64, merged.len()));
                push_entry(&mut self.batch, &entry);
            }
            merged.push(entry);
        }
        if !self.batch.is_empty() {
            // The file is open here, because callers check that first.
            let Some(file) = self.file.as_mut() else { return Ok(merged) };
            let start = file.write(self.batch.as_bytes())?;
            for (id, (at, _)) in fresh {
                self.index.insert(id.into(), start + at);
            }
        }
        for place in merged.iter().flat_map(|entry| &entry.places) {
            self.holdings.hold(place);
        }
        Ok(merged)
    }

    /// Returns whether `datanode` still holds what is registered of it. If the datanode should hold anything from
    /// `from` on, at least one of these records has to be on the page, and those on the page have to be the same.
    pub fn agrees(&self, datanode: &NodeName, from: u64, page: &[Holding]) -> bool {
        if from > self.holdings.known_to(datanode) {
            return true;
        }
        let mut known =
            page.iter().filter(|holding| self.holdings.contains(datanode, holding.seq)).peekable();
        known.peek().is_some()
            && known
                .take(usize::try_from(RECHECKED).unwrap_or(usize::MAX))
                .all(|holding| self.is_registered(datanode, holding))
    }

    /// Returns whether exactly this record is registered at this place.
    pub fn is_registered(&self, datanode: &NodeName, Holding { seq, id, .. }: &Holding) -> bool {
        let entry = self.lookup(*id).unwrap_or(None);
        entry.is_some_and(|entry| {
            entry.places.iter().any(|place| (&place.datanode, place.seq) == (datanode, *seq))
        })
    }

    /// Returns the last `count` messages in front of the mark `before`, newest first, and the mark for older ones.
    /// Returns fewer than `count` if more would not fit into a frame.
    pub fn list(&self, count: usize, before: Option<u64>) -> io::Result<(Vec<RegistryEntry>, Option<u64>)> {
        let mut end = self.reader.metadata()?.len().min(before.unwrap_or(u64::MAX));
        let mut entries = Vec::new();
        let mut room = MAX_FRAME_BYTES - REPLY_BYTES;
        while end > 0 {
            let start = end.saturating_sub(LIST_BLOCK_BYTES);
            // The lines in this block with their offsets. The first line may have begun before the block.
            let mut lines = Vec::new();
            for line in Records::from(&self.reader, start, Checksum::Crc32c) {
                let (offset, record) = line?;
                if offset >= end {
                    break;
                }
                lines.push((offset, record));
            }
            for (offset, record) in lines.iter().rev() {
                let line = record.as_deref().unwrap_or_default();
                let entry = parse_entry(line);
                // Only the newest line of a message has all its places, so older lines are skipped.
                let Some(entry) = entry.filter(|entry| self.index.get(entry.id.into()) == Some(*offset))
                else {
                    continue;
                };
                let bytes = line.len() + ENTRY_BYTES + PLACE_BYTES * entry.places.len();
                if entries.len() == count || bytes > room {
                    return Ok((entries, Some(*offset + 1)));
                }
                room -= bytes;
                entries.push(entry);
            }
            // The block may begin inside a line. That line is read again, whole, with the next block.
            end = if start == 0 { 0 } else { lines.get(1).map_or(start, |(offset, _)| *offset) };
        }
        Ok((entries, None))
    }
}

/// Returns the entry with the places of both, and whether `entry` has added something new.
fn merge(known: Option<RegistryEntry>, entry: RegistryEntry) -> (RegistryEntry, bool) {
    let Some(mut known) = known else { return (entry, true) };
    if known.message_crc32c != entry.message_crc32c {
        tracing::error!(
            id = %entry.id, known = ?known.places, other = ?entry.places,
            "two different messages have one id: only the first is registered"
        );
        return (known, false);
    }
    let news: Vec<_> = entry.places.into_iter().filter(|place| !known.places.contains(place)).collect();
    let is_news = !news.is_empty();
    if is_news {
        known.time = entry.time;
        known.places.extend(news);
        known.beginning = known.beginning.or(entry.beginning);
    }
    (known, is_news)
}
