//! Where records begin, by the rules of the parser: a quote has its meaning at the beginning of a field only, and a quoted field
//! may hold newlines.

use std::io::{self, Read};

use super::dialect::Dialect;

const CHUNK_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why the beginnings of records are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordsError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A quoted field has no end.
    #[error("line {line}: a quoted field begins here and does not end before the end of the file")]
    OpenQuote {
        /// Counts from 1.
        line: u64,
    },
}

/// Finds, for each target in ascending order, the first beginning of a record at or after it.
///
/// Reads as far as the last target needs. Targets that no record follows have no entry; equal entries are given once.
pub(super) fn record_starts(
    input: impl Read,
    dialect: Dialect,
    targets: &[u64],
) -> Result<Vec<u64>, RecordsError> {
    let mut search = StartSearch::new(dialect, targets);
    let mut lines = 1;
    let mut open_quote_line = 1;
    for_each_chunk(input, |chunk| {
        let done = search.feed(chunk);
        if let Some(at) = search.open_quote_in_chunk(chunk) {
            open_quote_line = lines + newlines(&chunk[..at]);
        }
        lines += newlines(chunk);
        !done
    })?;
    if search.targets.is_empty() {
        return Ok(search.starts);
    }
    if search.quoted {
        return Err(RecordsError::OpenQuote { line: open_quote_line });
    }
    Ok(search.starts)
}

/// The number of newlines.
pub(super) fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Calls `chunk` with the input, piece by piece, until it says `false`.
pub(super) fn for_each_chunk(mut input: impl Read, mut chunk: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => {
                if !chunk(&buffer[..bytes]) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

struct StartSearch<'a> {
    dialect: Dialect,
    targets: &'a [u64],
    starts: Vec<u64>,
    /// Where the next chunk begins in the file.
    position: u64,
    quoted: bool,
    /// A quoted field has just ended. If a quote follows, the two are one quote inside the field.
    closed: bool,
    /// The byte before; a newline before the first one.
    before: u8,
    opened_at: Option<u64>,
}

impl<'a> StartSearch<'a> {
    fn new(dialect: Dialect, targets: &'a [u64]) -> Self {
        Self {
            dialect,
            targets,
            starts: Vec::new(),
            position: 0,
            quoted: false,
            closed: false,
            before: b'\n',
            opened_at: None,
        }
    }

    /// Returns `true` when all targets are found.
    fn feed(&mut self, chunk: &[u8]) -> bool {
        let quote = self.dialect.quote;
        let mut at = 0;
        while at < chunk.len() && !self.targets.is_empty() {
            let next_quote = memchr::memchr(quote, &chunk[at..]).map(|offset| at + offset);
            if self.quoted {
                let Some(end) = next_quote else { break };
                (self.quoted, self.closed) = (false, true);
                self.before = quote;
                at = end + 1;
                continue;
            }
            if self.closed {
                self.closed = false;
                if chunk[at] == quote {
                    self.quoted = true;
                    at += 1;
                    continue;
                }
            }
            let end = next_quote.unwrap_or(chunk.len());
            self.find_in(chunk, at, end);
            if end > at {
                self.before = chunk[end - 1];
            }
            if next_quote.is_some() {
                self.open(self.position + end as u64);
            }
            at = end + 1;
        }
        self.position += chunk.len() as u64;
        self.targets.is_empty()
    }

    /// A quote stands here, outside quotes.
    fn open(&mut self, position: u64) {
        let begins_field = matches!(self.before, b'\n' | b'\r')
            || self.before == self.dialect.separator
            || position == BYTE_ORDER_MARK.len() as u64 && self.before == BYTE_ORDER_MARK[2];
        if begins_field {
            self.quoted = true;
            self.opened_at = Some(position);
        }
        self.before = self.dialect.quote;
    }

    /// Finds targets in a part of the chunk without quotes.
    fn find_in(&mut self, chunk: &[u8], from: usize, to: usize) {
        let mut from = from;
        while let Some(target) = self.targets.first() {
            // A record begins after a newline, so that the newline stands one byte before the target or later.
            let first = target.saturating_sub(1).saturating_sub(self.position);
            from = from.max(usize::try_from(first).unwrap_or(usize::MAX));
            if from >= to {
                return;
            }
            let Some(offset) = memchr::memchr(b'\n', &chunk[from..to]) else { return };
            from += offset;
            let start = self.position + from as u64 + 1;
            if self.starts.last() != Some(&start) {
                self.starts.push(start);
            }
            self.targets = &self.targets[1..];
        }
    }

    /// Where in the chunk, which was fed last, the field begins that is still quoted.
    fn open_quote_in_chunk(&self, chunk: &[u8]) -> Option<usize> {
        let opened_at = self.opened_at.filter(|_| self.quoted)?;
        let chunk_start = self.position - chunk.len() as u64;
        usize::try_from(opened_at.checked_sub(chunk_start)?).ok()
    }
}

/// A record and the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocatedRecord {
    /// Counts from 1, in the input.
    pub(super) line: u64,
    /// The bytes, without those beyond [`MAX_RECORD_BYTES`].
    pub(super) bytes: Vec<u8>,
}

/// How much of a record is kept.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Finds the record of this number, which counts from 0. Empty lines are no records.
pub(super) fn find_record(
    input: impl Read,
    dialect: Dialect,
    number: u64,
) -> io::Result<Option<LocatedRecord>> {
    let mut walk = RecordWalk { dialect, number, state: WalkState::Between, line: 1, seen: 0, found: None };
    for_each_chunk(input, |chunk| chunk.iter().all(|byte| walk.step(*byte)))?;
    Ok(walk.found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WalkState {
    Between,
    FieldStart,
    Field,
    Quoted,
    QuoteInQuoted,
}

struct RecordWalk {
    dialect: Dialect,
    number: u64,
    state: WalkState,
    line: u64,
    /// Records that have begun.
    seen: u64,
    found: Option<LocatedRecord>,
}

impl RecordWalk {
    /// Returns `false` when the record is complete.
    fn step(&mut self, byte: u8) -> bool {
        let ends_line = matches!(byte, b'\n' | b'\r');
        if self.state == WalkState::Between && !ends_line {
            if self.seen == self.number {
                self.found = Some(LocatedRecord { line: self.line, bytes: Vec::new() });
            }
            self.seen += 1;
            self.state = WalkState::FieldStart;
        }
        self.line += u64::from(byte == b'\n');
        self.state = match self.state {
            WalkState::Between => WalkState::Between,
            WalkState::Quoted if byte == self.dialect.quote => WalkState::QuoteInQuoted,
            WalkState::Quoted => WalkState::Quoted,
            WalkState::QuoteInQuoted if byte == self.dialect.quote => WalkState::Quoted,
            _ if ends_line => WalkState::Between,
            _ if byte == self.dialect.separator => WalkState::FieldStart,
            WalkState::FieldStart if byte == self.dialect.quote => WalkState::Quoted,
            // A byte order mark stands before the first field.
            WalkState::FieldStart if self.seen == 1 && BYTE_ORDER_MARK.contains(&byte) => {
                WalkState::FieldStart
            }
            _ => WalkState::Field,
        };
        let Some(found) = &mut self.found else { return true };
        if self.state == WalkState::Between {
            return false;
        }
        if found.bytes.len() < MAX_RECORD_BYTES {
            found.bytes.push(byte);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect { separator: b',', quote: b'"', header: true };

    fn starts(text: &str, targets: &[u64]) -> Vec<u64> {
        record_starts(text.as_bytes(), DIALECT, targets).unwrap()
    }

    #[test]
    fn records_begin_after_newlines_outside_quotes() {
        let text = "a,b\n\"x\ny\",1\nz,2\n";
        assert_eq!(starts(text, &[1, 5]), [4, 12]);
        assert_eq!(starts(text, &[4, 5, 6, 12]), [4, 12]);
        assert_eq!(starts(text, &[13]), [16]);
        assert_eq!(starts(text, &[17]), [] as [u64; 0]);
    }

    #[test]
    fn a_quote_inside_a_field_means_nothing() {
        assert_eq!(starts("5\" pipe,1\n6\" pipe,2\nx", &[1, 11]), [10, 20]);
        assert_eq!(starts("\"a\"\"\n\",1\nb\n", &[1]), [9]);
        assert_eq!(starts("\"a\"b\"\nc\n", &[1]), [6]);
        assert_eq!(starts("\u{feff}\"a\nb\",c\n1\n", &[1]), [11]);
    }

    #[test]
    fn a_quote_that_stays_open_is_named_by_its_line() {
        let error = record_starts("a\nb\n\"c\nd\n".as_bytes(), DIALECT, &[8]).unwrap_err();
        assert!(matches!(error, RecordsError::OpenQuote { line: 3 }), "{error}");
    }

    #[test]
    fn records_are_found_by_number() {
        let text = "a,b\r\n\r\n\"x\ny\",1\n\nz,2";
        let find = |number| find_record(text.as_bytes(), DIALECT, number).unwrap();
        let record = |line, bytes: &str| Some(LocatedRecord { line, bytes: bytes.as_bytes().to_vec() });
        assert_eq!(find(0), record(1, "a,b"));
        assert_eq!(find(1), record(3, "\"x\ny\",1"));
        assert_eq!(find(2), record(6, "z,2"));
        assert_eq!(find(3), None);
    }
}
