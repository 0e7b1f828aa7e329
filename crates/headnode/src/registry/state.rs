//! The registry's file and its index.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use journal::{Batch, Checksum, DiskFile, JournalFile, OffsetIndex, Records, WriteFailure, record_at};
use protocol::store::json::MAX_FRAME_BYTES;
use protocol::store::types::{Id, MessageCrc, NodeName, Place, RegistryEntry};
use records::remembered::Remembered;
use records::{REGISTRY_FILE, parse_entry, push_entry};
use service::WallClock;
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
    /// Registered places at which the message is not any more.
    pub gone: Vec<Place>,
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
    pub reader: Arc<dyn DiskFile>,
    pub clock: WallClock,
    /// The offset of each message's newest line.
    pub index: OffsetIndex,
    pub holdings: Holdings,
    pub completeness: Completeness,
    /// The names of the datanodes that this headnode has used or heard of. `None` once the registry is closed.
    pub remembered: Option<Remembered>,
    /// Datanodes with records that had no room in the file.
    pub behind: BTreeSet<NodeName>,
    /// Whether the last write had room.
    pub has_room: bool,
    pub batch: Batch,
}

impl RegistryState {
    /// Returns the length of the file in bytes.
    pub fn bytes(&self) -> io::Result<u64> {
        self.reader.status().map(|(bytes, _)| bytes)
    }

    /// Returns the entry that is registered for `id`.
    pub fn lookup(&self, id: Id) -> Result<Option<RegistryEntry>, UnreadableLine> {
        self.read_entry(id).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read registro_server.txt");
            Err(UnreadableLine)
        })
    }

    /// Does what [`lookup`](Self::lookup) does, and tells a damaged line from a disk that cannot be read: what is on such
    /// a disk may be needed.
    ///
    /// # Errors
    /// Fails if the disk cannot be read.
    fn read_entry(&self, id: Id) -> io::Result<Result<Option<RegistryEntry>, UnreadableLine>> {
        let Some(offset) = self.index.get(id.into()) else { return Ok(Ok(None)) };
        let line = record_at(&*self.reader, offset, Checksum::Crc32c)?;
        let entry = line.and_then(|line| parse_entry(&line)).filter(|entry| entry.id == id);
        Ok(entry.map(Some).ok_or(UnreadableLine))
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
        let now = timestamp(self.clock.now());
        let (mut found, mut released) = (Vec::new(), Vec::new());
        for Registration { time, id, client, places, gone, message_crc32c, beginning } in registrations {
            let time = time.unwrap_or_else(|| now.clone());
            let entry = RegistryEntry { time, id, client, places, message_crc32c, beginning };
            let known = match fresh.get(&entry.id) {
                Some((_, at)) => merged.get(*at).cloned(),
                // A damaged line is replaced by a new one.
                None => self.read_entry(entry.id).map_err(cannot_read)?.unwrap_or(None),
            };
            found.extend(entry.places.iter().filter(|place| self.holdings.is_lost(place)).cloned());
            let Merger { entry, gone, is_news } = merge(known, entry, gone);
            if is_news {
                fresh.insert(entry.id, (self.batch.as_bytes().len() as u64, merged.len()));
                push_entry(&mut self.batch, &entry, &gone);
                released.extend(gone);
            }
            merged.push(entry);
        }
        if !self.batch.is_empty() {
            // The file is open here, because callers check that first.
            let Some(file) = self.file.as_mut() else { return Ok(merged) };
            let written = file.write(self.batch.as_bytes());
            self.has_room = written.is_ok();
            if !self.has_room {
                let places = merged.iter().flat_map(|entry| &entry.places);
                self.behind.extend(places.map(|place| place.datanode.clone()));
            }
            let start = written?;
            for (id, (at, _)) in fresh {
                self.index.insert(id.into(), start + at);
            }
        }
        for place in merged.iter().flat_map(|entry| &entry.places) {
            self.holdings.hold(place);
        }
        found.iter().for_each(|place| self.holdings.mark_found(place));
        released.iter().for_each(|place| self.holdings.release(place));
        Ok(merged)
    }

    /// Returns whether `datanode` still holds what is registered of it. If the datanode should hold anything from
    /// `from` on, at least one of these records has to be on the page, and those on the page have to be the same.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`] if the registry cannot be read.
    pub fn agrees(&self, datanode: &NodeName, from: u64, page: &[Holding]) -> Result<bool, WriteFailure> {
        if from > self.holdings.known_to(datanode) {
            return Ok(true);
        }
        let known = page.iter().filter(|holding| self.holdings.contains(datanode, holding.seq));
        let mut agrees = false;
        for holding in known.take(usize::try_from(RECHECKED).unwrap_or(usize::MAX)) {
            agrees = self.is_registered(datanode, holding)?;
            if !agrees {
                break;
            }
        }
        Ok(agrees)
    }

    /// Returns whether exactly this record is registered at this place.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`] if the registry cannot be read.
    pub fn is_registered(
        &self,
        datanode: &NodeName,
        Holding { seq, id, .. }: &Holding,
    ) -> Result<bool, WriteFailure> {
        let entry = self.read_entry(*id).map_err(cannot_read)?.unwrap_or(None);
        Ok(entry.is_some_and(|entry| {
            entry.places.iter().any(|place| (&place.datanode, place.seq) == (datanode, *seq))
        }))
    }

    /// Returns the last `count` messages in front of the mark `before`, newest first, and the mark for older ones.
    /// Returns fewer than `count` if more would not fit into a frame.
    pub fn list(&self, count: usize, before: Option<u64>) -> io::Result<(Vec<RegistryEntry>, Option<u64>)> {
        let mut end = self.bytes()?.min(before.unwrap_or(u64::MAX));
        let mut entries = Vec::new();
        let mut room = MAX_FRAME_BYTES - REPLY_BYTES;
        while end > 0 {
            let start = end.saturating_sub(LIST_BLOCK_BYTES);
            // The lines in this block with their offsets. The first line may have begun before the block.
            let mut lines = Vec::new();
            for line in Records::from(&*self.reader, start, Checksum::Crc32c) {
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

/// Returns the failure of a registry that cannot be read. Its lines must not be replaced then, so the headnode stops, and
/// its next start reads the whole file.
fn cannot_read(cause: io::Error) -> WriteFailure {
    WriteFailure::Fatal { action: "read", path: REGISTRY_FILE.to_owned(), cause }
}

/// What becomes of an entry when another one is added to it.
struct Merger {
    /// The entry with the places of both.
    entry: RegistryEntry,
    /// The places that the known entry had, and that the new line leaves out.
    gone: Vec<Place>,
    /// Whether a new line is needed.
    is_news: bool,
}

/// Adds `entry` to the known one, and removes the places `gone` from that. A message keeps at least one place.
fn merge(known: Option<RegistryEntry>, entry: RegistryEntry, mut gone: Vec<Place>) -> Merger {
    let Some(mut known) = known else { return Merger { entry, gone: Vec::new(), is_news: true } };
    if known.message_crc32c != entry.message_crc32c {
        tracing::error!(
            id = %entry.id, known = ?known.places, other = ?entry.places,
            "two different messages have one id: only the first is registered"
        );
        return Merger { entry: known, gone: Vec::new(), is_news: false };
    }
    gone.retain(|place| known.places.contains(place) && !entry.places.contains(place));
    let news: Vec<_> = entry.places.into_iter().filter(|place| !known.places.contains(place)).collect();
    if gone.len() == known.places.len() + news.len() {
        gone.clear();
    }
    let is_news = !(news.is_empty() && gone.is_empty());
    if is_news {
        known.time = entry.time;
        known.places.retain(|place| !gone.contains(place));
        known.places.extend(news);
        known.beginning = known.beginning.or(entry.beginning);
    }
    Merger { entry: known, gone, is_news }
}
