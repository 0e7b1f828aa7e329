//! Tests that damaged sectors of a running datanode are found and repaired.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use testkit::wait_for;

use crate::processes::StoreProcesses;
use crate::{check_all_are_read, patient, put_many, verify, wait_until_healthy};

const SECTOR: u64 = 512;

/// Zeroes, flips and swaps sectors of a file, and returns how many.
fn damage(file: &File) -> u64 {
    let sectors = file.metadata().unwrap().len() / SECTOR;
    let read = |number: u64| {
        let mut sector = [0; SECTOR as usize];
        file.read_exact_at(&mut sector, number * SECTOR).unwrap();
        sector
    };
    let write = |number: u64, bytes: &[u8]| file.write_all_at(bytes, number * SECTOR).unwrap();
    let mut damaged = 0;
    for number in (1..sectors - 1).step_by(6) {
        match number % 3 {
            0 => write(number, &[0; SECTOR as usize]),
            1 => {
                let mut sector = read(number);
                sector[77] ^= 1;
                write(number, &sector);
            }
            _ => {
                let (one, other) = (read(number), read(number + 1));
                write(number, &other);
                write(number + 1, &one);
            }
        }
        damaged += 1;
    }
    damaged
}

#[test]
fn damaged_sectors_are_found_and_repaired_and_no_wrong_byte_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreProcesses::start(folder.path(), patient("2"));
    let messages = put_many(&store, 400);
    let path = folder.path().join("datanode2/data.txt");
    let file = File::options().read(true).write(true).open(path).unwrap();
    assert!(damage(&file) > 5);
    // Clients are served from the good copies from the first moment on.
    check_all_are_read(&store, &messages);
    let found = "records of data.txt were damaged: they are not held any more";
    store.datanodes[1].logged(found);
    wait_for("the damage to be repaired", || verify(&store, &[1, 2, 3]).0);
    wait_until_healthy(&store, 400);
    check_all_are_read(&store, &messages);
    let (well, printed) = verify(&store, &[1, 2, 3]);
    assert!(well && printed.contains("línea dañada") && printed.contains("ahora está en"), "{printed}");
}
