//! The open requests and the open replies of one transport, and what its letters mean for them.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Notify, mpsc, watch};
use ulid::Ulid;

use crate::TransportError;
use crate::brokered::letter::{Letter, LetterKind};

/// The most bytes of one reply that may be on their way, unless a transport has its own measure.
pub(crate) const WINDOW: u64 = 4 << 20;
/// The asker tells the replier so many times within a window what it has consumed.
const WORDS_A_WINDOW: u64 = 4;
/// An asker that fetches the pieces itself has at most so many bytes of a reply that nobody has read.
const UNREAD: u64 = 4 << 20;
/// What a piece counts besides its length, so that a million empty ones are not free.
const PIECE_OVERHEAD: u64 = 1 << 10;

/// What a piece counts against the bytes that may be on their way.
pub(crate) fn weight(piece: &Bytes) -> u64 {
    PIECE_OVERHEAD + u64::try_from(piece.len()).expect("a length fits in 64 bits")
}

/// Something to do at the broker that nobody waits for.
#[derive(Debug)]
pub(crate) enum Note {
    /// A letter to an inbox.
    Post { to: String, letter: Letter },
    /// A request that nobody waits for any more may be removed, if it is still there.
    Withdraw(String),
}

/// What an asker has said about a reply.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReplyProgress {
    pub(crate) consumed: u64,
    pub(crate) is_cancelled: bool,
}

struct OpenAsk {
    pieces: mpsc::UnboundedSender<Result<Bytes, TransportError>>,
    /// The delivery whose reply is received, and the inbox of its replier.
    attempt: Option<(Ulid, String)>,
    next: u64,
    received: u64,
    consumed: u64,
}

/// Whether a letter that lies in an inbox is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchTime {
    /// It is.
    Now,
    /// An earlier letter of the same reply has not been seen, or the reader has enough to read.
    Later,
}

/// The open requests and replies of one transport.
pub(crate) struct Correspondence {
    inbox: String,
    peer: String,
    window: u64,
    asks: Mutex<HashMap<Ulid, OpenAsk>>,
    replies: Mutex<HashMap<Ulid, watch::Sender<ReplyProgress>>>,
    notes: mpsc::UnboundedSender<Note>,
    /// Tells whoever fetches letters that there is a reason to look again.
    pub(crate) stirred: Notify,
}

impl Correspondence {
    /// `peer` is the broker's address, for errors. The notes are to be carried out by the transport.
    pub(crate) fn new(inbox: String, peer: String) -> (Arc<Self>, mpsc::UnboundedReceiver<Note>) {
        Self::with_window(inbox, peer, WINDOW)
    }

    /// Lets so many bytes of one reply be on their way.
    pub(crate) fn with_window(
        inbox: String,
        peer: String,
        window: u64,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Note>) {
        let (notes, todo) = mpsc::unbounded_channel();
        let (asks, replies, stirred) = (Mutex::default(), Mutex::default(), Notify::new());
        let correspondence = Self { inbox, peer, window, asks, replies, notes, stirred };
        (Arc::new(correspondence), todo)
    }

    pub(crate) fn inbox(&self) -> &str {
        &self.inbox
    }

    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// Whether any request or reply is open, so that letters may come.
    pub(crate) fn is_busy(&self) -> bool {
        !self.asks().is_empty() || !self.replies().is_empty()
    }

    /// Whether a piece of a reply, or its end, is to be fetched, where the asker sees what lies in its inbox. A look at an inbox
    /// may show a letter, and not an earlier one that was put while it looked.
    pub(crate) fn fetch_time(&self, ask: Ulid, attempt: Ulid, number: u64) -> FetchTime {
        let asks = self.asks();
        // Nobody waits for it, and its sender is told so.
        let Some(open) = asks.get(&ask) else { return FetchTime::Now };
        let (current, next) = match &open.attempt {
            Some((current, _)) => (*current, open.next),
            None => (attempt, 0),
        };
        let is_early = match attempt.cmp(&current) {
            Ordering::Less => false,
            Ordering::Equal => number > next || (number == next && open.received - open.consumed > UNREAD),
            Ordering::Greater => number > 0,
        };
        if is_early { FetchTime::Later } else { FetchTime::Now }
    }

    pub(crate) fn unreachable(&self, cause: impl Into<String>) -> TransportError {
        TransportError::Unreachable { peer: self.peer.clone(), cause: cause.into() }
    }

    /// Opens a request. `keeps` is kept for as long as the stream is.
    pub(crate) fn open(self: &Arc<Self>, keeps: Arc<dyn Any + Send + Sync>) -> ReplyStream {
        let (sender, pieces) = mpsc::unbounded_channel();
        let ask = Ulid::generate();
        let open = OpenAsk { pieces: sender, attempt: None, next: 0, received: 0, consumed: 0 };
        self.asks().insert(ask, open);
        self.stirred.notify_one();
        let correspondence = Arc::clone(self);
        ReplyStream { ask, pieces, correspondence, consumed: 0, told: 0, place: None, _keeps: keeps }
    }

    /// Opens a reply. The asker's words about it are found in what is returned.
    pub(crate) fn begin_reply(&self, attempt: Ulid) -> watch::Receiver<ReplyProgress> {
        let (sender, receiver) = watch::channel(ReplyProgress::default());
        self.replies().insert(attempt, sender);
        self.stirred.notify_one();
        receiver
    }

    pub(crate) fn end_reply(&self, attempt: Ulid) {
        self.replies().remove(&attempt);
    }

    /// Ends all open requests with an error, because what the broker held for them is lost.
    pub(crate) fn fail_all(&self, cause: &str) {
        for (_, ask) in self.asks().drain() {
            // The stream may have been dropped just now.
            let _ = ask.pieces.send(Err(self.unreachable(cause)));
        }
    }

    /// Ends the open requests whose replies have begun with an error, because what the broker held of them is lost. The others go
    /// on: the broker still has them.
    pub(crate) fn fail_started(&self, cause: &str) {
        self.asks().retain(|_, ask| {
            let has_started = ask.attempt.is_some();
            if has_started {
                // The stream may have been dropped just now.
                let _ = ask.pieces.send(Err(self.unreachable(cause)));
            }
            !has_started
        });
    }

    /// Takes a letter from the inbox.
    pub(crate) fn receive(&self, letter: Letter) {
        match letter.kind {
            LetterKind::Piece | LetterKind::End | LetterKind::Failed => self.receive_reply(letter),
            LetterKind::Probe => self.receive_probe(&letter),
            LetterKind::Consumed | LetterKind::Cancel => {
                if let Some(reply) = self.replies().get(&letter.attempt) {
                    reply.send_modify(|state| {
                        state.is_cancelled |= letter.kind == LetterKind::Cancel;
                        if letter.kind == LetterKind::Consumed {
                            state.consumed = state.consumed.max(letter.number);
                        }
                    });
                }
            }
        }
    }

    fn receive_reply(&self, letter: Letter) {
        let mut asks = self.asks();
        let Some(ask) = asks.get_mut(&letter.ask) else {
            return self.cancel(&letter);
        };
        let (attempt, _) = ask.attempt.get_or_insert_with(|| (letter.attempt, letter.from.clone()));
        let problem = if letter.attempt < *attempt {
            // An earlier taker comes back after its request has been given to another one.
            return self.cancel(&letter);
        } else if letter.kind == LetterKind::Failed {
            Some(self.unreachable(String::from_utf8_lossy(&letter.body)))
        } else if letter.attempt > *attempt {
            Some(self.unreachable("the peer was lost in the middle of its reply"))
        } else if letter.number < ask.next {
            return;
        } else if letter.number > ask.next {
            Some(self.unreachable("a piece of the reply was lost"))
        } else {
            None
        };
        if problem.is_none() && letter.kind == LetterKind::Piece {
            ask.next += 1;
            ask.received += weight(&letter.body);
            // The stream may have been dropped just now.
            let _ = ask.pieces.send(Ok(letter.body));
            return;
        }
        let Some(ask) = asks.remove(&letter.ask) else { return };
        if let Some(problem) = problem {
            self.cancel(&letter);
            let _ = ask.pieces.send(Err(problem));
        }
    }

    fn receive_probe(&self, letter: &Letter) {
        let asks = self.asks();
        let open = asks.get(&letter.ask);
        let is_current = |ask: &&OpenAsk| ask.attempt.as_ref().is_none_or(|(own, _)| *own == letter.attempt);
        match open.filter(is_current) {
            Some(ask) => self.answer(letter, LetterKind::Consumed, ask.consumed),
            None => self.answer(letter, LetterKind::Cancel, 0),
        }
    }

    /// Tells a replier that it need not go on. After its last letter there is nothing to stop.
    fn cancel(&self, letter: &Letter) {
        if letter.kind == LetterKind::Piece {
            self.answer(letter, LetterKind::Cancel, 0);
        }
    }

    fn answer(&self, letter: &Letter, kind: LetterKind, number: u64) {
        self.write(letter.from.clone(), kind, letter.ask, letter.attempt, number);
    }

    fn write(&self, to: String, kind: LetterKind, ask: Ulid, attempt: Ulid, number: u64) {
        let letter = Letter { kind, ask, attempt, number, from: self.inbox.clone(), body: Bytes::new() };
        // The transport may be ending.
        let _ = self.notes.send(Note::Post { to, letter });
    }

    /// Notes what a stream has consumed, and tells the replier if `is_told`.
    fn consumed(&self, id: Ulid, consumed: u64, is_told: bool) {
        let mut asks = self.asks();
        let Some(ask) = asks.get_mut(&id) else { return };
        if ask.received - ask.consumed > UNREAD && ask.received - consumed <= UNREAD {
            self.stirred.notify_one();
        }
        ask.consumed = consumed;
        if let (true, Some((attempt, from))) = (is_told, &ask.attempt) {
            self.write(from.clone(), LetterKind::Consumed, id, *attempt, consumed);
        }
    }

    fn give_up(&self, id: Ulid, place: Option<String>) {
        let Some(ask) = self.asks().remove(&id) else { return };
        if let Some((attempt, from)) = ask.attempt {
            self.write(from, LetterKind::Cancel, id, attempt, 0);
        } else if let Some(place) = place {
            let _ = self.notes.send(Note::Withdraw(place));
        }
    }

    fn asks(&self) -> MutexGuard<'_, HashMap<Ulid, OpenAsk>> {
        self.asks.lock().expect("nothing panics while it holds this lock")
    }

    fn replies(&self) -> MutexGuard<'_, HashMap<Ulid, watch::Sender<ReplyProgress>>> {
        self.replies.lock().expect("nothing panics while it holds this lock")
    }
}

/// The pieces of a reply as they come. Dropping it before its end cancels the request.
pub(crate) struct ReplyStream {
    ask: Ulid,
    pieces: mpsc::UnboundedReceiver<Result<Bytes, TransportError>>,
    correspondence: Arc<Correspondence>,
    consumed: u64,
    told: u64,
    place: Option<String>,
    _keeps: Arc<dyn Any + Send + Sync>,
}

impl ReplyStream {
    pub(crate) fn ask(&self) -> Ulid {
        self.ask
    }

    /// Where the request lies at the broker, so that it can be withdrawn.
    pub(crate) fn lies_at(&mut self, place: String) {
        self.place = Some(place);
    }
}

impl Stream for ReplyStream {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.pieces.poll_recv(context));
        if let Some(Ok(piece)) = &item {
            self.consumed += weight(piece);
            let is_told = self.consumed - self.told >= self.correspondence.window / WORDS_A_WINDOW;
            if is_told {
                self.told = self.consumed;
            }
            self.correspondence.consumed(self.ask, self.consumed, is_told);
        }
        Poll::Ready(item)
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        self.correspondence.give_up(self.ask, self.place.take());
    }
}

#[cfg(test)]
mod tests;
