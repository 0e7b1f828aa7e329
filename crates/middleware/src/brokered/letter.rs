//! What comes to an inbox.

use bytes::Bytes;
use ulid::Ulid;

/// What a letter is about, and who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetterKind {
    /// To the asker: a piece of a reply.
    Piece,
    /// To the asker: the reply is complete.
    End,
    /// To the asker: there will be no reply. The body says why.
    Failed,
    /// To the asker: the replier wants to know how many bytes are consumed, and whether anybody still waits.
    Probe,
    /// To the replier: the number of bytes that have been consumed.
    Consumed,
    /// To the replier: nobody waits for the reply any more.
    Cancel,
}

/// One message to an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) kind: LetterKind,
    /// The request that the letter is about.
    pub(crate) ask: Ulid,
    /// The delivery of that request that the letter is about. A broker may deliver a request several times.
    pub(crate) attempt: Ulid,
    /// The number of the piece, from 0, or the count of consumed bytes.
    pub(crate) number: u64,
    /// The inbox of the sender.
    pub(crate) from: String,
    pub(crate) body: Bytes,
}

impl LetterKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Piece => "piece",
            Self::End => "end",
            Self::Failed => "failed",
            Self::Probe => "probe",
            Self::Consumed => "consumed",
            Self::Cancel => "cancel",
        }
    }

    pub(crate) fn from_word(word: &[u8]) -> Option<Self> {
        [Self::Piece, Self::End, Self::Failed, Self::Probe, Self::Consumed, Self::Cancel]
            .into_iter()
            .find(|kind| kind.word().as_bytes() == word)
    }
}
