//! Tests `store-client verify`, as a function and as a process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use journal::{Batch, Checksum};
use protocol::store::types::{Id, MessageCrc, StoredRecord};
use records::{Receipt, push_data, push_receipt};
use store_client::verify::{Finding, NamedFile, PlaceProblem, VerifyError, VerifyReport, verify};

use support::{client, ends_with, text};

const TIME: &str = "2026-11-21T09:30:00.123Z";

fn id(number: u64) -> Id {
    Id::from_parts(number, 1)
}

fn message(number: u64) -> String {
    format!("mensaje \"{number}\"\n")
}

/// Two datanodes that share the messages 1 to `count`, and a client with a receipt for each: odd ones are in datanode1.
struct FilesOnDisk {
    folder: tempfile::TempDir,
}

impl FilesOnDisk {
    fn new(count: u64) -> Self {
        let store = Self { folder: tempfile::tempdir().unwrap() };
        let mut receipts = Batch::new(Checksum::None);
        let mut data = [Batch::new(Checksum::Crc32c), Batch::new(Checksum::Crc32c)];
        for number in 1..=count {
            let (node, seq) = ((number + 1) % 2, number.div_ceil(2));
            push_data(&mut data[usize::try_from(node).unwrap()], &record(seq, number, &message(number)));
            push_receipt(&mut receipts, &receipt(number, &format!("datanode{}:{seq}", node + 1)));
        }
        store.write("cliente/registro_cliente.txt", receipts.as_bytes());
        store.write("datanode1/data.txt", data[0].as_bytes());
        store.write("datanode2/data.txt", data[1].as_bytes());
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn change(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        self.write(name, change(text).as_bytes());
    }

    fn append(&self, name: &str, record: &StoredRecord) {
        let mut batch = Batch::new(Checksum::Crc32c);
        push_data(&mut batch, record);
        self.change(name, |text| text + std::str::from_utf8(batch.as_bytes()).unwrap());
    }

    fn files(&self) -> Vec<NamedFile> {
        ["cliente/registro_cliente.txt", "datanode1/data.txt", "datanode2/data.txt"]
            .map(|name| named(&self.path(name)))
            .to_vec()
    }

    fn verify(&self) -> (VerifyReport, Vec<Finding>) {
        check(&self.files()).unwrap()
    }

    /// Returns the only finding: the line of the receipt, and what is wrong with its place.
    fn only_problem(&self) -> (u64, PlaceProblem) {
        let (report, findings) = self.verify();
        assert_eq!(report.problems, 1, "{findings:?}");
        let mut problems = findings.into_iter().filter_map(|finding| match finding {
            Finding::Problem { line, wrong, .. } => Some((line, wrong)),
            _ => None,
        });
        problems.next().unwrap()
    }

    fn run(&self, files: &[&str]) -> Output {
        client(self.folder.path()).current_dir(self.folder.path()).arg("verify").args(files).output().unwrap()
    }
}

fn named(path: &Path) -> NamedFile {
    NamedFile { datanode: None, path: path.to_owned() }
}

fn check(files: &[NamedFile]) -> Result<(VerifyReport, Vec<Finding>), VerifyError> {
    let mut findings = Vec::new();
    let report = verify(files, &mut |finding| findings.push(finding))?;
    Ok((report, findings))
}

fn record(seq: u64, number: u64, message: &str) -> StoredRecord {
    let client = "172.21.0.3:40522".parse().unwrap();
    StoredRecord { seq, time: TIME.to_owned(), id: id(number), client, message: message.to_owned() }
}

fn receipt(number: u64, places: &str) -> Receipt {
    Receipt {
        time: TIME.to_owned(),
        id: id(number),
        places: places.split(',').map(|place| place.parse().unwrap()).collect(),
        message_crc32c: MessageCrc::of(&message(number)),
        // An older client wrote every third receipt.
        text: (!number.is_multiple_of(3)).then(|| message(number)),
    }
}

#[test]
fn a_whole_store_passes() {
    let store = FilesOnDisk::new(1001);
    assert_eq!(store.verify(), (VerifyReport { receipts: 1001, places: 1001, problems: 0 }, vec![]));
    let files = ["cliente/registro_cliente.txt", "datanode1/data.txt", "datanode2/data.txt"];
    let output = store.run(&files);
    ends_with(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "1001 comprobantes, 1001 lugares: todo está\n");
    // In any order, and under another name that is told apart by what is in it.
    fs::rename(store.path("datanode2/data.txt"), store.path("copy")).unwrap();
    let output = store.run(&["datanode2=copy", "datanode1/data.txt", "cliente/registro_cliente.txt"]);
    ends_with(&output, 0, &[]);
}

#[test]
fn empty_files_are_what_their_names_say() {
    let store = FilesOnDisk::new(0);
    assert_eq!(store.verify(), (VerifyReport::default(), vec![]));
    let output = store.run(&["cliente/registro_cliente.txt", "datanode1/data.txt", "datanode2/data.txt"]);
    ends_with(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "0 comprobantes, 0 lugares: todo está\n");
}

#[test]
fn a_missing_record_is_found() {
    let store = FilesOnDisk::new(9);
    store.change("datanode1/data.txt", |text| {
        text.lines().filter(|line| !line.starts_with("3 ")).map(|line| format!("{line}\n")).collect()
    });
    assert_eq!(store.only_problem(), (5, PlaceProblem::Missing));
}

#[test]
fn a_damaged_record_is_found() {
    let store = FilesOnDisk::new(9);
    store.change("datanode1/data.txt", |text| text.replacen("mensaje \\\"5", "mensajE \\\"5", 1));
    let (line, wrong) = store.only_problem();
    assert!(line == 5 && matches!(wrong, PlaceProblem::Damaged { offset } if offset > 0), "{line} {wrong:?}");
    let (_, findings) = store.verify();
    assert!(findings.iter().any(|finding| matches!(finding, Finding::DamagedLine { .. })), "{findings:?}");
}

#[test]
fn every_flipped_bit_of_a_file_is_found() {
    let store = FilesOnDisk::new(2);
    let good = fs::read(store.path("datanode1/data.txt")).unwrap();
    for byte in 0..good.len() - 1 {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[byte] ^= 1 << bit;
            store.write("datanode1/data.txt", &bad);
            let (report, findings) = store.verify();
            assert_eq!(report.problems, 1, "byte {byte}, bit {bit}: {findings:?}");
        }
    }
}

#[test]
fn another_message_under_the_same_id_is_found() {
    let store = FilesOnDisk::new(3);
    let mut batch = Batch::new(Checksum::Crc32c);
    push_data(&mut batch, &record(1, 2, "otro"));
    store.write("datanode2/data.txt", batch.as_bytes());
    let (found, expected) = (MessageCrc::of("otro"), MessageCrc::of(&message(2)));
    assert_eq!(store.only_problem(), (2, PlaceProblem::Different { found, expected }));
}

#[test]
fn another_text_in_a_receipt_is_found() {
    let store = FilesOnDisk::new(3);
    store.change("cliente/registro_cliente.txt", |text| text.replacen("mensaje \\\"2", "mensajE \\\"2", 1));
    let (report, findings) = store.verify();
    assert_eq!(report, VerifyReport { receipts: 3, places: 3, problems: 1 });
    let (found, expected) = (MessageCrc::of("mensajE \"2\"\n"), MessageCrc::of(&message(2)));
    let file = store.path("cliente/registro_cliente.txt");
    assert_eq!(findings, [Finding::OtherText { file, line: 2, id: id(2), found, expected }]);
}

#[test]
fn duplicates_and_other_numbers_are_found() {
    let store = FilesOnDisk::new(3);
    store.append("datanode1/data.txt", &record(9, 3, &message(3)));
    assert_eq!(store.only_problem(), (3, PlaceProblem::Duplicate { seqs: vec![2, 9] }));

    let store = FilesOnDisk::new(3);
    store.write("datanode1/data.txt", b"");
    store.append("datanode1/data.txt", &record(1, 3, &message(3)));
    store.append("datanode1/data.txt", &record(8, 1, &message(1)));
    let (report, findings) = store.verify();
    assert_eq!(report.problems, 1, "a copy on the same datanode has a higher number: {findings:?}");
    assert!(matches!(findings[1], Finding::Problem { line: 3, wrong: PlaceProblem::Elsewhere { .. }, .. }));
}

#[test]
fn a_file_that_was_not_given_is_a_problem() {
    let store = FilesOnDisk::new(3);
    let output = store.run(&["cliente/registro_cliente.txt", "datanode1/data.txt"]);
    ends_with(&output, 1, &["1 problems were found"]);
    let expected = format!(
        "cliente/registro_cliente.txt:2: {} datanode2:1: sin revisar: no se dio el data.txt de este datanode\n\
         3 comprobantes, 3 lugares: problemas: 1\n",
        id(2)
    );
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn each_place_of_a_receipt_is_checked() {
    let store = FilesOnDisk::new(2);
    let mut batch = Batch::new(Checksum::None);
    push_receipt(&mut batch, &receipt(1, "datanode1:1,datanode2:5"));
    store.write("cliente/registro_cliente.txt", batch.as_bytes());
    assert_eq!(store.only_problem(), (1, PlaceProblem::Missing));
    store.append("datanode2/data.txt", &record(5, 1, &message(1)));
    assert_eq!(store.verify().0, VerifyReport { receipts: 1, places: 2, problems: 0 });
}

#[test]
fn torn_tails_are_told_and_lines_that_are_no_receipts_are_problems() {
    let store = FilesOnDisk::new(3);
    store.change("datanode1/data.txt", |text| text + "3 2026-11");
    store.change("cliente/registro_cliente.txt", |text| text + "2026-11");
    let (report, findings) = store.verify();
    assert_eq!(report.problems, 0, "{findings:?}");
    let torn = |finding: &Finding| matches!(finding, Finding::TornTail { bytes: 7 | 9, .. });
    assert!(findings.len() == 2 && findings.iter().all(torn), "{findings:?}");

    store.change("cliente/registro_cliente.txt", |text| text + " is no receipt\n");
    let (report, findings) = store.verify();
    assert_eq!((report.receipts, report.problems), (3, 1));
    assert!(findings.iter().any(|finding| matches!(finding, Finding::NoReceipt { line: 4, .. })));
}

#[test]
fn files_that_cannot_be_checked_are_named() {
    let store = FilesOnDisk::new(1);
    let receipts = "cliente/registro_cliente.txt";
    ends_with(&store.run(&["datanode1/data.txt"]), 1, &["no file with receipts"]);
    ends_with(&store.run(&[receipts, "nothing"]), 1, &["cannot read nothing", "No such file"]);
    ends_with(
        &store.run(&[receipts, "datanode1/data.txt", "datanode1=datanode2/data.txt"]),
        1,
        &["two files of datanode1"],
    );
    ends_with(&store.run(&["datanode1=cliente/registro_cliente.txt"]), 1, &["not the records of datanode1"]);
    store.write("a b/data.txt", b"");
    ends_with(&store.run(&[receipts, "a b/data.txt"]), 1, &["which datanode does a b/data.txt belong to"]);
    store.write("junk", b"junk\n");
    ends_with(&store.run(&[receipts, "junk"]), 1, &["junk holds neither receipts"]);
    ends_with(&store.run(&[]), 2, &["FILE"]);
}

#[test]
fn a_copy_that_was_made_since_is_no_problem() {
    let store = FilesOnDisk::new(9);
    store.change("datanode1/data.txt", |text| {
        text.lines().filter(|line| !line.starts_with("3 ")).map(|line| format!("{line}\n")).collect()
    });
    store.append("datanode2/data.txt", &record(5, 5, &message(5)));
    let (report, findings) = store.verify();
    assert_eq!(report, VerifyReport { receipts: 9, places: 9, problems: 0 });
    assert!(
        matches!(&findings[..], [Finding::Moved { line: 5, places, .. }] if places[0].seq == 5),
        "{findings:?}"
    );
    let output = store.run(&["cliente/registro_cliente.txt", "datanode1/data.txt", "datanode2/data.txt"]);
    ends_with(&output, 0, &[]);
    assert!(text(&output.stdout).contains("ahora está en datanode2:5"));
}

#[test]
fn the_line_with_the_fewest_places_tells_how_many_copies_there_have_to_be() {
    let store = FilesOnDisk::new(2);
    store.append("datanode1/data.txt", &record(9, 2, &message(2)));
    let files = ["cliente/registro_cliente.txt", "datanode1/data.txt"];
    let write = |lines: &[&str]| {
        let mut batch = Batch::new(Checksum::None);
        lines.iter().for_each(|places| push_receipt(&mut batch, &receipt(2, places)));
        store.write("cliente/registro_cliente.txt", batch.as_bytes());
    };
    // The message was at datanode2 only, and then at both: now that datanode2 is gone, there is still one copy.
    write(&["datanode2:1", "datanode2:1,datanode1:9"]);
    ends_with(&store.run(&files), 0, &[]);
    write(&["datanode1:9", "datanode1:9,datanode2:1"]);
    ends_with(&store.run(&files), 0, &[]);
    write(&["datanode2:1,datanode1:9"]);
    ends_with(&store.run(&files), 1, &["1 problems were found"]);
}
