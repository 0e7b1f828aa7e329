//! Indexes of the records in the files of the datanodes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use journal::{Checksum, Damage};
use protocol::store::types::{Id, MessageCrc, NodeName, Place};
use records::{parse_data, parse_data_key};

use super::file::{VerifyError, read, tell_tail};
use super::finding::{Finding, PlaceProblem};

/// The length of number, time and id at the start of a line, at most.
const KEY_BYTES: u64 = 128;

/// An index for each datanode whose file was read.
#[derive(Default)]
pub struct Indexes(BTreeMap<NodeName, RecordIndex>);

/// The records of one file.
#[derive(Default)]
struct RecordIndex {
    /// Sorted by id, then by number.
    records: Vec<IndexedRecord>,
    damaged: Vec<Suspect>,
}

struct IndexedRecord {
    id: Id,
    seq: u64,
    message_crc32c: MessageCrc,
}

/// The number and the id that a damaged line seems to have.
struct Suspect {
    offset: u64,
    seq: u64,
    id: Id,
}

impl Indexes {
    /// Reads the file of a datanode.
    pub fn add(
        &mut self,
        name: NodeName,
        path: &Path,
        tell: &mut dyn FnMut(Finding),
    ) -> Result<(), VerifyError> {
        if self.0.contains_key(&name) {
            return Err(VerifyError::Twice(name));
        }
        let mut index = RecordIndex::default();
        let mut foreign = Vec::new();
        let recovery = read(path, Checksum::Crc32c, |offset, line| {
            match std::str::from_utf8(line).ok().and_then(parse_data) {
                Some(record) => index.records.push(IndexedRecord {
                    id: record.id,
                    seq: record.seq,
                    message_crc32c: MessageCrc::of(&record.message),
                }),
                None => foreign.push(offset),
            }
        })?;
        index.records.sort_unstable_by_key(|held| (held.id, held.seq));
        let offsets = foreign.into_iter().chain(recovery.damaged.iter().map(|damage| damage.offset));
        for offset in offsets {
            tell(Finding::DamagedLine { file: path.to_owned(), offset });
        }
        index.damaged = suspects(path, &recovery.damaged)
            .map_err(|cause| VerifyError::Unreadable { path: path.to_owned(), cause })?;
        tell_tail(path, &recovery, tell);
        self.0.insert(name, index);
        Ok(())
    }

    /// Returns the places of all intact copies of the message, one for each datanode that holds it just once. A copy that
    /// was made later on a datanode of `places` has a higher number there.
    pub fn intact(&self, id: Id, message_crc32c: MessageCrc, places: &[Place]) -> Vec<Place> {
        let on = |(name, index): (&NodeName, &RecordIndex)| match index.of(id) {
            [held] if held.message_crc32c == message_crc32c => {
                Some(Place { datanode: name.clone(), seq: held.seq })
            }
            _ => None,
        };
        let is_lower =
            |held: &Place| places.iter().any(|place| place.datanode == held.datanode && held.seq < place.seq);
        self.0.iter().filter_map(on).filter(|held| !is_lower(held)).collect()
    }

    /// Checks that `place` holds the message.
    pub fn check(&self, place: &Place, id: Id, message_crc32c: MessageCrc) -> Result<(), PlaceProblem> {
        let Some(index) = self.0.get(&place.datanode) else { return Err(PlaceProblem::Unchecked) };
        let found = index.of(id);
        let seqs = || found.iter().map(|held| held.seq).collect();
        match found {
            [] => Err(index.damaged_at(place.seq, id)),
            [held] if held.seq != place.seq => Err(PlaceProblem::Elsewhere { seqs: seqs() }),
            [held] if held.message_crc32c != message_crc32c => {
                Err(PlaceProblem::Different { found: held.message_crc32c, expected: message_crc32c })
            }
            [_] => Ok(()),
            _ => Err(PlaceProblem::Duplicate { seqs: seqs() }),
        }
    }
}

impl RecordIndex {
    /// Returns the records with this id.
    fn of(&self, id: Id) -> &[IndexedRecord] {
        let start = self.records.partition_point(|held| held.id < id);
        let length = self.records[start..].iter().take_while(|held| held.id == id).count();
        &self.records[start..start + length]
    }

    fn damaged_at(&self, seq: u64, id: Id) -> PlaceProblem {
        // Either number or id may be what is damaged in the line.
        let suspect = self.damaged.iter().find(|suspect| suspect.seq == seq || suspect.id == id);
        suspect.map_or(PlaceProblem::Missing, |suspect| PlaceProblem::Damaged { offset: suspect.offset })
    }
}

/// Returns what damaged lines seem to have been, where number and id can still be read.
fn suspects(path: &Path, damaged: &[Damage]) -> io::Result<Vec<Suspect>> {
    if damaged.is_empty() {
        return Ok(Vec::new());
    }
    let mut file = File::open(path)?;
    let mut suspects = Vec::new();
    for Damage { offset, bytes } in damaged {
        file.seek(SeekFrom::Start(*offset))?;
        let mut line = Vec::new();
        file.by_ref().take(KEY_BYTES.min(*bytes)).read_to_end(&mut line)?;
        if let Some((seq, id)) = parse_data_key(&line) {
            suspects.push(Suspect { offset: *offset, seq, id });
        }
    }
    Ok(suspects)
}
