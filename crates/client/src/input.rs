//! The messages to send: those from the command line, or lines from standard input.

use std::collections::VecDeque;
use std::io;

use protocol::actividad1::{DEFAULT_GREETING, MAX_TEXT_BYTES};
use protocol::line::{AtEof, LineCodec, Rejection};
use service::frames::FrameReader;
use tokio::io::Stdin;

/// Messages that are handed over at a time.
const PORTION: usize = 64;

/// The messages, in the order in which they are to be sent.
pub enum ClientInput {
    /// The command line has them all.
    Given(VecDeque<String>),
    /// Standard input has them, one on each line; a person may be typing.
    Lines(FrameReader<Stdin, LineCodec>),
}

impl ClientInput {
    /// Returns what the command line asks for: a lone `-` stands for standard input.
    pub fn from_arguments(messages: &[String]) -> Self {
        if messages == ["-"] {
            let codec = LineCodec::new(MAX_TEXT_BYTES, AtEof::Accept);
            return Self::Lines(FrameReader::new(tokio::io::stdin(), codec));
        }
        let greeting = messages.is_empty().then(|| DEFAULT_GREETING.to_owned());
        Self::Given(messages.iter().cloned().chain(greeting).collect())
    }

    /// Returns the next messages, each as a text or as the reason why its line cannot be one; none at the end.
    ///
    /// # Errors
    /// If standard input cannot be read.
    pub async fn next(&mut self) -> io::Result<Vec<Result<String, Rejection>>> {
        match self {
            Self::Given(messages) => Ok(messages.drain(..messages.len().min(PORTION)).map(Ok).collect()),
            Self::Lines(lines) => {
                let mut portion = Vec::new();
                lines.next_batch(&mut portion, PORTION).await?;
                Ok(portion)
            }
        }
    }
}

/// Checks that a message from the command line can travel as one line.
///
/// # Errors
/// Tells a person why it cannot.
pub fn one_line(message: &str) -> Result<String, String> {
    if message.contains('\n') {
        return Err("a message is one line: send several as several messages".to_owned());
    }
    let bytes = message.len();
    if bytes > MAX_TEXT_BYTES {
        return Err(format!("it has {bytes} bytes; at most {MAX_TEXT_BYTES} can be sent"));
    }
    Ok(message.to_owned())
}
