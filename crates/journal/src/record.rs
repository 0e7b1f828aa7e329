//! The format of a record: one line of fields separated by a space, text as a JSON string, and an optional checksum at
//! the end.
//!
//! A message can neither forge nor split a record, and it cannot control the terminal of a person who reads the file.
//! Line ends, control characters, terminal escapes and characters that reorder text are written as JSON `\u` escapes.

use std::fmt;
use std::io::Write as _;

use text::push_quoted;

const CHECKSUM_KEY: &[u8] = b" crc32c=";
/// The length of ` crc32c=` and eight hexadecimal digits.
const CHECKSUM_BYTES: usize = CHECKSUM_KEY.len() + 8;

/// Whether each record of a file ends with a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// No checksum: any line that a text editor writes is a record.
    None,
    /// A CRC-32C (Castagnoli, RFC 3720 B.4) of everything in front of ` crc32c=`.
    Crc32c,
}

/// Records to be appended to a journal together, all or none of them.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    checksum: Checksum,
}

impl Batch {
    /// Returns an empty batch for a file that was opened with the same `checksum`.
    #[must_use]
    pub fn new(checksum: Checksum) -> Self {
        Self::with_capacity(checksum, 0)
    }

    /// Returns an empty batch with memory for records of `bytes` bytes in all.
    #[must_use]
    pub fn with_capacity(checksum: Checksum, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), checksum }
    }

    /// Adds one record, whose fields `write` writes.
    pub fn push(&mut self, write: impl FnOnce(&mut RecordWriter<'_>)) {
        let start = self.bytes.len();
        write(&mut RecordWriter { bytes: &mut self.bytes, start });
        if self.checksum == Checksum::Crc32c {
            let sum = crc32c::crc32c(&self.bytes[start..]);
            self.bytes.extend_from_slice(CHECKSUM_KEY);
            write!(self.bytes, "{sum:08x}").expect("writing to a Vec cannot fail");
        }
        self.bytes.push(b'\n');
    }

    /// Returns the records as they are written to the file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether the batch holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes the records, and keeps at most `keep` bytes of memory for the next ones.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
    }
}

/// Writes the fields of one record; see [`Batch::push`].
#[derive(Debug)]
pub struct RecordWriter<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl RecordWriter<'_> {
    /// Writes a field of one word: a time, an address or a number. Any value other than printable ASCII without spaces
    /// is written as [`text`](Self::text), so no value can break the line.
    pub fn word(&mut self, value: impl fmt::Display) -> &mut Self {
        self.separate();
        let start = self.bytes.len();
        write!(self.bytes, "{value}").expect("writing to a Vec cannot fail");
        let word = &self.bytes[start..];
        if word.is_empty() || word[0] == b'"' || !word.iter().all(u8::is_ascii_graphic) {
            let text = String::from_utf8_lossy(word).into_owned();
            self.bytes.truncate(start);
            push_quoted(&text, self.bytes);
        }
        self
    }

    /// Writes a field of free text as a JSON string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.separate();
        push_quoted(text, self.bytes);
        self
    }

    /// Writes a field of bytes that are not text, as one word of printable ASCII. Spaces and unprintable bytes are
    /// written as `\xff`, `\t`, `\r` or `\n`. Quotes and backslashes get a backslash in front. A Python bytes literal
    /// and `printf %b` read the field back.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.separate();
        for byte in bytes {
            match byte {
                b' ' => self.bytes.extend_from_slice(br"\x20"),
                byte => self.bytes.extend(byte.escape_ascii()),
            }
        }
        self
    }

    fn separate(&mut self) {
        if self.bytes.len() > self.start {
            self.bytes.push(b' ');
        }
    }
}

/// Returns the fields of a record, with texts unquoted. Returns `None` if `line` is not a record.
///
/// ```
/// assert_eq!(journal::record::fields(r#"10:00 "a b""#), Some(vec!["10:00".to_owned(), "a b".to_owned()]));
/// assert_eq!(journal::record::fields(r#"10:00 "a b"#), None);
/// ```
#[must_use]
pub fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let end;
        if rest.starts_with('"') {
            let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            fields.push(strings.next()?.ok()?);
            end = strings.byte_offset();
        } else {
            end = rest.find(' ').unwrap_or(rest.len());
            fields.push(rest[..end].to_owned());
        }
        match rest[end..].strip_prefix(' ') {
            Some(next) => rest = next,
            None => return rest[end..].is_empty().then_some(fields),
        }
    }
}

/// Returns the record in `line` (without its line end) if its checksum is correct.
#[must_use]
pub fn verified(line: &[u8], checksum: Checksum) -> Option<&[u8]> {
    if checksum == Checksum::None {
        return Some(line);
    }
    let (record, trailer) = line.split_at_checked(line.len().checked_sub(CHECKSUM_BYTES)?)?;
    let digits = trailer.strip_prefix(CHECKSUM_KEY)?;
    let written = format!("{:08x}", crc32c::crc32c(record));
    (digits == written.as_bytes()).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(checksum: Checksum, text: &str) -> String {
        let mut batch = Batch::new(checksum);
        batch.push(|record| {
            record.word("2026-11-21T09:30:00.123Z").word("172.18.0.3:40522").text(text);
        });
        String::from_utf8(batch.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn golden_records() {
        let plain = record(Checksum::None, "Hola, ¿qué tal?");
        assert_eq!(plain, "2026-11-21T09:30:00.123Z 172.18.0.3:40522 \"Hola, ¿qué tal?\"\n");
        let sealed = record(Checksum::Crc32c, "Hola");
        assert_eq!(sealed, "2026-11-21T09:30:00.123Z 172.18.0.3:40522 \"Hola\" crc32c=124e1380\n");
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        // RFC 3720 B.4: 32 bytes of zeroes.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn nothing_reaches_a_terminal_or_forges_a_record() {
        let nasty = "a\nb\r\u{1b}[31m\u{9b}31m\u{7f}\u{0}\u{202e}\u{2028}\u{feff}\"\\é";
        let line = record(Checksum::None, nasty);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(fields(line.trim_end()).unwrap()[2], nasty);
    }

    #[test]
    fn a_word_that_is_none_is_quoted() {
        for (word, written) in
            [("a b", "\"a b\""), ("", "\"\""), ("\"x", "\"\\\"x\""), ("a\nb", "\"a\\nb\""), ("ñ", "\"ñ\"")]
        {
            let mut batch = Batch::new(Checksum::None);
            batch.push(|record| {
                record.word(word).word(7);
            });
            assert_eq!(batch.as_bytes(), format!("{written} 7\n").as_bytes());
        }
    }

    #[test]
    fn bytes_are_one_word() {
        let mut batch = Batch::new(Checksum::None);
        batch.push(|record| {
            record.word("x").bytes(b"\"Se\xf1or\" \\'\t\r\n\x1b\x7f").word("y");
        });
        let line = batch.as_bytes().strip_suffix(b"\n").unwrap();
        let line = std::str::from_utf8(line).unwrap();
        let word = r#"\"Se\xf1or\"\x20\\\'\t\r\n\x1b\x7f"#;
        assert_eq!(line, format!("x {word} y"));
        assert_eq!(fields(line).unwrap(), ["x", word, "y"]);
    }

    #[test]
    fn a_batch_is_used_again_and_keeps_little_memory() {
        let mut batch = Batch::new(Checksum::Crc32c);
        assert!(batch.is_empty());
        let long = "x".repeat(10_000);
        batch.push(|record| {
            record.text(&long);
        });
        assert!(!batch.is_empty());
        batch.clear(100);
        assert!(batch.is_empty() && batch.bytes.capacity() < 10_000);
    }

    #[test]
    fn other_lines_are_not_records() {
        for line in ["\"open", "\"a\"b", "x \"a\" \"", "x \"\\q\""] {
            assert_eq!(fields(line), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn fields_come_back(texts in prop::collection::vec(any::<String>(), 1..5), sealed in any::<bool>()) {
            let checksum = if sealed { Checksum::Crc32c } else { Checksum::None };
            let mut batch = Batch::new(checksum);
            batch.push(|record| {
                for (i, text) in texts.iter().enumerate() {
                    if i % 2 == 0 { record.word(text) } else { record.text(text) };
                }
            });
            let line = batch.as_bytes().strip_suffix(b"\n").unwrap();
            prop_assert!(!line.contains(&b'\n'));
            let payload = verified(line, checksum).unwrap();
            prop_assert_eq!(fields(std::str::from_utf8(payload).unwrap()), Some(texts));
        }
    }
}
