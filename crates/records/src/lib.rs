//! The lines of Actividad 2's files, written and read back.
//!
//! | file | a line | closed by a checksum |
//! | --- | --- | --- |
//! | `data.txt` | `17 2026-11-21T09:30:00.123Z 01K… 172.21.0.3:40522 "Hola" crc32c=…` | yes |
//! | `registro_server.txt` | `2026-11-21T09:30:00.124Z 01K… 172.21.0.3:40522 datanode2:17 message_crc32c=bfaac1a4 crc32c=…` | yes |
//! | `registro_cliente.txt` | `2026-11-21T09:30:00.125Z 01K… datanode2:17 message_crc32c=bfaac1a4` | no |
//!
//! `01K…` is the message's id; `datanode2:17` says that record 17 of datanode2's `data.txt` holds it (several places are
//! joined by commas); `message_crc32c` is the CRC-32C of the message's bytes. If a retry landed on another datanode,
//! the registry has a later line of the same id, with all places.

use journal::record::{Batch, fields};
use protocol::store::Entry;
use protocol::types::{Id, MessageCrc, Place, Record};

/// The file of a datanode.
pub const DATA_FILE: &str = "data.txt";
/// The file of the headnode: where each message is.
pub const REGISTRY_FILE: &str = "registro_server.txt";
/// The file of the headnode: who answered. The assignment spells it so.
pub const HEARTBEAT_FILE: &str = "hearbeat_server.txt";
/// The file of the client.
pub const RECEIPTS_FILE: &str = "registro_cliente.txt";

const CRC_KEY: &str = "message_crc32c=";

/// What a client keeps: where its message is, to be checked later without the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// When it was recorded: RFC 3339, UTC.
    pub time: String,
    /// The message's identifier.
    pub id: Id,
    /// Where it is on disk.
    pub places: Vec<Place>,
    /// Checksum of the message.
    pub message_crc32c: MessageCrc,
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

/// Adds a line of `data.txt`.
pub fn push_data(batch: &mut Batch, record: &Record) {
    batch.push(|line| {
        line.word(record.seq).word(&record.time).word(record.id).word(record.client).text(&record.message);
    });
}

/// Reads a line of `data.txt`, its checksum already cut off.
#[must_use]
pub fn parse_data(line: &str) -> Option<Record> {
    let [seq, time, id, client, message] = fields(line)?.try_into().ok()?;
    Some(Record {
        seq: seq.parse().ok()?,
        time,
        id: Id::from_string(&id).ok()?,
        client: client.parse().ok()?,
        message,
    })
}

/// The number and the identifier in a line of `data.txt`, without reading the rest.
#[must_use]
pub fn parse_data_key(line: &[u8]) -> Option<(u64, Id)> {
    let mut words = line.splitn(4, |byte| *byte == b' ').map(std::str::from_utf8);
    let seq = words.next()?.ok()?.parse().ok()?;
    let id = words.nth(1)?.ok()?;
    Some((seq, Id::from_string(id).ok()?))
}

/// Adds a line of `registro_server.txt`.
pub fn push_entry(batch: &mut Batch, entry: &Entry) {
    batch.push(|line| {
        line.word(&entry.time).word(entry.id).word(entry.client);
        line.word(join(&entry.places)).word(format_args!("{CRC_KEY}{}", entry.message_crc32c));
    });
}

/// Reads a line of `registro_server.txt`, its checksum already cut off.
#[must_use]
pub fn parse_entry(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let entry = Entry {
        time: words.next()?.to_owned(),
        id: Id::from_string(words.next()?).ok()?,
        client: words.next()?.parse().ok()?,
        places: parse_places(words.next()?)?,
        message_crc32c: parse_crc(words.next()?)?,
    };
    words.next().is_none().then_some(entry)
}

/// Adds a line of `registro_cliente.txt`.
pub fn push_receipt(batch: &mut Batch, receipt: &Receipt) {
    batch.push(|line| {
        line.word(&receipt.time).word(receipt.id).word(join(&receipt.places));
        line.word(format_args!("{CRC_KEY}{}", receipt.message_crc32c));
    });
}

/// Reads a line of `registro_cliente.txt`.
#[must_use]
pub fn parse_receipt(line: &str) -> Option<Receipt> {
    let mut words = line.split(' ');
    let receipt = Receipt {
        time: words.next()?.to_owned(),
        id: Id::from_string(words.next()?).ok()?,
        places: parse_places(words.next()?)?,
        message_crc32c: parse_crc(words.next()?)?,
    };
    words.next().is_none().then_some(receipt)
}

#[cfg(test)]
mod tests {
    use journal::record::Checksum;
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2026-11-21T09:30:00.123Z";
    const ID: &str = "00000000010000000000000002";

    fn written(write: impl FnOnce(&mut Batch)) -> String {
        let mut batch = Batch::new(Checksum::None);
        write(&mut batch);
        let line = String::from_utf8(batch.as_bytes().to_vec()).unwrap();
        line.strip_suffix('\n').unwrap().to_owned()
    }

    fn data(message: &str) -> Record {
        let client = "172.21.0.3:40522".parse().unwrap();
        Record {
            seq: 17,
            time: TIME.to_owned(),
            id: Id::from_parts(1, 2),
            client,
            message: message.to_owned(),
        }
    }

    fn places(text: &str) -> Vec<Place> {
        parse_places(text).unwrap()
    }

    #[test]
    fn golden_lines() {
        let record = data("Hola\n");
        let line = written(|batch| push_data(batch, &record));
        assert_eq!(line, format!(r#"17 {TIME} {ID} 172.21.0.3:40522 "Hola\n""#));
        assert_eq!(parse_data(&line), Some(record));
        assert_eq!(parse_data_key(line.as_bytes()), Some((17, Id::from_parts(1, 2))));

        let crc = MessageCrc::of("Hola");
        let entry = Entry {
            time: TIME.to_owned(),
            id: Id::from_parts(1, 2),
            client: "172.21.0.3:40522".parse().unwrap(),
            places: places("datanode2:17,datanode3:4"),
            message_crc32c: crc,
        };
        let line = written(|batch| push_entry(batch, &entry));
        let expected =
            format!("{TIME} {ID} 172.21.0.3:40522 datanode2:17,datanode3:4 message_crc32c=bfaac1a4");
        assert_eq!(line, expected);
        assert_eq!(parse_entry(line.as_bytes()), Some(entry));

        let receipt = Receipt {
            time: TIME.to_owned(),
            id: Id::from_parts(1, 2),
            places: places("datanode2:17"),
            message_crc32c: crc,
        };
        let line = written(|batch| push_receipt(batch, &receipt));
        assert_eq!(line, format!("{TIME} {ID} datanode2:17 message_crc32c=bfaac1a4"));
        assert_eq!(parse_receipt(&line), Some(receipt));
    }

    #[test]
    fn other_lines_are_not_taken() {
        for line in ["", "x", "17 a b c \"d\"", &format!("{TIME} {ID} datanode2 message_crc32c=bfaac1a4")] {
            assert_eq!(parse_data(line), None, "{line}");
            assert_eq!(parse_entry(line.as_bytes()), None, "{line}");
            assert_eq!(parse_receipt(line), None, "{line}");
        }
        assert_eq!(parse_receipt(&format!("{TIME} {ID} datanode2:1 message_crc32c=bfaac1a4 more")), None);
    }

    proptest! {
        #[test]
        fn any_message_comes_back(message in any::<String>()) {
            let record = data(&message);
            let line = written(|batch| push_data(batch, &record));
            prop_assert_eq!(parse_data_key(line.as_bytes()), Some((17, record.id)));
            prop_assert_eq!(parse_data(&line), Some(record));
        }
    }
}
