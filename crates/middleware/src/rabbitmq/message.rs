//! Letters and requests as messages.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::ShortString;
use ulid::Ulid;

use crate::brokered::letter::{Letter, LetterKind};
use crate::brokered::reply::Asker;

const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// The properties of a letter's message. The body is the message's.
pub(crate) fn letter_properties(letter: &Letter) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(TRANSIENT)
        .with_type(letter.kind.word().into())
        .with_correlation_id(letter.ask.to_string().into())
        .with_message_id(format!("{}/{}", letter.attempt, letter.number).into())
        .with_reply_to(letter.from.as_str().into())
}

/// The letter that a message is, if it is one.
pub(crate) fn into_letter(delivery: Delivery) -> Option<Letter> {
    let properties = &delivery.properties;
    let (attempt, number) = text(properties.message_id())?.split_once('/')?;
    Some(Letter {
        kind: LetterKind::from_word(text(properties.kind())?.as_bytes())?,
        ask: text(properties.correlation_id())?.parse().ok()?,
        attempt: attempt.parse().ok()?,
        number: number.parse().ok()?,
        from: text(properties.reply_to())?.to_owned(),
        body: Bytes::from(delivery.data),
    })
}

/// The properties of a request's message.
pub(crate) fn request_properties(ask: Ulid, inbox: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_correlation_id(ask.to_string().into())
        .with_reply_to(inbox.into())
}

/// Who sent the request that a message is, if it is one.
pub(crate) fn asker(delivery: &Delivery) -> Option<Asker> {
    let ask = text(delivery.properties.correlation_id())?.parse().ok()?;
    Some(Asker { ask, inbox: text(delivery.properties.reply_to())?.to_owned() })
}

fn text(property: &Option<ShortString>) -> Option<&str> {
    property.as_ref().map(ShortString::as_str)
}
