//! Reads single records of a file, also while records are being appended to it.

use std::io::{self, BufRead as _, BufReader};

use crate::disk::{DiskFile, DiskFileReader};
use crate::record::{Checksum, verified};

/// Enough for most records. Longer records take further reads.
const FIRST_READ_BYTES: usize = 512;
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Returns the record that begins at `offset`, without its checksum. Returns `None` if no record begins there, or if
/// the record is damaged.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn record_at(file: &dyn DiskFile, offset: u64, checksum: Checksum) -> io::Result<Option<Vec<u8>>> {
    Ok(Records::with_buffer(file, offset, checksum, FIRST_READ_BYTES)
        .next()
        .transpose()?
        .and_then(|(_, record)| record))
}

/// Iterates over the lines from an offset on. Each item is the line's offset and its record, or `None` in place of a
/// damaged record.
#[derive(Debug)]
pub struct Records<'a> {
    reader: BufReader<DiskFileReader<'a>>,
    offset: u64,
    checksum: Checksum,
}

impl<'a> Records<'a> {
    /// Returns the records from `offset`, where a record begins, to the last line end of the file.
    #[must_use]
    pub fn from(file: &'a dyn DiskFile, offset: u64, checksum: Checksum) -> Self {
        Self::with_buffer(file, offset, checksum, READ_AHEAD_BYTES)
    }

    /// Returns the offset of the next line.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn with_buffer(file: &'a dyn DiskFile, offset: u64, checksum: Checksum, bytes: usize) -> Self {
        Self { reader: BufReader::with_capacity(bytes, DiskFileReader::new(file, offset)), offset, checksum }
    }
}

impl Iterator for Records<'_> {
    type Item = io::Result<(u64, Option<Vec<u8>>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Err(error) => return Some(Err(error)),
            Ok(_) if line.last() != Some(&b'\n') => return None,
            Ok(_) => {}
        }
        let offset = self.offset;
        self.offset += line.len() as u64;
        line.pop();
        let record_bytes = verified(&line, self.checksum).map(<[u8]>::len);
        Some(Ok((
            offset,
            record_bytes.map(|bytes| {
                line.truncate(bytes);
                line
            }),
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::record::Batch;

    #[test]
    fn records_are_read_from_where_they_begin() {
        let mut batch = Batch::new(Checksum::Crc32c);
        let mut offsets = Vec::new();
        for text in ["one", &"two ".repeat(1000), "three"] {
            offsets.push(batch.as_bytes().len() as u64);
            batch.push(|record| {
                record.text(text);
            });
        }
        let mut bytes = batch.as_bytes().to_vec();
        bytes.extend_from_slice(b"\"torn");
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let at = |offset| record_at(&file, offset, Checksum::Crc32c).unwrap();
        assert_eq!(at(offsets[1]).unwrap().len(), 4002);
        assert_eq!(at(offsets[2]).unwrap(), b"\"three\"");
        assert_eq!(at(offsets[2] + 1), None, "not the beginning of a record");
        assert_eq!(at(batch.as_bytes().len() as u64), None, "a torn tail");
        let mut records = Records::from(&file, 0, Checksum::Crc32c);
        let all: Vec<_> = records.by_ref().map(Result::unwrap).collect();
        assert_eq!(records.offset(), batch.as_bytes().len() as u64);
        assert_eq!(all.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), offsets);
        assert!(all.iter().all(|(_, record)| record.is_some()));
    }
}
