//! Entries of streams, and letters as entries.

use bytes::Bytes;
use redis::{Cmd, Value};
use ulid::Ulid;

use crate::brokered::letter::{Letter, LetterKind};
use crate::brokered::reply::Asker;

/// An entry of a stream.
#[derive(Debug)]
pub(crate) struct RedisEntry {
    pub(crate) stream: String,
    pub(crate) id: String,
    fields: Vec<(Bytes, Bytes)>,
}

impl RedisEntry {
    fn take(&mut self, name: &str) -> Option<Bytes> {
        let field = self.fields.iter_mut().find(|(key, _)| key == name.as_bytes())?;
        Some(std::mem::take(&mut field.1))
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        String::from_utf8(self.take(name)?.to_vec()).ok()
    }

    fn take_ulid(&mut self, name: &str) -> Option<Ulid> {
        self.take_text(name)?.parse().ok()
    }

    /// The letter that the entry is, if it is one.
    pub(crate) fn into_letter(mut self) -> Option<Letter> {
        Some(Letter {
            kind: LetterKind::from_word(&self.take("kind")?)?,
            ask: self.take_ulid("id")?,
            attempt: self.take_ulid("attempt")?,
            number: self.take_text("number")?.parse().ok()?,
            from: self.take_text("from")?,
            body: self.take("body")?,
        })
    }

    /// The request that the entry is, if it is one.
    pub(crate) fn take_request(&mut self) -> Option<(Asker, Bytes)> {
        let asker = Asker { ask: self.take_ulid("id")?, inbox: self.take_text("reply_to")? };
        Some((asker, self.take("body")?))
    }
}

/// Adds the fields of a letter to a command.
pub(crate) fn add_letter(command: &mut Cmd, letter: &Letter) {
    for (name, value) in letter_fields(letter) {
        command.arg(name).arg(value);
    }
    command.arg("body").arg(&letter.body[..]);
}

/// The short fields of a letter. The body comes after them.
pub(crate) fn letter_fields(letter: &Letter) -> [(&'static str, String); 5] {
    [
        ("kind", letter.kind.word().to_owned()),
        ("id", letter.ask.to_string()),
        ("attempt", letter.attempt.to_string()),
        ("number", letter.number.to_string()),
        ("from", letter.from.clone()),
    ]
}

/// The entries in the reply to `XREAD`, `XREADGROUP`, or a script that calls them.
pub(crate) fn entries_of_streams(reply: Value) -> Vec<RedisEntry> {
    let mut all = Vec::new();
    for stream in items(reply) {
        let mut parts = items(stream).into_iter();
        if let (Some(name), Some(entries)) = (parts.next().and_then(text), parts.next()) {
            all.extend(entries_of_stream(&name, entries));
        }
    }
    all
}

/// The entries of a list of entries. A deleted entry has no fields and is left out.
pub(crate) fn entries_of_stream(stream: &str, entries: Value) -> Vec<RedisEntry> {
    items(entries).into_iter().filter_map(|value| entry(stream, value)).collect()
}

fn entry(stream: &str, value: Value) -> Option<RedisEntry> {
    let mut parts = items(value).into_iter();
    let id = text(parts.next()?)?;
    let mut values = items(parts.next()?).into_iter();
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (values.next().and_then(bytes), values.next().and_then(bytes)) {
        fields.push((name, value));
    }
    (!fields.is_empty()).then(|| RedisEntry { stream: stream.to_owned(), id, fields })
}

/// The values of an array.
pub(crate) fn items(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value { items } else { Vec::new() }
}

/// The text of a string.
pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Bytes> {
    if let Value::BulkString(bytes) = value { Some(Bytes::from(bytes)) } else { None }
}
