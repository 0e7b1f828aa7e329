//! The last messages, for the page. They are kept only while somebody looks: then a message costs one more lock. Most of them
//! are forgotten before any page asks for them, so all that can wait is done when one does: times and places become text, and a
//! message that was saved again is left out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use page::history::Ring;
use protocol::store::types::{Id, Place, RegistryEntry, beginning};
use serde::Serialize;
use text::timestamp;

/// How many of the last messages are kept.
const KEPT: usize = 64;

/// The last messages.
#[derive(Debug)]
pub struct RecentMessages {
    watched: AtomicBool,
    /// Whether the beginning of each text is kept.
    with_text: bool,
    messages: Mutex<Ring<KeptMessage>>,
}

/// A message as it is kept.
#[derive(Debug)]
struct KeptMessage {
    time: SavedAt,
    id: Id,
    bytes: Option<usize>,
    client: SocketAddr,
    places: Vec<Place>,
    text: Option<String>,
}

/// When a message was saved.
#[derive(Debug)]
enum SavedAt {
    /// This run saved it.
    Here(SystemTime),
    /// The registry says so.
    Registered(String),
}

/// A message that was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecentMessage {
    pub time: String,
    pub id: Id,
    /// The length of the text. It is absent if the message was saved before anybody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    pub client: SocketAddr,
    pub places: Vec<String>,
    /// The beginning of the text, if the user wants it to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What is kept of a message's text while the message is on its way.
#[derive(Debug)]
pub struct MessageOutline {
    bytes: usize,
    text: Option<String>,
}

impl RecentMessages {
    /// Returns a list that nobody looks at yet.
    #[must_use]
    pub fn new(with_text: bool) -> Self {
        Self { watched: AtomicBool::new(false), with_text, messages: Mutex::new(Ring::new(KEPT)) }
    }

    /// Returns what is to be kept of a text, or `None` if nobody looks.
    #[must_use]
    pub fn outline(&self, text: &str) -> Option<MessageOutline> {
        self.watched
            .load(Ordering::Relaxed)
            .then(|| MessageOutline { bytes: text.len(), text: self.with_text.then(|| beginning(text)) })
    }

    /// Adds a message that was saved just now.
    pub fn push(&self, outline: MessageOutline, id: Id, client: SocketAddr, places: &[Place]) {
        let MessageOutline { bytes, text } = outline;
        let (time, places) = (SavedAt::Here(SystemTime::now()), places.to_vec());
        self.lock().push(KeptMessage { time, id, bytes: Some(bytes), client, places, text });
    }

    /// Begins to keep messages, after those that `saved` returns: the newest ones of the registry, newest first.
    pub fn watch(&self, saved: impl FnOnce() -> Vec<RegistryEntry>) {
        // While the list is locked, no message can be added out of order.
        let mut messages = self.lock();
        self.watched.store(true, Ordering::Relaxed);
        for entry in saved().into_iter().rev() {
            let RegistryEntry { time, id, client, places, message_crc32c: _, beginning } = entry;
            let (time, text) = (SavedAt::Registered(time), beginning.filter(|_| self.with_text));
            if !messages.newest(KEPT).any(|(_, known)| known.id == id) {
                messages.push(KeptMessage { time, id, bytes: None, client, places, text });
            }
        }
    }

    /// Ends keeping messages.
    pub fn unwatch(&self) {
        self.watched.store(false, Ordering::Relaxed);
    }

    /// Returns the number of the newest message, and the newest `count` ones above the number `since`, oldest first. A message
    /// that was saved again is the same one, and has the number that it had first.
    #[must_use]
    pub fn newest(&self, since: u64, count: usize) -> (u64, Vec<(u64, RecentMessage)>) {
        let messages = self.lock();
        let mut known = BTreeSet::new();
        let different: Vec<_> =
            messages.newest(KEPT).filter(|(_, message)| known.insert(message.id)).collect();
        let newest = different.into_iter().rev().take(count).rev().filter(|(number, _)| *number > since);
        (messages.last(), newest.map(|(number, message)| (number, message.shown())).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Ring<KeptMessage>> {
        // No code that holds the lock can panic in the middle of a change.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptMessage {
    fn shown(&self) -> RecentMessage {
        let Self { time, id, bytes, client, places, text } = self;
        let time = match time {
            SavedAt::Here(time) => timestamp((*time).into()),
            SavedAt::Registered(time) => time.clone(),
        };
        let places = places.iter().map(Place::to_string).collect();
        RecentMessage { time, id: *id, bytes: *bytes, client: *client, places, text: text.clone() }
    }
}

#[cfg(test)]
mod tests {
    use protocol::store::types::{MessageCrc, ulid};

    use super::*;

    fn push(recent: &RecentMessages, id: u64, text: &str) {
        let place = Place { datanode: "datanode2".parse().unwrap(), seq: id };
        if let Some(outline) = recent.outline(text) {
            recent.push(outline, ulid(id, 0), "127.0.0.1:4000".parse().unwrap(), &[place]);
        }
    }

    fn saved(id: u64) -> RegistryEntry {
        RegistryEntry {
            time: "2026-11-21T09:30:00.123Z".to_owned(),
            id: ulid(id, 0),
            client: "127.0.0.1:4000".parse().unwrap(),
            places: Vec::new(),
            message_crc32c: MessageCrc::of(""),
            beginning: Some("Hola".to_owned()),
        }
    }

    #[test]
    fn messages_are_kept_while_somebody_looks_and_once() {
        let recent = RecentMessages::new(true);
        push(&recent, 1, "before anybody looked");
        assert_eq!(recent.newest(0, 64), (0, Vec::new()));
        recent.watch(|| vec![saved(2), saved(1)]);
        // Message 2 was registered before anybody looked, and its reply went out after that.
        for id in [2, 3, 3] {
            push(&recent, id, "Hola");
        }
        let (last, messages) = recent.newest(1, 64);
        let seen: Vec<_> =
            messages.iter().map(|(number, message)| (*number, message.id, message.bytes)).collect();
        assert_eq!((last, seen), (5, vec![(2, ulid(2, 0), None), (4, ulid(3, 0), Some(4))]));
        assert_eq!(recent.newest(0, 1).1, messages[1..]);
        // Whoever looks again is told of the same messages.
        recent.watch(|| vec![saved(3), saved(2), saved(1)]);
        assert_eq!(recent.newest(1, 64), (last, messages));
        recent.unwatch();
        push(&recent, 4, "after all pages were closed");
        assert_eq!(recent.newest(0, 64).0, last);
    }

    #[test]
    fn a_text_is_shown_only_if_the_user_wants_it() {
        let recent = RecentMessages::new(false);
        recent.watch(|| vec![saved(1)]);
        push(&recent, 2, "secret");
        assert!(recent.newest(0, 64).1.iter().all(|(_, message)| message.text.is_none()));
    }
}
