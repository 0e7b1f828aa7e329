//! Actividad 2, writes and reads the lines of its files.
//!
//! | file | a line | closed by a checksum |
//! | --- | --- | --- |
//! | `data.txt` | `17 2026-11-21T09:30:00.123Z 01K… 172.21.0.3:40522 "Hola" crc32c=…` | yes |
//! | `registro_server.txt` | `2026-11-21T09:30:00.124Z 01K… 172.21.0.3:40522 datanode2:17 message_crc32c=bfaac1a4 "Hola" crc32c=…` | yes |
//! | `registro_cliente.txt` | `2026-11-21T09:30:00.125Z 01K… datanode2:17 message_crc32c=bfaac1a4 "Hola"` | no |
//!
//! [`epoch_file`] has the line of `datanode.epoch` and `headnode.epoch`, [`remembered`] those of `datanode.journal` and
//! `headnode.journal`.
//!
//! `01K…` is the message's id; `datanode2:17` says that record 17 of datanode2's `data.txt` holds the message (commas join
//! several places); `message_crc32c` is the CRC-32C of the message's bytes. If a retry landed on another datanode, or the
//! message was copied, the registry has a later line of the same id, with all places. If a copy was lost, that line says
//! so between checksum and text: `gone=datanode2:17`. A text is a JSON string: the whole message in `data.txt`
//! and in the client's file, its [`beginning`](protocol::store::types::beginning) in the registry. Earlier versions wrote
//! `registro_server.txt` and `registro_cliente.txt` without a text; such lines can be read too.

pub mod epoch_file;
pub mod remembered;

use journal::record::{Batch, fields};
use protocol::store::client_api::RegistryEntry;
use protocol::store::types::{Id, MessageCrc, Place, StoredRecord};

/// The file of a datanode: its messages.
pub const DATA_FILE: &str = "data.txt";
/// The file of a datanode: what it remembers besides its messages.
pub const DATANODE_JOURNAL: &str = "datanode.journal";
/// The file of the headnode: which datanodes there are.
pub const HEADNODE_JOURNAL: &str = "headnode.journal";
/// The file of the headnode: where each message is.
pub const REGISTRY_FILE: &str = "registro_server.txt";
/// The file of the headnode: who answered. The assignment spells it so.
pub const HEARTBEAT_FILE: &str = "hearbeat_server.txt";
/// The file of the client.
pub const RECEIPTS_FILE: &str = "registro_cliente.txt";

const CRC_KEY: &str = "message_crc32c=";
const GONE_KEY: &str = "gone=";

/// Says where a client's message is, so that it can be checked later without the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The time of the receipt: RFC 3339, UTC.
    pub time: String,
    /// The identifier of the message.
    pub id: Id,
    /// The places of the message.
    pub places: Vec<Place>,
    /// The checksum of the message.
    pub message_crc32c: MessageCrc,
    /// The message, or `None` if an older version wrote the line.
    pub text: Option<String>,
}

fn join(places: &[Place]) -> String {
    places.iter().map(Place::to_string).collect::<Vec<_>>().join(",")
}

fn parse_places(text: &str) -> Option<Vec<Place>> {
    text.split(',').map(|place| place.parse().ok()).collect()
}

fn parse_crc(text: &str) -> Option<MessageCrc> {
    text.strip_prefix(CRC_KEY)?.parse().ok()
}

/// The part of a line of `registro_server.txt` that tells where a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryKey {
    /// The identifier of the message.
    pub id: Id,
    /// The places of the message.
    pub places: Vec<Place>,
    /// Places that earlier lines name, and at which the message is not any more.
    pub gone: Vec<Place>,
}

/// Splits the end of a line of the registry into the places that are gone and the quoted text.
fn split_gone(end: Option<&str>) -> Option<(Vec<Place>, Option<&str>)> {
    let Some(rest) = end.and_then(|end| end.strip_prefix(GONE_KEY)) else { return Some((Vec::new(), end)) };
    let (gone, text) = rest.split_once(' ').map_or((rest, None), |(gone, text)| (gone, Some(text)));
    Some((parse_places(gone)?, text))
}

/// Reads the text at the end of a line, which older versions did not write.
fn parse_text(word: Option<&str>) -> Option<Option<String>> {
    let Some(quoted) = word else { return Some(None) };
    match <[String; 1]>::try_from(fields(quoted).filter(|_| quoted.starts_with('"'))?) {
        Ok([text]) => Some(Some(text)),
        Err(_) => None,
    }
}

/// Adds a line of `data.txt`.
pub fn push_data(batch: &mut Batch, record: &StoredRecord) {
    batch.push(|line| {
        line.word(record.seq).word(&record.time).word(record.id).word(record.client).text(&record.message);
    });
}

/// Reads a line of `data.txt` without its checksum.
#[must_use]
pub fn parse_data(line: &str) -> Option<StoredRecord> {
    let [seq, time, id, client, message] = fields(line)?.try_into().ok()?;
    Some(StoredRecord {
        seq: seq.parse().ok()?,
        time,
        id: Id::from_string(&id).ok()?,
        client: client.parse().ok()?,
        message,
    })
}

/// Reads the number and the identifier in a line of `data.txt`, and not the rest.
#[must_use]
pub fn parse_data_key(line: &[u8]) -> Option<(u64, Id)> {
    let mut words = line.splitn(4, |byte| *byte == b' ').map(std::str::from_utf8);
    let seq = words.next()?.ok()?.parse().ok()?;
    let id = words.nth(1)?.ok()?;
    Some((seq, Id::from_string(id).ok()?))
}

/// Adds a line of `registro_server.txt`. The message is not at the places `gone` any more, which earlier lines name.
pub fn push_entry(batch: &mut Batch, entry: &RegistryEntry, gone: &[Place]) {
    batch.push(|line| {
        line.word(&entry.time).word(entry.id).word(entry.client);
        line.word(join(&entry.places)).word(format_args!("{CRC_KEY}{}", entry.message_crc32c));
        if !gone.is_empty() {
            line.word(format_args!("{GONE_KEY}{}", join(gone)));
        }
        if let Some(beginning) = &entry.beginning {
            line.text(beginning);
        }
    });
}

/// Reads a line of `registro_server.txt` without its checksum.
#[must_use]
pub fn parse_entry(line: &[u8]) -> Option<RegistryEntry> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.splitn(6, ' ');
    Some(RegistryEntry {
        time: words.next()?.to_owned(),
        id: Id::from_string(words.next()?).ok()?,
        client: words.next()?.parse().ok()?,
        places: parse_places(words.next()?)?,
        message_crc32c: parse_crc(words.next()?)?,
        beginning: parse_text(split_gone(words.next())?.1)?,
    })
}

/// Reads the identifier and the places in a line of `registro_server.txt`, and not the rest.
#[must_use]
pub fn parse_entry_key(line: &[u8]) -> Option<EntryKey> {
    let mut words = line.splitn(6, |byte| *byte == b' ').map(std::str::from_utf8);
    let id = Id::from_string(words.nth(1)?.ok()?).ok()?;
    let places = parse_places(words.nth(1)?.ok()?)?;
    parse_crc(words.next()?.ok()?)?;
    // Only a line that names lost places has anything but a text here.
    let is_plain = |end: &str| !end.starts_with(GONE_KEY);
    let gone = match words.next().transpose().ok()?.filter(|end| !is_plain(end)) {
        Some(end) => split_gone(Some(end))?.0,
        None => Vec::new(),
    };
    Some(EntryKey { id, places, gone })
}

/// Adds a line of `registro_cliente.txt`.
pub fn push_receipt(batch: &mut Batch, receipt: &Receipt) {
    batch.push(|line| {
        line.word(&receipt.time).word(receipt.id).word(join(&receipt.places));
        line.word(format_args!("{CRC_KEY}{}", receipt.message_crc32c));
        if let Some(text) = &receipt.text {
            line.text(text);
        }
    });
}

/// Reads a line of `registro_cliente.txt`.
#[must_use]
pub fn parse_receipt(line: &str) -> Option<Receipt> {
    let mut words = line.splitn(5, ' ');
    Some(Receipt {
        time: words.next()?.to_owned(),
        id: Id::from_string(words.next()?).ok()?,
        places: parse_places(words.next()?)?,
        message_crc32c: parse_crc(words.next()?)?,
        text: parse_text(words.next())?,
    })
}

#[cfg(test)]
mod tests {
    use journal::record::Checksum;
    use proptest::prelude::*;
    use protocol::store::types::beginning;

    use super::*;

    const TIME: &str = "2026-11-21T09:30:00.123Z";
    const ID: &str = "00000000010000000000000002";

    fn written(write: impl FnOnce(&mut Batch)) -> String {
        let mut batch = Batch::new(Checksum::None);
        write(&mut batch);
        let line = String::from_utf8(batch.as_bytes().to_vec()).unwrap();
        line.strip_suffix('\n').unwrap().to_owned()
    }

    fn data(message: &str) -> StoredRecord {
        let client = "172.21.0.3:40522".parse().unwrap();
        StoredRecord {
            seq: 17,
            time: TIME.to_owned(),
            id: Id::from_parts(1, 2),
            client,
            message: message.to_owned(),
        }
    }

    fn entry(beginning: Option<&str>) -> RegistryEntry {
        RegistryEntry {
            time: TIME.to_owned(),
            id: Id::from_parts(1, 2),
            client: "172.21.0.3:40522".parse().unwrap(),
            places: parse_places("datanode2:17,datanode3:4").unwrap(),
            message_crc32c: MessageCrc::of("Hola"),
            beginning: beginning.map(str::to_owned),
        }
    }

    fn receipt(text: Option<&str>) -> Receipt {
        Receipt {
            time: TIME.to_owned(),
            id: Id::from_parts(1, 2),
            places: parse_places("datanode2:17").unwrap(),
            message_crc32c: MessageCrc::of("Hola"),
            text: text.map(str::to_owned),
        }
    }

    #[test]
    fn golden_lines() {
        let record = data("Hola\n");
        let line = written(|batch| push_data(batch, &record));
        assert_eq!(line, format!(r#"17 {TIME} {ID} 172.21.0.3:40522 "Hola\n""#));
        assert_eq!(parse_data(&line), Some(record));
        assert_eq!(parse_data_key(line.as_bytes()), Some((17, Id::from_parts(1, 2))));

        let new = entry(Some("Hola \"tú\"\n"));
        let line = written(|batch| push_entry(batch, &new, &[]));
        let old_line =
            format!("{TIME} {ID} 172.21.0.3:40522 datanode2:17,datanode3:4 message_crc32c=bfaac1a4");
        assert_eq!(line, format!(r#"{old_line} "Hola \"tú\"\n""#));
        let key = EntryKey { id: new.id, places: new.places.clone(), gone: Vec::new() };
        assert_eq!(parse_entry_key(line.as_bytes()), Some(key.clone()));
        assert_eq!(parse_entry_key(old_line.as_bytes()), Some(key.clone()));
        assert_eq!(parse_entry(line.as_bytes()), Some(new.clone()));
        assert_eq!(parse_entry(old_line.as_bytes()), Some(entry(None)));
        let gone = parse_places("datanode1:3,datanode4:9").unwrap();
        let moved = written(|batch| push_entry(batch, &new, &gone));
        assert_eq!(moved, format!(r#"{old_line} gone=datanode1:3,datanode4:9 "Hola \"tú\"\n""#));
        assert_eq!(parse_entry_key(moved.as_bytes()), Some(EntryKey { gone: gone.clone(), ..key.clone() }));
        assert_eq!(parse_entry(moved.as_bytes()), Some(new));
        let moved = written(|batch| push_entry(batch, &entry(None), &gone));
        assert_eq!(parse_entry_key(moved.as_bytes()), Some(EntryKey { gone, ..key }));
        assert_eq!(parse_entry(moved.as_bytes()), Some(entry(None)));

        let new = receipt(Some("Hola \"tú\"\n"));
        let line = written(|batch| push_receipt(batch, &new));
        let old_line = format!("{TIME} {ID} datanode2:17 message_crc32c=bfaac1a4");
        assert_eq!(line, format!(r#"{old_line} "Hola \"tú\"\n""#));
        assert_eq!(parse_receipt(&line), Some(new));
        assert_eq!(parse_receipt(&old_line), Some(receipt(None)));
    }

    #[test]
    fn an_old_entry_that_is_written_again_stays_as_it_was() {
        let (entry, receipt) = (entry(None), receipt(None));
        let line = written(|batch| push_entry(batch, &entry, &[]));
        assert_eq!(parse_entry(line.as_bytes()), Some(entry));
        let line = written(|batch| push_receipt(batch, &receipt));
        assert_eq!(parse_receipt(&line), Some(receipt));
    }

    #[test]
    fn other_lines_are_not_taken() {
        for line in ["", "x", "17 a b c \"d\"", &format!("{TIME} {ID} datanode2 message_crc32c=bfaac1a4")] {
            assert_eq!(parse_data(line), None, "{line}");
            assert_eq!(parse_entry(line.as_bytes()), None, "{line}");
            assert_eq!(parse_entry_key(line.as_bytes()), None, "{line}");
            assert_eq!(parse_receipt(line), None, "{line}");
        }
        for end in [" more", " \"a\" more", " \"a", " \"a\" \"b\"", " ", " gone=x", " gone= \"a\""] {
            let line = format!("{TIME} {ID} datanode2:1 message_crc32c=bfaac1a4{end}");
            assert_eq!(parse_receipt(&line), None, "{line}");
            let line = format!("{TIME} {ID} 127.0.0.1:1 datanode2:1 message_crc32c=bfaac1a4{end}");
            assert_eq!(parse_entry(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_message_comes_back(message in any::<String>()) {
            let record = data(&message);
            let line = written(|batch| push_data(batch, &record));
            prop_assert_eq!(parse_data_key(line.as_bytes()), Some((17, record.id)));
            prop_assert_eq!(parse_data(&line), Some(record));
            let receipt = receipt(Some(&message));
            let line = written(|batch| push_receipt(batch, &receipt));
            prop_assert_eq!(parse_receipt(&line), Some(receipt));
            let entry = entry(Some(&beginning(&message)));
            let line = written(|batch| push_entry(batch, &entry, &[]));
            prop_assert_eq!(parse_entry(line.as_bytes()), Some(entry));
        }
    }
}
