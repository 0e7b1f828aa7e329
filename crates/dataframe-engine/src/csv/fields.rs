//! Where the fields and records of a block of CSV end. A quote, a separator and the end of a line are found 64 bytes at a time.

use std::ops::Range;

use wide::u8x16;

use super::dialect::Dialect;

/// How many bytes are looked at together.
const CHUNK_BYTES: usize = 64;

/// A record of a block. It has one field or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordFields {
    /// The first field, as a number among those of the block.
    first: u32,
    /// The last field.
    last: u32,
}

/// The fields and records of a block that begins with a record.
#[derive(Debug, Default)]
pub(super) struct FieldIndex {
    /// Where fields end: the position of the separator or of the end of the line. An entry before the first one stands for the end
    /// of the line before the block.
    ends: Vec<u32>,
    /// Fields that end a line, empty lines included.
    line_ends: Vec<u32>,
    records: Vec<RecordFields>,
    /// How much of the block the records cover.
    bytes: usize,
    /// Whether a field may be quoted.
    has_quotes: bool,
}

/// Something in a block that has a meaning for `csv_core` alone: a quote inside a field, bytes behind a quoted field, or more
/// fields than columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnusualBlock;

impl FieldIndex {
    /// Looks through the first `length` bytes of a block, which at least 63 more follow. Records end with newlines; what follows the last
    /// newline is left out.
    pub(super) fn fill(
        &mut self,
        block: &[u8],
        length: usize,
        dialect: Dialect,
        columns: usize,
    ) -> Result<(), UnusualBlock> {
        // Entries are written before they are read, so that those of the block before may stay.
        if self.ends.len() < length + 1 {
            self.ends = vec![0; length + 1];
            self.line_ends = vec![0; length + 1];
        }
        self.has_quotes = memchr::memchr(dialect.quote, &block[..length]).is_some();
        let lines = if self.has_quotes {
            self.find_ends::<true>(block, length, dialect)
        } else {
            self.find_ends::<false>(block, length, dialect)
        };
        self.find_records(lines?, columns)
    }

    /// Finds where fields end. Returns the number of ends of lines.
    fn find_ends<const QUOTED: bool>(
        &mut self,
        block: &[u8],
        length: usize,
        dialect: Dialect,
    ) -> Result<usize, UnusualBlock> {
        self.ends[0] = u32::MAX;
        let (mut fields, mut lines) = (1, 0);
        let mut quotes = QuoteState::default();
        let (chunks, _) = block.as_chunks::<CHUNK_BYTES>();
        for (number, chunk) in chunks[..length.div_ceil(CHUNK_BYTES)].iter().enumerate() {
            let start = number * CHUNK_BYTES;
            let mut marks = ChunkMarks::new::<QUOTED>(chunk, dialect);
            if length - start < CHUNK_BYTES {
                marks.keep_first(length - start);
            }
            if QUOTED {
                quotes.step(&mut marks)?;
            }
            let mut ends = marks.separators | marks.newlines;
            while ends != 0 {
                let bit = ends.trailing_zeros();
                self.ends[fields] = start as u32 + bit;
                // This is overwritten unless the field ends a line: that is cheaper than a branch.
                self.line_ends[lines] = fields as u32;
                lines += (marks.newlines >> bit & 1) as usize;
                fields += 1;
                ends &= ends - 1;
            }
        }
        Ok(lines)
    }

    fn find_records(&mut self, lines: usize, columns: usize) -> Result<(), UnusualBlock> {
        self.records.clear();
        let mut first = 1;
        for last in &self.line_ends[..lines] {
            let last = *last;
            let is_empty =
                first == last && self.ends[first as usize] == self.ends[first as usize - 1].wrapping_add(1);
            if (last - first) as usize >= columns {
                return Err(UnusualBlock);
            }
            if !is_empty {
                self.records.push(RecordFields { first, last });
            }
            first = last + 1;
        }
        self.bytes = self.ends[first as usize - 1].wrapping_add(1) as usize;
        Ok(())
    }

    pub(super) fn records(&self) -> &[RecordFields] {
        &self.records
    }

    /// Forgets the block.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }

    /// The part of the block that has these records, which follow each other.
    pub(super) fn span(&self, records: &[RecordFields]) -> Range<usize> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return 0..0 };
        let start = self.ends[first.first as usize - 1].wrapping_add(1);
        start as usize..self.ends[last.last as usize] as usize
    }

    /// How many bytes of the block the records cover, with the newline of the last one.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the fields of the block may be quoted.
    pub(super) fn has_quotes(&self) -> bool {
        self.has_quotes
    }

    /// Where a field begins and ends. A field that a record does not have is empty.
    #[inline(always)]
    pub(super) fn field(&self, record: RecordFields, column: u32) -> (usize, usize) {
        let field = record.first + column;
        if field > record.last {
            return (0, 0);
        }
        let start = self.ends[field as usize - 1].wrapping_add(1);
        (start as usize, self.ends[field as usize] as usize)
    }
}

/// One bit for each of 64 bytes, the first one lowest.
struct ChunkMarks {
    /// The bytes that belong to the block.
    present: u64,
    separators: u64,
    newlines: u64,
    quotes: u64,
}

impl ChunkMarks {
    #[inline(always)]
    fn new<const QUOTED: bool>(chunk: &[u8; CHUNK_BYTES], dialect: Dialect) -> Self {
        let mut marks = Self { present: u64::MAX, separators: 0, newlines: 0, quotes: 0 };
        let (parts, _) = chunk.as_chunks::<16>();
        for (number, part) in parts.iter().enumerate() {
            let part = u8x16::new(*part);
            let bits = |found: u8x16| u64::from(found.to_bitmask()) << (16 * number);
            let equal = |byte: u8| part.simd_eq(u8x16::splat(byte));
            marks.separators |= bits(equal(dialect.separator));
            marks.newlines |= bits(equal(b'\n') | equal(b'\r'));
            if QUOTED {
                marks.quotes |= bits(equal(dialect.quote));
            }
        }
        marks
    }

    fn keep_first(&mut self, bytes: usize) {
        self.present = (1 << bytes) - 1;
        self.separators &= self.present;
        self.newlines &= self.present;
        self.quotes &= self.present;
    }
}

/// Where quotes stand at the end of a chunk.
struct QuoteState {
    /// All bits, if a quoted field is open.
    open: u64,
    /// One, if a field may begin or go on with a quote in the next byte.
    may_open: u64,
    /// One, if the last byte has closed a field.
    closed: u64,
}

impl Default for QuoteState {
    fn default() -> Self {
        Self { open: 0, may_open: 1, closed: 0 }
    }
}

impl QuoteState {
    /// Takes away separators and newlines inside quotes. Fails where a quote does not stand at the beginning or at the end of a field;
    /// two quotes inside a field close it and open it again.
    fn step(&mut self, marks: &mut ChunkMarks) -> Result<(), UnusualBlock> {
        let mut inside = marks.quotes;
        for shift in [1, 2, 4, 8, 16, 32] {
            inside ^= inside << shift;
        }
        inside ^= self.open;
        marks.separators &= !inside;
        marks.newlines &= !inside;
        let ends = marks.separators | marks.newlines;
        let (opening, closing) = (marks.quotes & inside, marks.quotes & !inside);
        let before = ends | closing;
        let is_misplaced = opening & !(before << 1 | self.may_open) != 0
            || (closing << 1 | self.closed) & !(ends | opening) & marks.present != 0;
        self.open = 0_u64.wrapping_sub(inside >> 63);
        self.may_open = before >> 63;
        self.closed = closing >> 63;
        if is_misplaced { Err(UnusualBlock) } else { Ok(()) }
    }
}
