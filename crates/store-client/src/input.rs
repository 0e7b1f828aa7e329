//! What there is to store: messages from the command line, or lines from standard input.

use std::collections::{VecDeque, vec_deque};
use std::io::{self, Write as _};

use bytes::BytesMut;
use protocol::line::{AtEof, LineCodec};
use protocol::store::types::{MAX_MESSAGE_BYTES, ulid};
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::codec::Decoder as _;

use crate::session::{Message, READ_BYTES, Source};

/// Lines that are handed over at a time.
const PORTION: usize = 64;

/// Gives each text its id.
struct Ids(StdRng);

impl Ids {
    fn give(&mut self, text: String) -> Message {
        // Of a clock before 1970 only the order of the ids suffers.
        let milliseconds = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        Message { id: ulid(milliseconds, self.0.random()), text }
    }
}

/// The messages, in the order in which they are to be stored.
pub struct Input {
    texts: Texts,
    ids: Ids,
    /// Lines that cannot be messages.
    pub rejected: u64,
}

enum Texts {
    /// Given at once.
    Given(VecDeque<Message>),
    /// Read line by line; a person may be typing them.
    Lines(Lines),
}

struct Lines {
    reader: Box<dyn AsyncRead + Unpin>,
    codec: LineCodec,
    received: BytesMut,
    ended: bool,
    /// Somebody types: an empty line is no message.
    typed: bool,
}

impl Input {
    /// Messages that are there.
    pub fn given(texts: &[String], rng: StdRng) -> Self {
        let mut ids = Ids(rng);
        let messages = texts.iter().map(|text| ids.give(text.clone())).collect();
        Self { texts: Texts::Given(messages), ids, rejected: 0 }
    }

    /// Lines of `reader`; if they are `typed`, empty ones are skipped.
    pub fn lines(reader: impl AsyncRead + Unpin + 'static, typed: bool, rng: StdRng) -> Self {
        let codec = LineCodec::new(MAX_MESSAGE_BYTES, AtEof::Accept);
        let lines = Lines { reader: Box::new(reader), codec, received: BytesMut::new(), ended: false, typed };
        Self { texts: Texts::Lines(lines), ids: Ids(rng), rejected: 0 }
    }

    /// The messages that are certain to be left.
    pub fn left(&self) -> impl ExactSizeIterator<Item = &Message> {
        match &self.texts {
            Texts::Given(messages) => messages.iter(),
            Texts::Lines(_) => vec_deque::Iter::default(),
        }
    }
}

impl Source for Input {
    async fn next_messages(&mut self, most: usize) -> io::Result<Vec<Message>> {
        let Self { texts, ids, rejected } = self;
        match texts {
            Texts::Given(messages) => Ok(messages.drain(..messages.len().min(most)).collect()),
            Texts::Lines(lines) => loop {
                let texts = lines.take(most.min(PORTION), rejected)?;
                if lines.ended || !texts.is_empty() {
                    return Ok(texts.into_iter().map(|text| ids.give(text)).collect());
                }
                lines.received.reserve(READ_BYTES);
                lines.ended = lines.reader.read_buf(&mut lines.received).await? == 0;
            },
        }
    }
}

impl Lines {
    /// The whole lines that have come, at most `most`.
    fn take(&mut self, most: usize, rejected: &mut u64) -> io::Result<Vec<String>> {
        let decode = if self.ended { LineCodec::decode_eof } else { LineCodec::decode };
        let mut texts = Vec::new();
        while texts.len() < most
            && let Some(line) = decode(&mut self.codec, &mut self.received)?
        {
            match line {
                Ok(text) if text.is_empty() && self.typed => ask(),
                Ok(text) => texts.push(text),
                Err(rejection) => {
                    tracing::error!(%rejection, "not stored");
                    *rejected += 1;
                }
            }
        }
        Ok(texts)
    }
}

/// Asks a person for a line.
pub fn ask() {
    // Whoever closed stderr does not want to be asked.
    let _ = io::stderr().write_all(b"> ");
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    async fn all(mut input: Input, most: usize) -> (Vec<String>, u64) {
        let mut texts = Vec::new();
        let mut ids = std::collections::HashSet::new();
        loop {
            let messages = input.next_messages(most).await.unwrap();
            assert!(messages.len() <= most);
            if messages.is_empty() {
                return (texts, input.rejected);
            }
            for message in messages {
                assert!(ids.insert(message.id), "each message has its own id");
                texts.push(message.text);
            }
        }
    }

    fn lines(bytes: &'static [u8], typed: bool) -> Input {
        Input::lines(bytes, typed, StdRng::seed_from_u64(1))
    }

    #[tokio::test]
    async fn lines_are_messages_but_for_empty_ones_that_were_typed() {
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(all(lines(b"uno\n\n\xff\ndos", false), 1).await, (text(&["uno", "", "dos"]), 1));
        assert_eq!(all(lines(b"uno\n\ndos\n", true), 9).await, (text(&["uno", "dos"]), 0));
        let given = Input::given(&text(&["a\nb", ""]), StdRng::seed_from_u64(1));
        assert_eq!(given.left().len(), 2);
        assert_eq!(all(given, 9).await, (text(&["a\nb", ""]), 0));
    }
}
