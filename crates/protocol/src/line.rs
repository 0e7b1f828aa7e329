//! Lines of UTF-8 text on a byte stream, which are the frames of every TCP protocol in this workspace.
//!
//! TCP keeps no message boundaries: one read may return half a line or forty lines. A line ends with `\n`. One `\r`
//! before it is dropped, for telnet and Windows. A line holds at most a stated number of bytes. Where a program allows
//! it, the silence of the sender ends a line too: see [`LineCodec::decode_silence`].

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The default of the longest line, in bytes without the line end.
pub const DEFAULT_MAX_LINE_BYTES: usize = 64 * 1024;

/// How many silences in a row end a line whose last character is incomplete. One silence is not enough: a sender that
/// has sent half a character has more to send, unless its text is not UTF-8.
pub const HALF_CHARACTER_SILENCES: u32 = 10;

/// Why a line cannot be used as a message. The stream continues: the next line is read as usual.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The line is longer than the limit. The rest of it is skipped and not kept.
    #[error("the line is longer than {max_bytes} bytes")]
    TooLong {
        /// The limit in force, in bytes.
        max_bytes: usize,
    },
    /// The line is not UTF-8 text.
    #[error("the line is not UTF-8: invalid at byte {at}")]
    InvalidUtf8 {
        /// Offset of the first wrong byte within the line.
        at: usize,
        /// The bytes of the line, without its end.
        bytes: Vec<u8>,
    },
    /// The stream ended in the middle of a line, and [`AtEof::Reject`] is in force.
    #[error("the stream ended in the middle of a line, after {bytes} bytes of it")]
    Unterminated {
        /// How many bytes of the line had arrived.
        bytes: usize,
    },
}

/// What a line without an end means when the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEof {
    /// The line counts like any other: `printf Hola | nc host port` works.
    Accept,
    /// The line is half a message, because the peer ended or was disconnected.
    Reject,
}

/// Splits a byte stream into lines, and writes lines to one.
///
/// Memory is bounded: of a line that is too long, no more than the limit is kept. Each byte of a line is searched for
/// the line end once, however small the pieces in which the line arrives.
///
/// ```
/// use bytes::BytesMut;
/// use protocol::line::{AtEof, LineCodec};
/// use tokio_util::codec::Decoder;
///
/// let mut codec = LineCodec::new(64, AtEof::Reject);
/// let mut received = BytesMut::from("uno\ndos\nmed");
/// assert_eq!(codec.decode(&mut received)?, Some(Ok("uno".to_owned())));
/// assert_eq!(codec.decode(&mut received)?, Some(Ok("dos".to_owned())));
/// assert_eq!(codec.decode(&mut received)?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LineCodec {
    max_bytes: usize,
    at_eof: AtEof,
    keeps_carriage_returns: bool,
    /// How many bytes of the buffer are known to hold no line end.
    scanned: usize,
    /// Whether the stream is inside a line that was already rejected as too long.
    skipping: bool,
    /// Whether silence has ended the last line. A line end that comes next then belongs to that line.
    awaits_line_end: bool,
}

impl LineCodec {
    /// Returns a codec for lines of at most `max_bytes` bytes without the line end.
    #[must_use]
    pub fn new(max_bytes: usize, at_eof: AtEof) -> Self {
        Self {
            max_bytes,
            at_eof,
            keeps_carriage_returns: false,
            scanned: 0,
            skipping: false,
            awaits_line_end: false,
        }
    }

    /// Keeps a `\r` before the line end as a part of the line: for callers that must return the input unchanged.
    #[must_use]
    pub fn keeping_carriage_returns(self) -> Self {
        Self { keeps_carriage_returns: true, ..self }
    }

    /// Sets the limit to `max_bytes` bytes from the next line on.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// Returns whether the stream is inside a line that silence can end. `buffer` holds the bytes that were read and
    /// not yet decoded. A lone `\r` does not count: it is the first half of a line end.
    #[must_use]
    pub fn is_mid_line(&self, buffer: &[u8]) -> bool {
        self.skipping || !matches!(buffer, b"" | b"\r")
    }

    /// Ends the line in `buffer` because its sender has been silent, for the `silences`-th time in a row. A line end
    /// that arrives later belongs to this line: it is dropped and makes no empty line.
    ///
    /// Returns `None` in three cases: no line is open; the line ends inside a character, until
    /// [`HALF_CHARACTER_SILENCES`]; or the line was too long and is rejected already. In the last case, what follows is
    /// a new line.
    pub fn decode_silence(
        &mut self,
        buffer: &mut BytesMut,
        silences: u32,
    ) -> Option<Result<String, Rejection>> {
        if !self.is_mid_line(buffer) {
            return None;
        }
        let rejected = std::mem::take(&mut self.skipping);
        if !rejected && silences < HALF_CHARACTER_SILENCES && ends_inside_character(buffer) {
            return None;
        }
        let line = (!rejected).then(|| self.check(buffer));
        buffer.clear();
        self.scanned = 0;
        self.awaits_line_end = true;
        line
    }

    /// Drops the line end of a line that silence has ended. Returns `false` as long as the bytes may be half of a line
    /// end.
    fn drop_late_line_end(&mut self, buffer: &mut BytesMut) -> bool {
        let length = match &buffer[..] {
            [] => return false,
            [b'\r'] if !self.keeps_carriage_returns => return false,
            [b'\r', b'\n', ..] if !self.keeps_carriage_returns => 2,
            [b'\n', ..] => 1,
            _ => 0,
        };
        buffer.advance(length);
        self.awaits_line_end = false;
        true
    }

    fn check(&self, line: &[u8]) -> Result<String, Rejection> {
        let line = match line.strip_suffix(b"\r") {
            Some(stripped) if !self.keeps_carriage_returns => stripped,
            _ => line,
        };
        if line.len() > self.max_bytes {
            return Err(Rejection::TooLong { max_bytes: self.max_bytes });
        }
        match std::str::from_utf8(line) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(Rejection::InvalidUtf8 { at: error.valid_up_to(), bytes: line.to_vec() }),
        }
    }

    /// Bounds the memory for a line without an end. Returns the rejection once for each line that is too long.
    fn bound_open_line(&mut self, buffer: &mut BytesMut) -> Option<Rejection> {
        // One byte over the limit may be the `\r` of a line that has exactly the allowed length.
        let too_long = buffer.len() > self.max_bytes.saturating_add(1);
        if !self.skipping && !too_long {
            self.scanned = buffer.len();
            return None;
        }
        buffer.clear();
        self.scanned = 0;
        let first = !std::mem::replace(&mut self.skipping, true);
        first.then_some(Rejection::TooLong { max_bytes: self.max_bytes })
    }
}

fn ends_inside_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

impl Decoder for LineCodec {
    type Item = Result<String, Rejection>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        if self.awaits_line_end && !self.drop_late_line_end(buffer) {
            return Ok(None);
        }
        while let Some(found) = memchr::memchr(b'\n', &buffer[self.scanned..]) {
            let end = self.scanned + found;
            let skipped = std::mem::take(&mut self.skipping);
            let line = (!skipped).then(|| self.check(&buffer[..end]));
            buffer.advance(end + 1);
            self.scanned = 0;
            if line.is_some() {
                return Ok(line);
            }
        }
        Ok(self.bound_open_line(buffer).map(Err))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        if let Some(item) = self.decode(buffer)? {
            return Ok(Some(item));
        }
        self.skipping = false;
        self.scanned = 0;
        if std::mem::take(&mut self.awaits_line_end) {
            // The buffer holds at most half of a line end.
            buffer.clear();
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let line = match self.at_eof {
            AtEof::Accept => self.check(buffer),
            AtEof::Reject => Err(Rejection::Unterminated { bytes: buffer.len() }),
        };
        buffer.clear();
        Ok(Some(line))
    }
}

impl Encoder<&str> for LineCodec {
    type Error = io::Error;

    /// Appends `line` and a line end.
    ///
    /// # Errors
    /// Fails with [`io::ErrorKind::InvalidInput`] if `line` is longer than the limit, or if it contains a line end and
    /// would be received as two lines.
    fn encode(&mut self, line: &str, buffer: &mut BytesMut) -> io::Result<()> {
        let refuse = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        if memchr::memchr(b'\n', line.as_bytes()).is_some() {
            return refuse("a line cannot hold a line end".to_owned());
        }
        if line.len() > self.max_bytes {
            return refuse(format!(
                "the line has {} bytes; at most {} are allowed",
                line.len(),
                self.max_bytes
            ));
        }
        buffer.reserve(line.len() + 1);
        buffer.put_slice(line.as_bytes());
        buffer.put_u8(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns everything that `codec` reads from `bytes` if they arrive in segments of the given sizes, repeated.
    fn read(mut codec: LineCodec, bytes: &[u8], segments: &[usize]) -> Vec<Result<String, Rejection>> {
        let mut buffer = BytesMut::new();
        let mut lines = Vec::new();
        let mut rest = bytes;
        for size in segments.iter().cycle() {
            let (segment, after) = rest.split_at((*size).min(rest.len()));
            buffer.extend_from_slice(segment);
            rest = after;
            while let Some(line) = codec.decode(&mut buffer).unwrap() {
                lines.push(line);
            }
            assert!(buffer.len() <= codec.max_bytes + 1, "kept {} bytes", buffer.len());
            if rest.is_empty() {
                break;
            }
        }
        while let Some(line) = codec.decode_eof(&mut buffer).unwrap() {
            lines.push(line);
        }
        lines
    }

    fn codec(max: usize) -> LineCodec {
        LineCodec::new(max, AtEof::Accept)
    }

    fn too_long(max_bytes: usize) -> Result<String, Rejection> {
        Err(Rejection::TooLong { max_bytes })
    }

    fn invalid(at: usize, bytes: &[u8]) -> Result<String, Rejection> {
        Err(Rejection::InvalidUtf8 { at, bytes: bytes.to_vec() })
    }

    #[test]
    fn splits_lines_and_drops_one_carriage_return() {
        let lines = read(codec(9), b"a\n\r\nb\r\r\n\nc", &[100]);
        assert_eq!(lines, ["a", "", "b\r", "", "c"].map(|line| Ok(line.to_owned())));
    }

    #[test]
    fn carriage_returns_are_kept_where_asked_for() {
        let keeping = || codec(2).keeping_carriage_returns();
        assert_eq!(read(keeping(), b"a\r\n\r\nb", &[1]), ["a\r", "\r", "b"].map(|line| Ok(line.to_owned())));
        assert_eq!(read(keeping(), b"ab\r\nc\n", &[1]), [too_long(2), Ok("c".to_owned())]);
    }

    #[test]
    fn the_limit_is_the_longest_line_that_passes() {
        for end in ["\n", "\r\n", "", "\r"] {
            assert_eq!(
                read(codec(4), format!("1234{end}").as_bytes(), &[1]),
                [Ok("1234".to_owned())],
                "{end:?}"
            );
            assert_eq!(read(codec(4), format!("12345{end}").as_bytes(), &[1]), [too_long(4)], "{end:?}");
        }
    }

    #[test]
    fn an_over_long_line_is_told_once_and_the_next_line_is_read() {
        for segment in [1, 3, 1000] {
            let mut bytes = vec![b'x'; 500];
            bytes.extend_from_slice(b"\nok\n");
            assert_eq!(read(codec(8), &bytes, &[segment]), [too_long(8), Ok("ok".to_owned())]);
        }
    }

    #[test]
    fn invalid_utf8_names_the_place_and_the_next_line_is_read() {
        let lines = read(codec(99), b"ab\xff\nok\n", &[2]);
        assert_eq!(lines, [invalid(2, b"ab\xff"), Ok("ok".to_owned())]);
    }

    #[test]
    fn the_end_of_the_stream_inside_a_line_is_told_where_it_matters() {
        let strict = || LineCodec::new(99, AtEof::Reject);
        assert_eq!(
            read(strict(), b"a\nhalf", &[3]),
            [Ok("a".into()), Err(Rejection::Unterminated { bytes: 4 })]
        );
        assert_eq!(read(strict(), b"a\n", &[3]), [Ok("a".into())]);
    }

    /// Returns everything that `codec` reads if a silence of the sender follows each segment.
    fn read_with_silences(mut codec: LineCodec, segments: &[&[u8]]) -> Vec<Result<String, Rejection>> {
        let mut buffer = BytesMut::new();
        let mut lines = Vec::new();
        for segment in segments {
            buffer.extend_from_slice(segment);
            while let Some(line) = codec.decode(&mut buffer).unwrap() {
                lines.push(line);
            }
            lines.extend(codec.decode_silence(&mut buffer, 1));
            assert_eq!(codec.decode_silence(&mut buffer, 2), None, "it was told once");
        }
        while let Some(line) = codec.decode_eof(&mut buffer).unwrap() {
            lines.push(line);
        }
        lines
    }

    #[test]
    fn silence_ends_a_line_and_a_late_line_end_belongs_to_it() {
        let cases: [(&[&[u8]], &[&str]); 9] = [
            (&[b"a", b"b"], &["a", "b"]),
            (&[b"a\nb"], &["a", "b"]),
            (&[b"a", b"\n", b"\n"], &["a", ""]),
            (&[b"a", b"\r\nb\n"], &["a", "b"]),
            (&[b"a\r", b"\n", b"b"], &["a", "b"]),
            (&[b"a", b"\r", b"\n", b"b"], &["a", "b"]),
            (&[b"a", b"\r", b"b\n"], &["a", "\rb"]),
            (&[b"a", b"\r"], &["a"]),
            (&[b"\r", b"\n"], &[""]),
        ];
        for (segments, lines) in cases {
            let expected: Vec<_> = lines.iter().map(|line| Ok((*line).to_owned())).collect();
            assert_eq!(read_with_silences(codec(9), segments), expected, "{segments:?}");
        }
        let keeping = codec(9).keeping_carriage_returns();
        let lines = read_with_silences(keeping, &[b"a", b"\n", b"b", b"\r\n"]);
        assert_eq!(lines, ["a", "b", "\r"].map(|line| Ok(line.to_owned())));
    }

    #[test]
    fn silence_ends_an_over_long_line_that_is_told_once() {
        let lines = read_with_silences(codec(2), &[b"abcd", b"\n", b"e", b"fgh", b"i\n"]);
        assert_eq!(lines, [too_long(2), Ok("e".into()), too_long(2), Ok("i".into())]);
    }

    #[test]
    fn half_a_character_waits_for_its_other_half_but_not_for_ever() {
        let mut codec = codec(9);
        let mut buffer = BytesMut::from(&b"se\xc3"[..]);
        for silences in 1..HALF_CHARACTER_SILENCES {
            assert_eq!(codec.decode_silence(&mut buffer, silences), None);
            assert!(codec.is_mid_line(&buffer));
        }
        buffer.extend_from_slice(b"\xb1or");
        assert_eq!(codec.decode_silence(&mut buffer, 1), Some(Ok("señor".to_owned())));
        buffer.extend_from_slice(b"se\xf1");
        let rejected = codec.decode_silence(&mut buffer, HALF_CHARACTER_SILENCES);
        assert_eq!(rejected, Some(invalid(2, b"se\xf1")));
        buffer.extend_from_slice(b"\xff");
        assert!(codec.decode_silence(&mut buffer, 1).is_some(), "no other half can mend it");
    }

    #[test]
    fn a_line_with_a_line_end_is_not_sent() {
        let mut buffer = BytesMut::new();
        let error = codec(99).encode("a\nb", &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(codec(2).encode("abc", &mut buffer).is_err());
        assert!(buffer.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_in_any_segmentation(
            lines in prop::collection::vec("[^\n\r]{0,20}", 0..20),
            segments in prop::collection::vec(1usize..9, 1..5),
        ) {
            let mut sender = codec(80);
            let mut bytes = BytesMut::new();
            for line in &lines {
                sender.encode(line.as_str(), &mut bytes).unwrap();
            }
            let expected: Vec<_> = lines.into_iter().map(Ok).collect();
            prop_assert_eq!(read(codec(80), &bytes, &segments), expected);
        }

        #[test]
        fn silences_split_lines_and_lose_nothing(
            segments in prop::collection::vec("[a-cñ€\n]{0,5}", 0..20),
        ) {
            let bytes: Vec<_> = segments.iter().map(String::as_bytes).collect();
            let lines: Result<Vec<_>, _> = read_with_silences(codec(80), &bytes).into_iter().collect();
            prop_assert_eq!(lines.unwrap().concat(), segments.concat().replace('\n', ""));
        }

        #[test]
        fn segmentation_never_changes_what_is_read(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..200),
            segments in prop::collection::vec(1usize..30, 1..5),
            max in 0usize..20,
            reject in any::<bool>(),
        ) {
            let at_eof = if reject { AtEof::Reject } else { AtEof::Accept };
            let whole = read(LineCodec::new(max, at_eof), &bytes, &[bytes.len().max(1)]);
            prop_assert_eq!(read(LineCodec::new(max, at_eof), &bytes, &segments), whole);
        }
    }
}
