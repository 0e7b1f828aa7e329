//! Checks what has to hold of the files of a store, whatever has happened to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal::Checksum;
use journal::scan::scan;
use protocol::store::types::{Id, MessageCrc, Place, StoredRecord};
use records::{DATA_FILE, REGISTRY_FILE, parse_data, parse_entry};

use crate::faults::FaultPlan;
use crate::history::History;
use crate::layout::{DATANODES, FOLDER, HEADNODE};

/// The files of each machine by the names of the machines.
pub type MachineFiles = BTreeMap<&'static str, BTreeMap<PathBuf, Vec<u8>>>;

/// Checks the files, and returns how many messages are on more datanodes than were wanted. `leader` is the headnode that
/// leads.
pub fn check(
    files: &MachineFiles,
    plan: &FaultPlan,
    leader: Option<&'static str>,
    history: &mut History,
) -> u64 {
    let mut held: BTreeMap<Id, BTreeSet<Place>> = BTreeMap::new();
    for name in DATANODES {
        let records = correct_lines(files, name, DATA_FILE);
        let records = records.iter().map(|line| std::str::from_utf8(line).ok().and_then(parse_data));
        let records =
            records.map(|record| record.unwrap_or_else(|| panic!("{name} holds a line that is no record")));
        check_records(name, records, plan, history, &mut held);
    }
    for told in &history.acknowledgements {
        let is_held = |place: &&Place| held.get(&told.id).is_some_and(|places| places.contains(place));
        let intact = told.places.iter().filter(is_held).count();
        if told.is_final && plan.recovers() && !plan.late_damage {
            assert!(
                intact >= plan.replicas,
                "{told:?} after all faults, and it is at {:?}",
                held.get(&told.id)
            );
        }
        let lacking =
            told.places.iter().find(|place| !plan.is_bad(place.datanode.as_str()) && !is_held(place));
        assert_eq!(lacking, None, "{told:?}, but it is at {:?}", held.get(&told.id));
        let is_lost = !held.contains_key(&told.id);
        let counts = |place: &&Place| history.drained.as_ref() != Some(&place.datanode);
        let copies = held.get(&told.id).map_or(0, |places| places.iter().filter(counts).count());
        if let Some(called_lost) = &history.called_lost {
            let is_enough = copies >= plan.replicas || called_lost.contains(&told.id);
            // Where a registry may lack lines, a message can be lost of which nobody knows any more.
            let is_unknown = is_lost && !plan.tells_losses();
            assert!(
                is_enough || is_unknown,
                "{} has {copies} copies, and the store says that all is well",
                told.id
            );
        }
        assert!(!(is_lost && plan.loses_nothing()), "{told:?}, and it is nowhere");
        if is_lost {
            *history
                .marks
                .entry("store: an acknowledged message is lost, and nobody hides it")
                .or_default() += 1;
        }
    }
    if plan.recovers() {
        match leader {
            Some(leader) if !plan.is_bad(leader) => {
                check_registry(&correct_lines(files, leader, REGISTRY_FILE), plan, history, &held);
            }
            // The note of a bad disk may be damaged.
            leader => assert!(plan.is_bad(HEADNODE), "{leader:?} leads a store that has recovered"),
        }
    }
    held.values().filter(|places| places.len() > plan.replicas).count() as u64
}

/// Checks that every record that a client has read was written so, to the byte.
pub fn check_reads(datanode: &str, written: &[u8], history: &History) {
    let mut records = BTreeMap::<Id, Vec<StoredRecord>>::new();
    let visit = |_, line: &[u8]| {
        if let Some(record) = std::str::from_utf8(line).ok().and_then(parse_data) {
            records.entry(record.id).or_default().push(record);
        }
    };
    scan(written, Checksum::Crc32c, visit).expect("bytes in memory can be read");
    for (_, read) in history.reads.iter().filter(|(from, _)| from.as_str() == datanode) {
        let is_written = records.get(&read.id).is_some_and(|written| written.contains(read));
        assert!(is_written, "{read:?} was read from {datanode}, which has never written that");
    }
}

fn check_records(
    name: &str,
    records: impl Iterator<Item = StoredRecord>,
    plan: &FaultPlan,
    history: &mut History,
    held: &mut BTreeMap<Id, BTreeSet<Place>>,
) {
    let mut numbers = BTreeSet::new();
    for record in records {
        let sent = history.messages.get(&record.id).map(|message| &message.text);
        assert_eq!(sent, Some(&record.message), "{name} holds {}, which nobody has sent so", record.id);
        let place = Place { datanode: name.parse().expect("the name of a datanode"), seq: record.seq };
        history.names(&place, record.id);
        let of_message = held.entry(record.id).or_default();
        if !plan.is_bad(name) {
            assert!(numbers.insert(record.seq), "{name} has number {} twice", record.seq);
            let other = of_message.iter().find(|other| other.datanode == place.datanode);
            assert_eq!(other, None, "{name} holds {} twice", record.id);
        }
        of_message.insert(place);
    }
}

/// Checks that the registry tells what the datanodes with good disks hold, and nothing else of them.
fn check_registry(
    lines: &[Vec<u8>],
    plan: &FaultPlan,
    history: &History,
    held: &BTreeMap<Id, BTreeSet<Place>>,
) {
    let entries =
        lines.iter().map(|line| parse_entry(line).expect("a correct line of the registry is an entry"));
    let mut registry = BTreeMap::new();
    for entry in entries {
        let sent = history.messages.get(&entry.id).map(|message| MessageCrc::of(&message.text));
        assert_eq!(
            sent,
            Some(entry.message_crc32c),
            "the registry has {}, which nobody has sent so",
            entry.id
        );
        registry.insert(entry.id, entry.places);
    }
    let good = |places: &mut dyn Iterator<Item = &Place>| -> BTreeSet<Place> {
        places.filter(|place| !plan.is_bad(place.datanode.as_str())).cloned().collect()
    };
    let ids: BTreeSet<_> = registry.keys().chain(held.keys()).copied().collect();
    for id in ids {
        let registered = good(&mut registry.get(&id).into_iter().flatten());
        let holding = good(&mut held.get(&id).into_iter().flatten());
        assert_eq!(registered, holding, "{id} in the registry, and on the datanodes");
    }
}

/// Returns the lines of a file whose checksums are correct.
fn correct_lines(files: &MachineFiles, machine: &str, name: &str) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    if let Some(bytes) = files[machine].get(&Path::new(FOLDER).join(name)) {
        scan(&bytes[..], Checksum::Crc32c, |_, line| lines.push(line.to_vec()))
            .expect("bytes in memory can be read");
    }
    lines
}
