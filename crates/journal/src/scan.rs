//! Reads all records of a file, and distinguishes what a crash tore from what was damaged later.
//!
//! An acknowledged record ends with a line end that is on disk. The bytes behind the last line end are therefore
//! usually the torn tail of a write that was never acknowledged. The tail is cut, and a copy of it is kept
//! ([`torn_tails_of`](crate::file::torn_tails_of)): a disk that lost the last sector of an acknowledged record leaves
//! the same bytes, and only the program that received the acknowledgement can tell the difference. A whole line with a
//! wrong checksum is damage: it is reported, left in the file, and never served.

use std::io::{self, BufRead};

use crate::record::{Checksum, verified};

/// The longest record that a scan keeps in memory, in bytes. A longer line counts as damage.
pub const MAX_RECORD_BYTES: usize = 128 * 1024 * 1024;

/// A line of the file that is not a correct record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The start of the line, in bytes from the start of the file.
    pub offset: u64,
    /// The length of the line in bytes, with its line end.
    pub bytes: u64,
}

/// What was found in a file when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of whole and correct records. It is 0 if only the end of the file was read.
    pub records: u64,
    /// Lines whose checksum is wrong, in file order.
    pub damaged: Vec<Damage>,
    /// The length of the file up to and including its last line end, in bytes.
    pub whole_bytes: u64,
    /// The length of the torn tail behind the last line end, in bytes.
    pub torn_bytes: u64,
}

/// Reads all records of `file`, and passes each correct one with its offset to `visit`.
///
/// # Errors
/// Fails if `file` cannot be read.
pub fn scan(
    mut file: impl BufRead,
    checksum: Checksum,
    mut visit: impl FnMut(u64, &[u8]),
) -> io::Result<Recovery> {
    let mut found = Recovery::default();
    // The part of the present line that earlier reads returned.
    let mut carried = Vec::new();
    let mut line_bytes = 0u64;
    loop {
        let chunk = file.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        let end = memchr::memchr(b'\n', chunk);
        let (part, used) = end.map_or((chunk, chunk.len()), |end| (&chunk[..end], end + 1));
        line_bytes += used as u64;
        if end.is_none() || !carried.is_empty() {
            let room = MAX_RECORD_BYTES.saturating_sub(carried.len());
            carried.extend_from_slice(&part[..part.len().min(room)]);
        }
        if end.is_some() {
            let line = if carried.is_empty() { part } else { &carried };
            let complete = line.len() as u64 + 1 == line_bytes;
            match verified(line, checksum).filter(|_| complete) {
                Some(record) => {
                    visit(found.whole_bytes, record);
                    found.records += 1;
                }
                None => found.damaged.push(Damage { offset: found.whole_bytes, bytes: line_bytes }),
            }
            found.whole_bytes += line_bytes;
            line_bytes = 0;
            carried.clear();
        }
        file.consume(used);
    }
    found.torn_bytes = line_bytes;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::record::Batch;

    #[test]
    fn records_and_damage_are_found_wherever_a_read_ends() {
        let mut batch = Batch::new(Checksum::Crc32c);
        for text in ["", "one", "a longer second one", "three"] {
            batch.push(|record| {
                record.text(text);
            });
        }
        let mut bytes = batch.as_bytes().to_vec();
        let third = 19 + 22;
        bytes[third + 5] ^= 1;
        bytes.extend_from_slice(b"torn");
        for capacity in 1..=bytes.len() {
            let mut offsets = Vec::new();
            let reader = BufReader::with_capacity(capacity, &bytes[..]);
            let found = scan(reader, Checksum::Crc32c, |offset, _| offsets.push(offset)).unwrap();
            let whole_bytes = bytes.len() as u64 - 4;
            let damage = Damage { offset: third as u64, bytes: 38 };
            let expected = Recovery { records: 3, damaged: vec![damage], whole_bytes, torn_bytes: 4 };
            assert_eq!((found, &offsets[..]), (expected, &[0, 19, 79][..]), "{capacity} bytes at a time");
        }
    }
}
