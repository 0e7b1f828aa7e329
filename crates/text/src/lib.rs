//! All assignments, text for people: strings that are safe on a terminal and in a file, and times.
//!
//! A message from the network can neither forge nor split a line, nor act on the terminal of the person who reads it:
//! line ends, control characters, terminal escapes and the characters that reorder text are shown as JSON `\u` escapes.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Returns `time` as every file here writes it: RFC 3339, UTC, with milliseconds.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Shows text as a JSON string that no terminal acts on, as records and logs do.
///
/// ```
/// assert_eq!(text::Quoted("rojo: \u{1b}[31m\n").to_string(), r#""rojo: \u001b[31m\n""#);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            f.write_char('"')?;
            f.write_str(self.0)?;
            return f.write_char('"');
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 16);
        push_quoted(self.0, &mut bytes);
        f.write_str(&String::from_utf8_lossy(&bytes))
    }
}

/// Shows text unchanged, except that the characters on which a terminal would act are escaped.
///
/// ```
/// assert_eq!(text::Shown("dice \"sí\" \u{1b}[31m").to_string(), r#"dice "sí" \u001b[31m"#);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(TerminalSafe::must_escape) {
            let last = part.chars().next_back().filter(|c| TerminalSafe::must_escape(*c));
            f.write_str(&part[..part.len() - last.map_or(0, char::len_utf8)])?;
            if let Some(c) = last {
                write!(f, "\\u{:04x}", u32::from(c))?;
            }
        }
        Ok(())
    }
}

/// Whether `text` needs nothing but quotes around it.
fn is_plain(text: &str) -> bool {
    let is_plain_ascii = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    // Without a branch for each byte: the processor looks at a whole chunk at a time.
    let is_plain_chunk = |chunk: &&[u8]| chunk.iter().fold(true, |plain, byte| plain & is_plain_ascii(*byte));
    let ascii: usize = text.as_bytes().chunks(16).take_while(is_plain_chunk).map(<[u8]>::len).sum();
    text[ascii..].chars().all(|c| c != '"' && c != '\\' && !TerminalSafe::must_escape(c))
}

/// Appends `text` to `out` as a JSON string that no terminal acts on: what [`Quoted`] shows.
///
/// # Panics
/// Never: a string always serializes, and writing to a `Vec` cannot fail.
pub fn push_quoted(text: &str, out: &mut Vec<u8>) {
    if is_plain(text) {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    let mut serializer = Serializer::with_formatter(out, TerminalSafe);
    text.serialize(&mut serializer).expect("a string always serializes, and writing to a Vec cannot fail");
}

/// JSON as `serde_json` writes it, with more characters escaped than JSON asks for.
struct TerminalSafe;

impl TerminalSafe {
    fn must_escape(c: char) -> bool {
        c.is_control() // C0, DEL and C1, which some terminals obey
            || matches!(c, '\u{2028}' | '\u{2029}') // line ends to some editors
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') // reorder text
            || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}') // invisible
    }
}

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(Self::must_escape) {
            let (before, from) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, before)?;
            let mut characters = from.chars();
            let escaped = characters.next().map_or(0, u32::from);
            write!(writer, "\\u{escaped:04x}")?;
            rest = characters.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal() {
        let nasty = "a\nb\r\u{1b}[31m\u{9b}31m\u{7f}\u{0}\u{202e}\u{2028}\u{feff}\"\\é";
        let expected = r#""a\nb\r\u001b[31m\u009b31m\u007f\u0000\u202e\u2028\ufeff\"\\é""#;
        assert_eq!(Quoted(nasty).to_string(), expected);
    }
}
