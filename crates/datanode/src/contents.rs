//! The contents of `data.txt`: found when the file is opened, and kept up to date after that.
//!
//! A disk can lose sectors, exchange them or return old ones anywhere in the file. So this module does not rely on the
//! order of the lines. A record that cannot be read leaves a gap in the numbers, and the headnode can ask for the gaps.

pub mod check;

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context as _, ensure};
use journal::plants::{Plant, is_planted};
use journal::{
    Access, Checksum, Disk, DiskFile, JournalFile, OffsetIndex, Records, Recovery, record_at, torn_tails_of,
};
use protocol::store::types::{Id, StoredRecord};
use records::{parse_data, parse_data_key};
use roaring::RoaringTreemap;

/// The offset of one record in this many is kept by its number, so that an inventory or a check can begin there. Where
/// records are long, more are kept, so that a check reads little at a time.
const MARK_EVERY: u64 = 256;
const MARK_EVERY_BYTES: u64 = 64 * 1024;
/// How many damaged lines are logged one by one at the start.
const NAMED_DAMAGES: usize = 20;
/// The shortest line of `data.txt`, in bytes. A torn or damaged stretch held at most one record for each of these.
const MIN_RECORD_BYTES: u64 = 80;

/// An index of the records in `data.txt`, which reads them on demand.
#[derive(Debug)]
pub struct DataContents {
    reader: Box<dyn DiskFile>,
    index: OffsetIndex,
    marks: Vec<Mark>,
    /// Records whose number is not higher than all numbers in front of them in the file, sorted by number.
    displaced: Vec<Mark>,
    /// Numbers that were assigned, or may have been, and that no readable record has.
    gaps: Vec<RangeInclusive<u64>>,
    next_seq: u64,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes of the record are not those that were written.
    #[error("the record is damaged on disk")]
    Damaged,
    /// The disk cannot be read.
    #[error("the datanode cannot read its disk")]
    Unreadable,
}

/// Logs that the disk cannot be read, and returns the error for the caller.
fn unreadable(error: &io::Error) -> ReadError {
    tracing::error!(%error, "cannot read data.txt");
    ReadError::Unreadable
}

/// A part of the records, in the order of their numbers.
#[derive(Debug, PartialEq, Eq)]
pub struct InventoryPage {
    /// The records of this page.
    pub records: Vec<StoredRecord>,
    /// Whether further records follow.
    pub more: bool,
}

/// The number of a record, and where it begins in the file.
#[derive(Debug, Clone, Copy)]
struct Mark {
    seq: u64,
    offset: u64,
}

/// What is collected while the file is read from its beginning.
#[derive(Debug, Default)]
struct Reading {
    index: OffsetIndex,
    marks: Vec<Mark>,
    displaced: Vec<Mark>,
    numbers: RoaringTreemap,
    highest: u64,
    last_offset: u64,
    unknown_lines: u64,
    repeated_ids: u64,
}

impl Reading {
    fn visit(&mut self, offset: u64, line: &[u8]) {
        let Some((seq, id)) = parse_data_key(line) else {
            self.unknown_lines += 1;
            return;
        };
        self.last_offset = offset;
        self.numbers.insert(seq);
        let is_new = self.index.get(id.into()).is_none();
        if is_new {
            self.index.insert(id.into(), offset);
        } else {
            self.repeated_ids += 1;
        }
        if seq > self.highest {
            self.highest = seq;
            remember(&mut self.marks, seq, offset);
        } else if is_new {
            self.displaced.push(Mark { seq, offset });
        }
    }

    /// Returns how many records may have been in the damaged and torn stretches behind the last readable record.
    fn unreadable_at_end(&self, recovery: &Recovery) -> u64 {
        let damaged = recovery.damaged.iter().filter(|damage| damage.offset >= self.last_offset);
        // A damaged line is one record, or several if their line ends are damaged. A torn tail may end within a record.
        damaged.map(|damage| (damage.bytes / MIN_RECORD_BYTES).max(1)).sum::<u64>()
            + recovery.torn_bytes.div_ceil(MIN_RECORD_BYTES)
    }

    /// Returns the ranges of numbers below `next_seq` that no readable record has.
    fn gaps(&self, next_seq: u64) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Vec::new();
        let mut expected = 1;
        for seq in self.numbers.iter().chain([next_seq]) {
            if seq > expected {
                gaps.push(expected..=seq - 1);
            }
            expected = seq.saturating_add(1);
        }
        gaps
    }
}

/// Opens or creates `data.txt`, cuts a torn tail, and builds the index.
///
/// # Errors
/// Fails if the file cannot be used, or if it holds anything other than a datanode's records.
pub fn open(disk: &Disk, path: &Path) -> anyhow::Result<(JournalFile, DataContents)> {
    let mut reading = Reading::default();
    let (file, recovery) =
        JournalFile::open_verified_on(disk, path, |offset, line| reading.visit(offset, line))?;
    let shown = path.display();
    ensure!(
        reading.unknown_lines == 0,
        "{shown} holds {} records that are not a datanode's: choose another --data-dir",
        reading.unknown_lines
    );
    report(path, &recovery, reading.repeated_ids);
    let unreadable = if is_planted(Plant::NumberReused) { 0 } else { reading.unreadable_at_end(&recovery) };
    let next_seq = reading.highest + unreadable + 1;
    let gaps = reading.gaps(next_seq);
    let reader = disk.open(path, Access::Read).with_context(|| format!("cannot read {shown}"))?;
    let Reading { index, marks, mut displaced, .. } = reading;
    displaced.sort_by_key(|mark| mark.seq);
    Ok((file, DataContents { reader, index, marks, displaced, gaps, next_seq }))
}

fn report(path: &Path, recovery: &Recovery, repeated_ids: u64) {
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            cut_bytes = recovery.torn_bytes,
            kept_in = %torn_tails_of(path).display(),
            "data.txt ended in half a record, which was cut off; if the record was confirmed, the headnode's registry shows that"
        );
    }
    for damage in recovery.damaged.iter().take(NAMED_DAMAGES) {
        tracing::error!(
            offset = damage.offset,
            bytes = damage.bytes,
            "data.txt has a damaged record: it is kept and never served"
        );
    }
    if repeated_ids > 0 {
        tracing::error!(
            repeated_ids,
            "data.txt holds identifiers more than once: the first record of each is served"
        );
    }
    let (records, damaged) = (recovery.records, recovery.damaged.len());
    tracing::info!(path = %path.display(), records, damaged, "data.txt opened");
}

fn remember(marks: &mut Vec<Mark>, seq: u64, offset: u64) {
    let is_far = |last: &Mark| seq >= last.seq + MARK_EVERY || offset >= last.offset + MARK_EVERY_BYTES;
    if marks.last().is_none_or(is_far) {
        marks.push(Mark { seq, offset });
    }
}

impl DataContents {
    /// Returns the number of messages held.
    pub fn records(&self) -> u64 {
        self.index.len() as u64
    }

    /// Returns the number that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Returns how many numbers were assigned that no readable record has.
    pub fn unreadable(&self) -> u64 {
        self.gaps.iter().map(|gap| (gap.end() - gap.start()).saturating_add(1)).fold(0, u64::saturating_add)
    }

    /// Returns whether the highest assigned number belongs to no readable record. Nothing in `data.txt` then shows that
    /// this number was assigned.
    pub fn ends_in_gap(&self) -> bool {
        self.gaps.last().is_some_and(|gap| gap.end() + 1 == self.next_seq)
    }

    /// Makes sure that no number up to `highest` is assigned any more. Returns the numbers that were still free.
    pub fn skip_to(&mut self, highest: u64) -> Option<RangeInclusive<u64>> {
        let skipped = self.next_seq..=highest;
        // No number could follow the highest number that exists.
        let next_seq = highest.checked_add(1)?;
        if skipped.is_empty() || is_planted(Plant::NumberReused) {
            return None;
        }
        self.gaps.push(skipped.clone());
        self.next_seq = next_seq;
        Some(skipped)
    }

    /// Returns up to `most` of the gaps that end at `from` or behind it, and whether there are more.
    pub fn gaps(&self, from: u64, most: usize) -> (Vec<(u64, u64)>, bool) {
        let mut gaps =
            self.gaps.iter().filter(|gap| *gap.end() >= from).map(|gap| (*gap.start(), *gap.end()));
        let page = gaps.by_ref().take(most).collect();
        (page, gaps.next().is_some())
    }

    /// Adds records that were written from byte `start` of the file on: the id, the number and the offset behind
    /// `start` of each.
    pub fn add(&mut self, added: &[(Id, u64, u64)], start: u64, next_seq: u64) {
        for (id, seq, at) in added {
            self.index.insert((*id).into(), start + at);
            remember(&mut self.marks, *seq, start + at);
        }
        self.next_seq = next_seq;
    }

    /// Returns the record of `id`, or `None` if there is none.
    ///
    /// # Errors
    /// Fails with a [`ReadError`] if the record is damaged or the disk cannot be read.
    pub fn read(&self, id: Id) -> Result<Option<StoredRecord>, ReadError> {
        let Some(offset) = self.index.get(id.into()) else { return Ok(None) };
        let record = self.record_at(offset).map_err(|error| unreadable(&error))?;
        match record.filter(|record| record.id == id) {
            Some(record) => Ok(Some(record)),
            None => {
                tracing::error!(%id, offset, "a record of data.txt is damaged: it is not served");
                Err(ReadError::Damaged)
            }
        }
    }

    /// Returns up to `most` of the records from number `from` on, sorted by number and each number once.
    ///
    /// # Errors
    /// Fails with [`ReadError::Unreadable`] if the disk cannot be read.
    pub fn inventory(&self, from: u64, most: usize) -> Result<InventoryPage, ReadError> {
        let mut displaced =
            self.displaced[self.displaced.partition_point(|mark| mark.seq < from)..].iter().peekable();
        let mut ascending = self.ascending_from(from);
        let mut next_ascending = || ascending.next().transpose().map_err(|error| unreadable(&error));
        let mut next = next_ascending()?;
        let mut records: Vec<StoredRecord> = Vec::new();
        loop {
            let before = next.as_ref().map_or(u64::MAX, |record| record.seq);
            let record = match displaced.next_if(|mark| mark.seq < before) {
                Some(mark) => {
                    let record = self.record_at(mark.offset).map_err(|error| unreadable(&error))?;
                    record.filter(|record| self.is_served(record, mark.offset))
                }
                None if next.is_none() => return Ok(InventoryPage { records, more: false }),
                None => std::mem::replace(&mut next, next_ascending()?),
            };
            // A record that was readable at the start may have been damaged since.
            let Some(record) = record else { continue };
            if records.last().is_some_and(|last| last.seq == record.seq) {
                continue;
            }
            if records.len() == most {
                return Ok(InventoryPage { records, more: true });
            }
            records.push(record);
        }
    }

    /// Returns whether this record, which is at `offset`, is the one that is served. A disk may have put a copy of it, or of
    /// an older state of the file, elsewhere.
    fn is_served(&self, record: &StoredRecord, offset: u64) -> bool {
        self.index.get(record.id.into()) == Some(offset)
    }

    /// Returns those records from number `from` on whose number is higher than all numbers in front of them in the
    /// file.
    fn ascending_from(&self, from: u64) -> impl Iterator<Item = io::Result<StoredRecord>> {
        let after = self.marks.partition_point(|mark| mark.seq <= from);
        let mark = after.checked_sub(1).map(|at| self.marks[at]);
        let (start, mut highest) = mark.map_or((0, 0), |mark| (mark.offset, mark.seq - 1));
        Records::from(&*self.reader, start, Checksum::Crc32c).filter_map(move |line| {
            let (offset, line) = match line {
                Ok((offset, line)) => (offset, line?),
                Err(error) => return Some(Err(error)),
            };
            let record = parse_data(std::str::from_utf8(&line).ok()?)?;
            if record.seq <= highest || !self.is_served(&record, offset) {
                return None;
            }
            highest = record.seq;
            (record.seq >= from).then_some(Ok(record))
        })
    }

    fn record_at(&self, offset: u64) -> io::Result<Option<StoredRecord>> {
        let line = if is_planted(Plant::NoChecksumOnFetch) {
            let line = record_at(&*self.reader, offset, Checksum::None)?;
            line.and_then(|line| line.rsplitn(2, |byte| *byte == b' ').nth(1).map(<[u8]>::to_vec))
        } else {
            record_at(&*self.reader, offset, Checksum::Crc32c)?
        };
        Ok(line.and_then(|line| parse_data(std::str::from_utf8(&line).ok()?)))
    }
}

#[cfg(test)]
mod tests;
