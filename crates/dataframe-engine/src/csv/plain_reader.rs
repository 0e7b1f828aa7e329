//! Batches of rows from files that are written plainly, several times as fast as by a parser that looks at each byte.

use std::io;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use dataframe_jobs::message::FileRange;

use super::dialect::Dialect;
use super::fields::{FieldIndex, UnusualBlock};
use super::file_bytes::FileState;
use super::lines::PartLines;
use super::numbers::PADDING_BYTES;
use super::plain_columns::{IndexedBlock, MisfitField, PlainColumn};

/// The largest block at the beginning: small enough for the processor's second cache together with its index, and large enough for few
/// system calls.
const BLOCK_BYTES: usize = 256 << 10;
/// How much of a block a row of a batch gets, so that small batches are read in small blocks.
const ROW_BYTES: usize = 32;
/// More than a byte order mark.
const MIN_BLOCK_BYTES: usize = 64;
/// The longest record that is read here.
const MAX_RECORD_BYTES: usize = 4 << 20;
/// Room behind a block: a newline at the end of the file, the rest of 64 bytes that are looked at together, and what is read together with
/// a number.
const BEHIND_BYTES: usize = 1 + 64 + PADDING_BYTES;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is read, and as what.
#[derive(Debug, Clone)]
pub(super) struct PlainRead {
    pub(super) file: FileState,
    pub(super) part: FileRange,
    pub(super) dialect: Dialect,
    /// The number of columns of the file.
    pub(super) file_columns: usize,
    /// The columns that are read, in ascending order.
    pub(super) columns: Vec<usize>,
    /// Their names and types.
    pub(super) schema: SchemaRef,
    pub(super) batch_size: usize,
    /// A quote makes the cuts of the file wrong.
    pub(super) stops_at_quotes: bool,
}

/// Why a part of a file is left to DataFusion's reader, which finds the rows, or tells what is wrong and where.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPlain {
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("a byte order mark in the middle of the file")]
    ByteOrderMark,
    #[error("a quote where none is expected, or too many fields")]
    Unusual,
    #[error("a value does not fit the type of its column")]
    Misfit,
    #[error("bytes that are not UTF-8")]
    Utf8,
    #[error("a record of more than 4 MiB, or one whose quotes stay open")]
    Endless,
    #[error("a quote in a file that was cut as if it had none")]
    Quote,
    #[error("a type that only arrow's parser reads")]
    Type,
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl From<UnusualBlock> for NotPlain {
    fn from(_: UnusualBlock) -> Self {
        Self::Unusual
    }
}

impl From<MisfitField> for NotPlain {
    fn from(_: MisfitField) -> Self {
        Self::Misfit
    }
}

/// Reads batches of the same rows as DataFusion's reader does, where it can.
#[derive(Debug)]
pub(super) struct PlainReader {
    read: PlainRead,
    lines: PartLines,
    /// The block, and [`BEHIND_BYTES`] more.
    buffer: Vec<u8>,
    /// How much of the buffer is filled.
    filled: usize,
    index: FieldIndex,
    /// The next record of the index.
    next: usize,
    columns: Vec<PlainColumn>,
    /// Rows in the columns.
    rows: usize,
    is_first_block: bool,
    skips_header: bool,
}

impl PlainReader {
    pub(super) fn open(read: PlainRead) -> Result<Self, NotPlain> {
        let fields = read.columns.iter().zip(read.schema.fields());
        let columns = fields
            .map(|(column, field)| PlainColumn::new(u32::try_from(*column).ok()?, field.data_type()))
            .collect::<Option<Vec<_>>>()
            .ok_or(NotPlain::Type)?;
        let bytes = usize::try_from(read.part.end.saturating_sub(read.part.start)).unwrap_or(BLOCK_BYTES);
        let bytes = bytes.min(read.batch_size.saturating_mul(ROW_BYTES)).clamp(MIN_BLOCK_BYTES, BLOCK_BYTES);
        Ok(Self {
            lines: PartLines::open(&read.file, &read.part)?,
            buffer: vec![0; bytes + BEHIND_BYTES],
            filled: 0,
            index: FieldIndex::default(),
            next: 0,
            columns,
            rows: 0,
            is_first_block: true,
            skips_header: read.dialect.header && read.part.start == 0,
            read,
        })
    }

    /// Returns the next batch: `batch_size` rows, or what is left. After an error, the rows of this batch and of all that follow are
    /// left to DataFusion's reader.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, NotPlain> {
        while self.rows < self.read.batch_size {
            let left = self.index.records().len() - self.next;
            if left > 0 {
                self.take_records(left.min(self.read.batch_size - self.rows))?;
            } else if !self.next_block()? {
                break;
            }
        }
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(None);
        }
        let columns = self.columns.iter_mut().map(|column| column.finish(rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.read.schema), columns, &options)?))
    }

    /// Adds the next records to the columns.
    fn take_records(&mut self, count: usize) -> Result<(), NotPlain> {
        let records = &self.index.records()[self.next..self.next + count];
        let text = self.index.span(records);
        let block = IndexedBlock {
            bytes: &self.buffer,
            text: std::str::from_utf8(&self.buffer[text.clone()]).map_err(|_| NotPlain::Utf8)?,
            text_start: text.start,
            index: &self.index,
            quote: self.read.dialect.quote,
        };
        for column in &mut self.columns {
            column.append(&block, records)?;
        }
        self.rows += count;
        self.next += count;
        Ok(())
    }

    /// Reads and indexes the next block. Returns `false` at the end.
    fn next_block(&mut self) -> Result<bool, NotPlain> {
        let done = self.index.bytes();
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        let mut capacity = self.buffer.len() - BEHIND_BYTES;
        if self.filled == capacity {
            if capacity >= MAX_RECORD_BYTES {
                return Err(NotPlain::Endless);
            }
            capacity = (capacity * 2).min(MAX_RECORD_BYTES);
            self.buffer.resize(capacity + BEHIND_BYTES, 0);
        }
        let read = self.lines.read(&mut self.buffer[self.filled..capacity])?;
        self.filled += read;
        if std::mem::take(&mut self.is_first_block) {
            self.skip_byte_order_mark()?;
        }
        if read == 0 {
            if self.filled == 0 {
                self.index.clear();
                self.next = 0;
                return Ok(false);
            }
            // The last line has no newline.
            self.buffer[self.filled] = b'\n';
            self.filled += 1;
        }
        self.index_block()?;
        if read == 0 && self.index.bytes() < self.filled {
            return Err(NotPlain::Endless);
        }
        Ok(true)
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), NotPlain> {
        if !self.buffer[..self.filled].starts_with(BYTE_ORDER_MARK) {
            return Ok(());
        }
        if self.read.part.start > 0 {
            return Err(NotPlain::ByteOrderMark);
        }
        self.buffer.copy_within(BYTE_ORDER_MARK.len()..self.filled, 0);
        self.filled -= BYTE_ORDER_MARK.len();
        Ok(())
    }

    fn index_block(&mut self) -> Result<(), NotPlain> {
        let PlainRead { dialect, file_columns, stops_at_quotes, .. } = self.read;
        self.index.fill(&self.buffer, self.filled, dialect, file_columns)?;
        if stops_at_quotes && self.index.has_quotes() {
            return Err(NotPlain::Quote);
        }
        self.next = 0;
        if self.skips_header && !self.index.records().is_empty() {
            self.skips_header = false;
            self.next = 1;
        }
        Ok(())
    }
}
