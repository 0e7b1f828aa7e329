//! The messages to store: those from the command line, or lines from standard input.

use std::collections::{VecDeque, vec_deque};
use std::io::{self, Write as _};

use protocol::line::{AtEof, LineCodec};
use protocol::store::types::MAX_MESSAGE_BYTES;
use rand::RngExt as _;
use rand::rngs::StdRng;
use service::frames::FrameReader;
use service::new_ulid;
use tokio::io::AsyncRead;

use crate::message::OutgoingMessage;
use crate::session::MessageSource;

/// The number of lines that are handed over at a time.
const PORTION: usize = 64;

/// Gives each text an identifier of its own.
struct Ids(StdRng);

impl Ids {
    fn give(&mut self, text: String) -> OutgoingMessage {
        OutgoingMessage { id: new_ulid(self.0.random()), text }
    }
}

/// The messages, in the order in which they are to be stored.
pub struct MessageInput {
    texts: Texts,
    ids: Ids,
    /// The number of lines so far that cannot be messages.
    pub rejected: u64,
}

enum Texts {
    /// The command line has them all.
    Given(VecDeque<OutgoingMessage>),
    /// They are read line by line; a person may be typing them.
    Lines(InputLines),
}

struct InputLines {
    frames: FrameReader<Box<dyn AsyncRead + Unpin>, LineCodec>,
    /// A person types, so an empty line is no message.
    typed: bool,
}

impl MessageInput {
    /// Returns these messages as an input.
    pub fn given(texts: &[String], rng: StdRng) -> Self {
        let mut ids = Ids(rng);
        let messages = texts.iter().map(|text| ids.give(text.clone())).collect();
        Self { texts: Texts::Given(messages), ids, rejected: 0 }
    }

    /// Returns the lines of `reader` as an input. If a person types them (`typed`), empty ones are no messages.
    pub fn lines(reader: impl AsyncRead + Unpin + 'static, typed: bool, rng: StdRng) -> Self {
        let reader: Box<dyn AsyncRead + Unpin> = Box::new(reader);
        let frames = FrameReader::new(reader, LineCodec::new(MAX_MESSAGE_BYTES, AtEof::Accept));
        Self { texts: Texts::Lines(InputLines { frames, typed }), ids: Ids(rng), rejected: 0 }
    }

    /// Returns the messages that are known to be left.
    pub fn left(&self) -> impl ExactSizeIterator<Item = &OutgoingMessage> {
        match &self.texts {
            Texts::Given(messages) => messages.iter(),
            Texts::Lines(_) => vec_deque::Iter::default(),
        }
    }
}

impl MessageSource for MessageInput {
    async fn next_messages(&mut self, most: usize) -> io::Result<Vec<OutgoingMessage>> {
        let Self { texts, ids, rejected } = self;
        match texts {
            Texts::Given(messages) => Ok(messages.drain(..messages.len().min(most)).collect()),
            Texts::Lines(lines) => {
                let texts = lines.next_texts(most.min(PORTION), rejected).await?;
                Ok(texts.into_iter().map(|text| ids.give(text)).collect())
            }
        }
    }
}

impl InputLines {
    /// Returns the texts that have come, at most `most`; none at the end. Dropping the future loses nothing: from a line
    /// that was decoded to its text nothing is waited for.
    async fn next_texts(&mut self, most: usize, rejected: &mut u64) -> io::Result<Vec<String>> {
        loop {
            let mut lines = Vec::new();
            self.frames.next_batch(&mut lines, most).await?;
            let is_at_end = lines.is_empty();
            let mut texts = Vec::new();
            for line in lines {
                match line {
                    Ok(text) if text.is_empty() && self.typed => ask(),
                    Ok(text) => texts.push(text),
                    Err(rejection) => {
                        tracing::error!(%rejection, "not stored");
                        *rejected += 1;
                    }
                }
            }
            if is_at_end || !texts.is_empty() {
                return Ok(texts);
            }
        }
    }
}

/// Asks a person for a line on stderr.
pub fn ask() {
    // Whoever closed stderr does not want to be asked.
    let _ = io::stderr().write_all(b"> ");
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    async fn all(mut input: MessageInput, most: usize) -> (Vec<String>, u64) {
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

    fn lines(bytes: &'static [u8], typed: bool) -> MessageInput {
        MessageInput::lines(bytes, typed, StdRng::seed_from_u64(1))
    }

    #[tokio::test]
    async fn lines_are_messages_but_for_empty_ones_that_were_typed() {
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(all(lines(b"uno\n\n\xff\ndos", false), 1).await, (text(&["uno", "", "dos"]), 1));
        assert_eq!(all(lines(b"uno\n\ndos\n", true), 9).await, (text(&["uno", "dos"]), 0));
        let given = MessageInput::given(&text(&["a\nb", ""]), StdRng::seed_from_u64(1));
        assert_eq!(given.left().len(), 2);
        assert_eq!(all(given, 9).await, (text(&["a\nb", ""]), 0));
    }
}
