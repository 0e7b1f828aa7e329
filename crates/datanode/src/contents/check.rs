//! Checks again whether records can be read, while the file is in use.
//!
//! The file is checked in segments, from one mark to the next. Each line has to have the right checksum, each record has
//! to begin where the index says, and the numbers have to follow each other. What is found damaged is taken out of the
//! index, and its number becomes a gap: the headnode asks for the gaps, and the message can be stored here again, under
//! another number.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use journal::{Checksum, Records};
use protocol::store::types::Id;
use records::parse_data_key;
use roaring::RoaringTreemap;

use super::{DataContents, Mark};

/// What a check of a segment has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CheckedSegment {
    /// How many bytes were read.
    pub bytes: u64,
    /// The numbers of records that were readable before, and are not any more.
    pub lost: Vec<u64>,
}

/// The intact records of a segment.
#[derive(Debug, Default)]
struct IntactRecords {
    /// The offsets of those that the index names.
    offsets: BTreeSet<u64>,
    numbers: RoaringTreemap,
}

impl DataContents {
    /// Checks segment `number` of the file, from 0. Returns `None` behind the last one.
    ///
    /// # Errors
    /// Fails if the disk cannot be read. Nothing is taken for damaged then.
    pub fn check(&mut self, number: usize) -> io::Result<Option<CheckedSegment>> {
        let Some(Mark { seq: first, offset: start }) = self.marks.get(number).copied() else {
            return Ok(None);
        };
        let next = self.marks.get(number + 1).copied();
        let (end, behind) = match next {
            Some(Mark { seq, offset }) => (offset, seq),
            None => (self.reader.status()?.0, self.next_seq),
        };
        // What the system remembers of the file says nothing about the disk, and must not fill its memory.
        self.reader.forget_cached(start, end - start);
        let intact = self.intact_in(start..end);
        self.reader.forget_cached(start, end - start);
        let lost = self.take_out(start..end, first..behind, &intact?);
        Ok(Some(CheckedSegment { bytes: end - start, lost }))
    }

    /// Checks the segment of a record that could not be read.
    ///
    /// # Errors
    /// Fails as [`check`](Self::check) does.
    pub fn check_around(&mut self, id: Id) -> io::Result<CheckedSegment> {
        let Some(offset) = self.index.get(id.into()) else { return Ok(CheckedSegment::default()) };
        let behind = self.marks.partition_point(|mark| mark.offset <= offset);
        Ok(self.check(behind.saturating_sub(1))?.unwrap_or_default())
    }

    fn intact_in(&self, range: Range<u64>) -> io::Result<IntactRecords> {
        let mut intact = IntactRecords::default();
        for line in Records::from(&*self.reader, range.start, Checksum::Crc32c) {
            let (offset, line) = line?;
            if offset >= range.end {
                break;
            }
            let Some((seq, id)) = line.and_then(|line| parse_data_key(&line)) else { continue };
            match self.index.get(id.into()) {
                Some(named) if named == offset => {
                    intact.offsets.insert(offset);
                    intact.numbers.insert(seq);
                }
                // The message has an earlier record too, which is served.
                Some(named) if self.record_at(named)?.is_some_and(|record| record.id == id) => {
                    intact.numbers.insert(seq);
                }
                // The line belongs elsewhere.
                _ => {}
            }
        }
        Ok(intact)
    }

    /// Takes the records of a segment out of the index that are not intact. Returns their numbers.
    fn take_out(&mut self, bytes: Range<u64>, numbers: Range<u64>, intact: &IntactRecords) -> Vec<u64> {
        let is_elsewhere = |seq: u64| {
            self.gaps.iter().any(|gap| gap.contains(&seq))
                || self.displaced.iter().any(|mark| mark.seq == seq)
        };
        let ascending = numbers.filter(|seq| !intact.numbers.contains(*seq) && !is_elsewhere(*seq));
        let is_here = |mark: &&Mark| bytes.contains(&mark.offset) && !intact.offsets.contains(&mark.offset);
        let displaced = self.displaced.iter().filter(is_here).map(|mark| mark.seq);
        let known = |seq: &u64| !self.gaps.iter().any(|gap| gap.contains(seq));
        let lost: Vec<_> = ascending.chain(displaced.filter(known)).collect();
        if !lost.is_empty() {
            self.index.retain(|offset| !bytes.contains(&offset) || intact.offsets.contains(&offset));
            lost.iter().for_each(|seq| self.add_gap(*seq));
        }
        lost
    }

    fn add_gap(&mut self, seq: u64) {
        let at = self.gaps.partition_point(|gap| *gap.end() < seq);
        let continues = at > 0 && *self.gaps[at - 1].end() + 1 == seq;
        let precedes = self.gaps.get(at).is_some_and(|gap| *gap.start() == seq + 1);
        match (continues, precedes) {
            (true, true) => {
                let last = *self.gaps.remove(at).end();
                self.gaps[at - 1] = *self.gaps[at - 1].start()..=last;
            }
            (true, false) => self.gaps[at - 1] = *self.gaps[at - 1].start()..=seq,
            (false, true) => self.gaps[at] = seq..=*self.gaps[at].end(),
            (false, false) => self.gaps.insert(at, seq..=seq),
        }
    }
}
