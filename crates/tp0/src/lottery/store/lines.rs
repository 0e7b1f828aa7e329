//! Finds the lines of `bets.csv` by their numbers, from 0.

use std::io;

/// The fewest lines between two whose offsets are kept; the lines between them are counted.
const BLOCK_LINES: u32 = 64;
/// Memory that is kept for a block that was read, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// Reads `bets.csv`, and the lines that are about to be added.
pub trait ReadBets {
    /// Fills `buffer` from `offset` on.
    fn read_bets(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// The offset of each line, in at most a quarter of a byte for each.
#[derive(Debug, Default)]
pub struct LineIndex {
    /// The first line of each block.
    starts: Vec<LinePosition>,
    end: LinePosition,
    block: LineBlock,
}

/// The number of a line, and its offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinePosition {
    pub line: u32,
    pub offset: u64,
}

/// The lines that were read last.
#[derive(Debug, Default)]
struct LineBlock {
    first: u32,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl LineIndex {
    /// Returns the position behind the last line.
    pub fn end(&self) -> LinePosition {
        self.end
    }

    /// Adds `lines` lines that have `bytes` bytes together.
    pub fn push(&mut self, lines: u32, bytes: u64) {
        if self.starts.last().is_none_or(|start| self.end.line - start.line >= BLOCK_LINES) {
            self.starts.push(self.end);
        }
        self.end.line += lines;
        self.end.offset += bytes;
    }

    /// Forgets the lines from an earlier end on.
    pub fn truncate(&mut self, end: LinePosition) {
        let kept = self.starts.partition_point(|start| start.line < end.line);
        self.starts.truncate(kept);
        self.end = end;
        self.block = LineBlock::default();
    }

    /// Returns a line that is there, with its end.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what was written.
    pub fn get(&mut self, line: u32, bets: &impl ReadBets) -> io::Result<&[u8]> {
        let is_read =
            line.checked_sub(self.block.first).is_some_and(|at| (at as usize) < self.block.ends.len());
        if !is_read {
            self.read_block(line, bets)?;
        }
        let at = (line - self.block.first) as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.block.ends[before]);
        Ok(&self.block.bytes[start..self.block.ends[at]])
    }

    fn read_block(&mut self, line: u32, bets: &impl ReadBets) -> io::Result<()> {
        let behind = self.starts.partition_point(|start| start.line <= line);
        let start = self.starts[behind - 1];
        let end = self.starts.get(behind).copied().unwrap_or(self.end);
        let LineBlock { first, bytes, ends } = &mut self.block;
        *first = start.line;
        ends.clear();
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES);
        bytes.resize((end.offset - start.offset) as usize, 0);
        bets.read_bets(start.offset, bytes)?;
        ends.extend(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
        if ends.len() == (end.line - start.line) as usize && ends.last() == Some(&bytes.len()) {
            return Ok(());
        }
        ends.clear();
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    impl ReadBets for Vec<u8> {
        fn read_bets(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            let start = offset as usize;
            let bytes = self.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        }
    }

    fn text(number: u32) -> String {
        format!("{},{number}\r\n", "x".repeat(number as usize % 7))
    }

    #[test]
    fn lines_are_found_by_their_numbers_also_after_a_cut() {
        for batch in [1, 7, 64, 150] {
            let (mut file, mut index) = (Vec::new(), LineIndex::default());
            let add = |from: u32, file: &mut Vec<u8>, index: &mut LineIndex| {
                let lines: String = (from..from + batch).map(text).collect();
                file.extend_from_slice(lines.as_bytes());
                index.push(batch, lines.len() as u64);
            };
            for _ in 0..500 / batch {
                add(index.end().line, &mut file, &mut index);
            }
            let cut = index.end();
            let last = cut.line - 1;
            for number in [0, last, 63, 64, 127, 128, 64, 150] {
                assert_eq!(index.get(number, &file).unwrap(), text(number).as_bytes());
            }
            add(7000, &mut file, &mut index);
            assert_eq!(index.get(cut.line, &file).unwrap(), text(7000).as_bytes());
            assert_eq!(index.get(last, &file).unwrap(), text(last).as_bytes());
            index.truncate(cut);
            file.truncate(cut.offset as usize);
            add(9000, &mut file, &mut index);
            assert_eq!(index.get(cut.line, &file).unwrap(), text(9000).as_bytes());
            assert_eq!(index.get(last, &file).unwrap(), text(last).as_bytes());
            assert_eq!(index.end().offset, file.len() as u64);
        }
    }

    #[test]
    fn a_file_that_somebody_has_changed_is_told() {
        let mut index = LineIndex::default();
        index.push(3, 9);
        assert_eq!(index.get(2, &b"1\r\n2\r\n3\r\n".to_vec()).unwrap(), b"3\r\n");
        let mut index = LineIndex::default();
        index.push(3, 9);
        for changed in ["1\r\n2\r\n3  ", "1\n\n2\r\n3\r\n", "1\r\n2   3\r\n"] {
            assert!(index.get(2, &changed.as_bytes().to_vec()).is_err(), "{changed:?}");
            assert!(index.get(0, &changed.as_bytes().to_vec()).is_err(), "{changed:?}");
        }
        assert!(index.get(0, &Vec::new()).is_err());
    }
}
