//! Reads records back, and tells what a crash tore from what was damaged later.
//!
//! A record that was acknowledged ends in a line end that is on disk. So what stands behind the last line end is, as a
//! rule, the torn tail of a write that nobody was told about. It is cut, and a copy is kept
//! ([`torn_tails_of`](crate::file::torn_tails_of)): a disk that lost the last sector of an acknowledged record leaves the
//! same picture, and only somebody who was told of that record can tell the difference. A whole line whose checksum is
//! wrong is damage: it is reported, kept as it is, and never served.

use std::io::{self, BufRead};

use crate::record::{Checksum, verified};

/// The longest record that is kept in memory while reading, in bytes; a longer line is damage.
pub const MAX_RECORD_BYTES: usize = 128 * 1024 * 1024;

/// A line that is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where the line starts, in bytes from the start of the file.
    pub offset: u64,
    /// Its length in bytes, line end included.
    pub bytes: u64,
}

/// What was found in a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whole and correct records; 0 if the file was only looked at from its end.
    pub records: u64,
    /// Lines whose checksum is wrong, in file order.
    pub damaged: Vec<Damage>,
    /// Length of the file up to and with its last line end.
    pub whole_bytes: u64,
    /// Length of the torn tail behind it.
    pub torn_bytes: u64,
}

/// Reads all records of `file` and shows each correct one, with its offset, to `visit`.
///
/// # Errors
/// Whatever reading `file` gives.
pub fn scan(
    mut file: impl BufRead,
    checksum: Checksum,
    mut visit: impl FnMut(u64, &[u8]),
) -> io::Result<Recovery> {
    let mut found = Recovery::default();
    // The part of the present line that came with earlier reads.
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
