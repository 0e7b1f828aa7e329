//! The types in the messages and files of Actividad 2: identifiers, names, places and checksums.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use ulid::Ulid;

/// The longest message in bytes of UTF-8.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How many characters of a message the registry keeps for people to read.
pub const BEGINNING_CHARS: usize = 60;

/// Returns the first [`BEGINNING_CHARS`] characters of `message`, followed by `…` if there are more.
#[must_use]
pub fn beginning(message: &str) -> String {
    match message.char_indices().nth(BEGINNING_CHARS) {
        Some((end, _)) => [&message[..end], "…"].concat(),
        None => message.to_owned(),
    }
}

/// Identifies a message for ever. It is a ULID (<https://github.com/ulid/spec>) that the client makes before it first
/// sends the message. A retry carries the same identifier, so a repeated message is distinguished from a second one.
pub type Id = Ulid;

/// Identifies one run of a program: a ULID that is made when the program starts.
pub type Incarnation = Ulid;

/// The right of one headnode to lead the store, until another one takes a higher epoch. Datanodes refuse headnodes with a
/// lower epoch than the highest that they have met. It is written as `3:01JD…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The number, from 1. Of two epochs with one number, the one with the higher `taken_by` is the higher one.
    pub number: u64,
    /// The run of the headnode that took the epoch. Later runs of the same headnode keep it.
    pub taken_by: Incarnation,
}

impl Epoch {
    /// Returns the epoch that is taken in `run`, where `highest` is the highest one that anybody has told of.
    #[must_use]
    pub fn after(highest: Option<Self>, run: Incarnation) -> Self {
        Self { number: highest.map_or(0, |highest| highest.number).saturating_add(1), taken_by: run }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.taken_by)
    }
}

/// A text that cannot be an [`Epoch`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an epoch: NUMBER:ULID is expected")]
pub struct NotAnEpoch;

impl FromStr for Epoch {
    type Err = NotAnEpoch;

    fn from_str(text: &str) -> Result<Self, NotAnEpoch> {
        let (number, taken_by) = text.split_once(':').ok_or(NotAnEpoch)?;
        let number = number.parse().map_err(|_| NotAnEpoch)?;
        Ok(Self { number, taken_by: taken_by.parse().map_err(|_| NotAnEpoch)? })
    }
}

/// Returns a ULID.
///
/// `milliseconds` count from 1970 (UTC). The lowest 80 bits of `random` are used.
#[must_use]
pub fn ulid(milliseconds: u64, random: u128) -> Ulid {
    Ulid::from_parts(milliseconds, random)
}

/// The name of a datanode: 1 to 63 letters, digits, `-`, `_` and `.`, as host names are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// A text that cannot be a [`NodeName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: 1 to 63 letters, digits, '-', '_' or '.' are allowed")]
pub struct NotAName(String);

impl NodeName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if matches!(text.len(), 1..=63) && text.bytes().all(valid) {
            Ok(Self(text.into()))
        } else {
            Err(NotAName(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// CRC-32C (Castagnoli, RFC 3720 B.4) of a message's bytes, written as eight hexadecimal digits.
///
/// The datanode computes it when it stores the message, and the client checks it. So it covers the whole way of the
/// message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageCrc(u32);

/// A text that cannot be a [`MessageCrc`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checksum: eight hexadecimal digits are expected")]
pub struct NotACrc;

impl MessageCrc {
    /// Returns the checksum of `message`.
    #[must_use]
    pub fn of(message: &str) -> Self {
        Self(crc32c::crc32c(message.as_bytes()))
    }
}

impl fmt::Display for MessageCrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for MessageCrc {
    type Err = NotACrc;

    fn from_str(text: &str) -> Result<Self, NotACrc> {
        if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotACrc);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| NotACrc)
    }
}

/// Reads and writes types as text without a `String` in between.
macro_rules! travels_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a text")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    )*};
}

travels_as_text!(NodeName, MessageCrc, Epoch);

/// The place of a message: a datanode, and the number of the record there. It is written as `datanode2:17`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The name of the datanode.
    pub datanode: NodeName,
    /// The number of the record in the datanode's `data.txt`, from 1.
    pub seq: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.datanode, self.seq)
    }
}

/// A text that cannot be a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a place: NAME:NUMBER is expected, for example datanode2:17")]
pub struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let (name, seq) = text.rsplit_once(':').ok_or(NotAPlace)?;
        let datanode = name.parse().map_err(|_| NotAPlace)?;
        Ok(Self { datanode, seq: seq.parse().map_err(|_| NotAPlace)? })
    }
}

/// A message as a datanode keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// The number of the record in `data.txt`, from 1.
    pub seq: u64,
    /// When the record was written: RFC 3339, UTC.
    pub time: String,
    /// The identifier of the message.
    pub id: Id,
    /// The address of the client that sent the message to the headnode.
    pub client: SocketAddr,
    /// The text of the message.
    pub message: String,
}

/// A message that the registry knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryEntry {
    /// When the newest place was registered: RFC 3339, UTC.
    pub time: String,
    /// The identifier of the message.
    pub id: Id,
    /// The address of the client that sent the message.
    pub client: SocketAddr,
    /// The places at which the message is on disk. There are more than the wanted replicas if a retry reached another
    /// datanode.
    pub places: Vec<Place>,
    /// The checksum of the message.
    pub message_crc32c: MessageCrc,
    /// The [`beginning`] of the message. It is absent if an older version wrote the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beginning: Option<String>,
}

/// Whether a datanode answers, and whether messages can be sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// The datanode answers the heartbeat, and the headnode is connected to it: messages are sent to it.
    Available,
    /// The datanode answers the heartbeat, but the headnode is not connected to it: nothing is sent to it.
    Operative,
    /// The datanode does not answer the heartbeat.
    NotOperative,
}

impl NodeState {
    /// Returns the word for people and for the files of the assignment.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "disponible",
            Self::Operative => "operativo",
            Self::NotOperative => "no operativo",
        }
    }
}

/// Why messages cannot be sent to a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnavailableCause {
    /// It did not answer any probe of a round.
    NoAnswer,
    /// The connection to it was closed at its end, or broke.
    Closed,
    /// No connection to it can be made.
    CannotConnect,
    /// It is connected, and did not reply in time.
    ReplyTimeout,
    /// It refused a request that it should carry out.
    Refused,
    /// It does not follow the protocol.
    Protocol,
    /// The headnode's registry could not take in what it holds.
    Registry,
}

impl UnavailableCause {
    /// Returns the cause as people read it, in Spanish.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAnswer => "no responde al latido",
            Self::Closed => "se cerró la conexión",
            Self::CannotConnect => "no se puede conectar con él",
            Self::ReplyTimeout => "no contesta a tiempo",
            Self::Refused => "rechaza la conexión",
            Self::Protocol => "contesta algo que no se entiende",
            Self::Registry => "no se pudo anotar lo que tiene",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_hosts() {
        for name in ["a", "datanode1", "node-1.rack_2", &"x".repeat(63)] {
            assert_eq!(name.parse::<NodeName>().unwrap().as_str(), name);
        }
        for name in ["", "a b", "ñ", "a:1", "a,b", "a\n", &"x".repeat(64)] {
            assert!(name.parse::<NodeName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_beginning_has_at_most_60_characters_and_says_if_there_are_more() {
        for whole in ["", "Hola", &"ñ".repeat(60), &"🦀".repeat(60)] {
            assert_eq!(beginning(whole), whole);
        }
        assert_eq!(beginning(&"🦀".repeat(61)), format!("{}…", "🦀".repeat(60)));
    }

    #[test]
    fn epochs_are_ordered_by_number_first_and_come_back_from_text() {
        let run = |number| Incarnation::from_parts(number, 7);
        let first = Epoch::after(None, run(5));
        let (twin, next) = (Epoch { taken_by: run(6), ..first }, Epoch::after(Some(first), run(4)));
        assert_eq!((first.number, next.number), (1, 2));
        assert!(first < twin && twin < next);
        assert_eq!(next.to_string().parse(), Ok(next));
        for text in ["", "1", "1:", ":01", "-1:00000000010000000000000002", "1:x"] {
            assert_eq!(text.parse::<Epoch>(), Err(NotAnEpoch), "{text:?}");
        }
    }

    #[test]
    fn places_and_checksums_come_back_from_text() {
        let place: Place = "datanode2:17".parse().unwrap();
        assert_eq!((place.datanode.as_str(), place.seq), ("datanode2", 17));
        assert_eq!(place.to_string(), "datanode2:17");
        for text in ["datanode2", ":1", "a:", "a:-1", "a b:1"] {
            assert_eq!(text.parse::<Place>(), Err(NotAPlace), "{text:?}");
        }
        let crc = MessageCrc::of("Hola");
        assert_eq!(crc.to_string().parse(), Ok(crc));
        for text in ["", "123456789", "+1234567", "ñ234567"] {
            assert_eq!(text.parse::<MessageCrc>(), Err(NotACrc), "{text:?}");
        }
    }
}
