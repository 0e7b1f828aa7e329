//! Checks what has to hold of a store's files, whatever has happened to the store.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal::{Checksum, scan};
use protocol::store::types::{Id, MessageCrc, Place, StoredRecord, beginning};
use records::{Receipt, parse_data, parse_entry};

/// The files that the programs left on their disks.
pub struct StoreFiles {
    data: BTreeMap<String, Vec<StoredRecord>>,
    /// The datanodes whose file ended in half a record when they were killed. The number of that record stays unused.
    torn: BTreeSet<String>,
    /// The places in the newest line of each message.
    registry: BTreeMap<Id, BTreeSet<Place>>,
    /// The beginning of each message in the registry.
    beginnings: BTreeMap<Id, Option<String>>,
}

impl StoreFiles {
    /// Reads the files from the folders of the datanodes and the headnode in `folder`.
    pub fn read(folder: &Path) -> Self {
        let lines = |path: PathBuf| {
            let mut lines = Vec::new();
            let recovery = scan::scan(&std::fs::read(&path).unwrap()[..], Checksum::Crc32c, |_, line| {
                lines.push(line.to_vec());
            });
            assert_eq!(recovery.unwrap().damaged, [], "{}", path.display());
            lines
        };
        let data = ["datanode1", "datanode2", "datanode3"].into_iter().map(|name| {
            let lines = lines(folder.join(name).join("data.txt"));
            let records = lines.iter().map(|line| parse_data(std::str::from_utf8(line).unwrap()).unwrap());
            (name.to_owned(), records.collect())
        });
        let data = data.collect();
        let is_torn = |name: &&str| journal::torn_tails_of(&folder.join(name).join("data.txt")).exists();
        let torn =
            ["datanode1", "datanode2", "datanode3"].into_iter().filter(is_torn).map(str::to_owned).collect();
        let registry = lines(folder.join("headnode").join("registro_server.txt"));
        let entries: Vec<_> = registry.iter().map(|line| parse_entry(line).unwrap()).collect();
        let beginnings = entries.iter().map(|entry| (entry.id, entry.beginning.clone())).collect();
        let places = entries.into_iter().map(|entry| (entry.id, entry.places.into_iter().collect()));
        Self { data, torn, registry: places.collect(), beginnings }
    }

    /// Returns the messages on all datanodes and their identifiers, one for each text.
    pub fn messages(&self) -> BTreeMap<String, Id> {
        let mut messages = BTreeMap::new();
        for record in self.data.values().flatten() {
            let other = messages.insert(record.message.clone(), record.id);
            assert!(other.is_none_or(|other| other == record.id), "{:?} has two identifiers", record.message);
        }
        messages
    }

    /// Checks that what was acknowledged is where its receipt says, once on each datanode and byte for byte, that nothing
    /// else is anywhere, and that the registry tells just that. Returns how many messages are on more datanodes than were
    /// wanted.
    pub fn check(&self, sent: &BTreeMap<Id, String>, saved: &[Receipt], replicas: usize) -> u64 {
        let mut places: BTreeMap<Id, BTreeSet<Place>> = BTreeMap::new();
        for (name, records) in &self.data {
            let mut last = 0;
            for record in records {
                let seq = record.seq;
                let follows = if self.torn.contains(name) { seq > last } else { seq == last + 1 };
                assert!(follows, "{name}: numbers go up by one, and {seq} follows {last}");
                last = seq;
                assert_eq!(sent.get(&record.id), Some(&record.message), "{name}: never sent, or changed");
                let place = Place { datanode: name.parse().unwrap(), seq };
                let of_message = places.entry(record.id).or_default();
                assert!(
                    of_message.iter().all(|other| other.datanode != place.datanode),
                    "{name} holds {} twice",
                    record.id
                );
                of_message.insert(place);
            }
        }
        for receipt in saved {
            assert_eq!(receipt.message_crc32c, MessageCrc::of(&sent[&receipt.id]));
            assert_eq!(receipt.text.as_ref(), Some(&sent[&receipt.id]));
            let named: BTreeSet<_> = receipt.places.iter().cloned().collect();
            assert!(named.len() >= replicas, "{receipt:?}");
            assert!(
                named.is_subset(&places[&receipt.id]),
                "{receipt:?}, but it is at {:?}",
                places[&receipt.id]
            );
        }
        assert_eq!(self.registry, places, "the registry does not agree with the datanodes");
        for (id, registered) in &self.beginnings {
            assert_eq!(registered.as_ref(), Some(&beginning(&sent[id])), "{id} in the registry");
        }
        places.values().filter(|of_message| of_message.len() > replicas).count() as u64
    }
}
