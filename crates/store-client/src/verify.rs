//! Checks receipts against the files of the datanodes, without any server. The headnode's registry counts as receipts of
//! all messages.
//!
//! The file of a datanode must hold, for each place of each receipt, an intact record with that number and that id, the
//! only one with that id, whose message has the receipt's checksum. Anything else is a problem; so is a datanode whose file
//! was not given, since nobody has looked there. It is none if as many other datanodes hold the message, because the
//! headnode copies messages when datanodes are lost, drained or damaged. Of several lines of the registry about one message,
//! that with the fewest places tells how many copies there have to be: a later one also has those that were made since. The
//! text in a receipt must have the receipt's checksum too.
//!
//! The check keeps no more of a record than id, number and checksum: 32 bytes.

mod file;
mod finding;
mod index;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use journal::Checksum;
use protocol::store::client_api::RegistryEntry;
use protocol::store::types::{Id, MessageCrc, Place};
use records::{Receipt, parse_entry, parse_receipt};

use file::{FileKind, folder_name, kind_of, read, tell_tail};
use index::Indexes;

pub use file::{NamedFile, VerifyError};
pub use finding::{Finding, PlaceProblem};

/// Counts what was checked and what is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub receipts: u64,
    /// Places that the receipts name.
    pub places: u64,
    /// Places and texts that are wrong, and lines that are no receipts.
    pub problems: u64,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receipts, places, problems } = self;
        write!(f, "{receipts} comprobantes, {places} lugares: ")?;
        if *problems == 0 { f.write_str("todo está") } else { write!(f, "problemas: {problems}") }
    }
}

/// Checks the receipts in `files` against the records in `files`, and gives each finding to `tell`.
///
/// # Errors
/// [`VerifyError`], if the files cannot be checked at all.
pub fn verify(files: &[NamedFile], tell: &mut dyn FnMut(Finding)) -> Result<VerifyReport, VerifyError> {
    let mut indexes = Indexes::default();
    let mut receipts = Vec::new();
    for NamedFile { datanode, path } in files {
        match (kind_of(path)?, datanode) {
            (FileKind::Records, _) => {
                let name = datanode.clone().or_else(|| folder_name(path));
                let name = name.ok_or_else(|| VerifyError::Nameless(path.clone()))?;
                indexes.add(name, path, tell)?;
            }
            (FileKind::Receipts, None) => receipts.push((path, Checksum::None)),
            (FileKind::Registry, None) => receipts.push((path, Checksum::Crc32c)),
            (FileKind::Receipts | FileKind::Registry, Some(datanode)) => {
                return Err(VerifyError::NotRecords { path: path.clone(), datanode: datanode.clone() });
            }
        }
    }
    if receipts.is_empty() {
        return Err(VerifyError::NoReceipts);
    }
    let mut report = VerifyReport::default();
    for (path, checksum) in receipts {
        check_receipts(path, checksum, &indexes, &mut report, tell)?;
    }
    Ok(report)
}

/// Checks `files` and prints each finding and the summary.
///
/// # Errors
/// If the files cannot be checked, or the findings cannot be printed.
pub fn print(files: &[NamedFile]) -> anyhow::Result<VerifyReport> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut printed = Ok(());
    let report = verify(files, &mut |finding| {
        if printed.is_ok() {
            printed = writeln!(stdout, "{finding}");
        }
    })?;
    printed
        .and_then(|()| writeln!(stdout, "{report}"))
        .and_then(|()| stdout.flush())
        .context("cannot print")?;
    Ok(report)
}

fn parse(checksum: Checksum, line: &[u8]) -> Option<Receipt> {
    match checksum {
        Checksum::None => parse_receipt(std::str::from_utf8(line).ok()?),
        Checksum::Crc32c => {
            let RegistryEntry { time, id, places, message_crc32c, .. } = parse_entry(line)?;
            Some(Receipt { time, id, places, message_crc32c, text: None })
        }
    }
}

/// Returns the messages that are not at every place where a line says that they are. Each gets, line by line, the number of
/// copies that there have to be: the fewest places of a line so far.
fn not_as_told(
    path: &Path,
    checksum: Checksum,
    indexes: &Indexes,
) -> Result<HashMap<Id, usize>, VerifyError> {
    let mut messages = HashMap::new();
    read(path, checksum, |_, line| {
        let Some(Receipt { id, places, message_crc32c, .. }) = parse(checksum, line) else { return };
        if places.iter().any(|place| indexes.check(place, id, message_crc32c).is_err()) {
            messages.insert(id, usize::MAX);
        }
    })?;
    Ok(messages)
}

fn check_receipts(
    path: &Path,
    checksum: Checksum,
    indexes: &Indexes,
    report: &mut VerifyReport,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), VerifyError> {
    let mut wanted = not_as_told(path, checksum, indexes)?;
    let mut number = 0;
    let recovery = read(path, checksum, |_, line| {
        number += 1;
        let Some(Receipt { id, places, message_crc32c, text, .. }) = parse(checksum, line) else {
            report.problems += 1;
            return tell(Finding::NoReceipt { file: path.to_owned(), line: number });
        };
        report.receipts += 1;
        if let Some(found) = text.map(|text| MessageCrc::of(&text)).filter(|found| *found != message_crc32c) {
            report.problems += 1;
            let (file, expected) = (path.to_owned(), message_crc32c);
            tell(Finding::OtherText { file, line: number, id, found, expected });
        }
        report.places += places.len() as u64;
        let problems = |place: &Place| indexes.check(place, id, message_crc32c).err();
        let wrong: Vec<_> =
            places.iter().filter_map(|place| Some((place.clone(), problems(place)?))).collect();
        let intact = if wrong.is_empty() { Vec::new() } else { indexes.intact(id, message_crc32c, &places) };
        let fewest = wanted.get_mut(&id).map(|fewest| {
            *fewest = places.len().min(*fewest);
            *fewest
        });
        if !wrong.is_empty() && fewest.is_some_and(|fewest| intact.len() >= fewest) {
            return tell(Finding::Moved { file: path.to_owned(), line: number, id, places: intact });
        }
        for (place, wrong) in wrong {
            report.problems += 1;
            tell(Finding::Problem { file: path.to_owned(), line: number, id, place, wrong });
        }
    })?;
    tell_tail(path, &recovery, tell);
    Ok(())
}
