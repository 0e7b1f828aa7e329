use std::collections::BTreeSet;

use journal::{Disk, JournalFile, Recovery, WriteFailure};

use super::*;
use crate::disk::DiskFaults;
use crate::machine::Death;

const PATH: &str = "/store/data/data.txt";

fn machine(seed: u64) -> Machine {
    Machine::new(seed, DiskFaults::default(), None)
}

fn open(machine: &Machine) -> Result<(JournalFile, Recovery), journal::OpenError> {
    JournalFile::open_on(&Disk::new(SimulatedFiles::of(machine)), Path::new(PATH))
}

/// Returns the content of the file, if it has a name.
fn content(machine: &Machine) -> Option<String> {
    let contents = machine.lock().disk.contents();
    contents.get(Path::new(PATH)).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn cut_power(machine: &Machine) {
    machine.die(Death::Power);
    machine.start();
}

#[test]
fn a_power_cut_leaves_what_was_synced_and_any_part_of_the_rest() {
    let synced = format!("{}\n", "a".repeat(700));
    let unsynced = format!("{}\n", "b".repeat(1_500));
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let machine = machine(seed);
        let mut file = open(&machine).unwrap().0;
        file.commit(synced.as_bytes()).unwrap();
        file.write(unsynced.as_bytes()).unwrap();
        drop(file);
        cut_power(&machine);
        let left = content(&machine).unwrap();
        assert!(left.starts_with(&synced), "seed {seed}: what was synced is there");
        assert!(left.len() <= synced.len() + unsynced.len());
        seen.insert(left);
    }
    let whole = format!("{synced}{unsynced}");
    assert!(seen.contains(&synced) && seen.contains(&whole), "nothing and everything");
    assert!(seen.iter().any(|left| left.contains("\0b")), "a sector without the one in front of it");
    assert!(seen.iter().any(|left| left.contains("b\0")), "a sector without the one behind it");
}

#[test]
fn names_are_lost_unless_their_folder_is_synced() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let machine = machine(seed);
        let disk = Disk::new(SimulatedFiles::of(&machine));
        disk.create_folder(Path::new("/store")).unwrap();
        disk.sync_folder(Path::new("/")).unwrap();
        for name in ["/store/one", "/store/two"] {
            disk.open(Path::new(name), Access::Append).unwrap();
        }
        cut_power(&machine);
        seen.insert(["/store/one", "/store/two"].map(|name| disk.exists(Path::new(name))));
    }
    assert_eq!(seen.len(), 4, "each name for itself: {seen:?}");
}

#[test]
fn folders_that_an_earlier_process_did_not_sync_are_synced() {
    for seed in 0..50 {
        let machine = machine(seed);
        machine.lock().faults.names = 1.0;
        let disk = Disk::new(SimulatedFiles::of(&machine));
        disk.create_folder(Path::new("/store/data")).unwrap();
        open(&machine).unwrap_err();
        machine.lock().faults.names = 0.0;
        open(&machine).unwrap().0.commit(b"acknowledged\n").unwrap();
        cut_power(&machine);
        assert_eq!(content(&machine).as_deref(), Some("acknowledged\n"), "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_left_in_memory_is_not_believed_by_the_next_process() {
    let (mut believed, mut lost) = (0, 0);
    for seed in 0..50 {
        let machine = machine(seed);
        let mut file = open(&machine).unwrap().0;
        machine.lock().faults.sync = 1.0;
        assert!(matches!(file.commit(b"not acknowledged\n"), Err(WriteFailure::Fatal { .. })));
        machine.lock().faults.sync = 0.0;
        drop(file);
        open(&machine).unwrap();
        let before = content(&machine).unwrap();
        cut_power(&machine);
        let after = content(&machine).unwrap();
        assert_eq!(before, after, "seed {seed}: the next process has read what was not on disk");
        believed += u32::from(before.contains("acknowledged"));
        lost += u32::from(!before.contains("acknowledged"));
    }
    assert!(believed > 0 && lost > 0, "{believed} written all the same, {lost} not");
}

#[test]
fn a_full_disk_takes_a_part_of_a_write_and_gives_room_back() {
    let machine = machine(1);
    let mut file = open(&machine).unwrap().0;
    machine.lock().faults.space = Some(10);
    file.commit(b"first\n").unwrap();
    assert!(matches!(file.commit(b"second\n"), Err(WriteFailure::NoSpace(_))));
    assert!(machine.marks().contains_key("disk: space was left for a part of a write"));
    assert_eq!(content(&machine).as_deref(), Some("first\n"));
    file.commit(b"3rd\n").unwrap();
}

#[test]
fn a_machine_that_died_in_the_middle_of_a_write_does_nothing_more() {
    let machine = Machine::new(1, DiskFaults::default(), None);
    let mut file = open(&machine).unwrap().0;
    machine.die(Death::Process);
    assert!(matches!(file.commit(b"late\n"), Err(WriteFailure::Fatal { .. })));
    machine.start();
    assert_eq!(content(&machine).as_deref(), Some(""));
}
