//! Checks receipts against the files of the datanodes, without any server. The headnode's registry counts as receipts of
//! all messages.
//!
//! Each place of each receipt must hold, in the file of its datanode, an intact record with that number and that id,
//! the only one of that id there, whose message has the receipt's checksum. Anything else is a problem, also a datanode
//! whose file was not given: nobody has looked there. The text in a receipt must have the receipt's checksum too.
//!
//! Of a datanode's records no more is kept than id, number and checksum: 32 bytes each.

mod index;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use journal::Checksum;
use journal::record::verified;
use journal::scan::{Recovery, scan};
use protocol::store::client_api::RegistryEntry;
use protocol::store::types::{Id, MessageCrc, NodeName, Place};
use records::{DATA_FILE, RECEIPTS_FILE, REGISTRY_FILE, Receipt, parse_data_key, parse_entry, parse_receipt};
use text::Shown;

use index::Indexes;

const READ_BUFFER_BYTES: usize = 256 * 1024;
/// The most of a line that is looked at to tell what a file is.
const LINE_BYTES: u64 = 1024 * 1024;

/// A file to look at, and the datanode that it belongs to where that is said. Written `FILE` or `NAME=FILE`; a file
/// whose own name looks so is written `./NAME=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The datanode.
    pub datanode: Option<NodeName>,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for Named {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.split_once('=').and_then(|(name, path)| Some((name.parse().ok()?, path)));
        Ok(match named {
            Some((name, path)) => Self { datanode: Some(name), path: path.into() },
            None => Self { datanode: None, path: text.into() },
        })
    }
}

/// Files that cannot be checked: the cause and the way out.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The system refused.
    #[error("cannot read {}: {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
    /// It is something else.
    #[error(
        "{} holds neither receipts ({RECEIPTS_FILE} or {REGISTRY_FILE}) nor records of a datanode ({DATA_FILE})",
        .0.display()
    )]
    Neither(PathBuf),
    /// Nothing says which datanode it is.
    #[error("which datanode does {} belong to? Say so: NAME={}", .0.display(), .0.display())]
    Nameless(PathBuf),
    /// Receipts belong to no datanode.
    #[error("{} holds receipts, not the records of {datanode}: give it without a name", .path.display())]
    NotRecords {
        /// The file.
        path: PathBuf,
        /// The name that it was given.
        datanode: NodeName,
    },
    /// Two files claim to be of the same datanode.
    #[error("two files of {0} were given: name them apart, NAME=FILE, or leave one out")]
    Twice(NodeName),
    /// There is nothing to check.
    #[error("no file with receipts was given: give a {RECEIPTS_FILE} or the {REGISTRY_FILE}")]
    NoReceipts,
}

/// How the check went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Receipts that were read.
    pub receipts: u64,
    /// Places that they name.
    pub places: u64,
    /// Places and texts that are not as they should be, and lines that are no receipts.
    pub problems: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receipts, places, problems } = self;
        write!(f, "{receipts} comprobantes, {places} lugares: ")?;
        if *problems == 0 { f.write_str("todo está") } else { write!(f, "problemas: {problems}") }
    }
}

/// What was found on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A place is not as it should be.
    Problem {
        /// The file of the receipt.
        file: PathBuf,
        /// The receipt's line in it, from 1.
        line: u64,
        /// The message.
        id: Id,
        /// Where it should be.
        place: Place,
        /// What is wrong there.
        wrong: Wrong,
    },
    /// The text in a receipt is not that of its message.
    OtherText {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The message.
        id: Id,
        /// The checksum of the text.
        found: MessageCrc,
        /// The checksum in the receipt.
        expected: MessageCrc,
    },
    /// A line is no receipt, so what it vouched for is not checked.
    NoReceipt {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A line of a datanode's file is damaged. Not a problem by itself: it may belong to no receipt.
    DamagedLine {
        /// The file.
        file: PathBuf,
        /// Where the line starts, in bytes.
        offset: u64,
    },
    /// A file ends in half a line. Not a problem by itself: as a rule, it is of a write that was not acknowledged.
    TornTail {
        /// The file.
        file: PathBuf,
        /// Length of the half line.
        bytes: u64,
    },
}

/// What is wrong with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The datanode's file was not given.
    Unchecked,
    /// No record has the id.
    Missing,
    /// The record is there, and its checksum is wrong.
    Damaged {
        /// Where its line starts, in bytes.
        offset: u64,
    },
    /// The id is there, but in these records.
    Elsewhere {
        /// Their numbers.
        seqs: Vec<u64>,
    },
    /// More than one record has the id.
    Duplicate {
        /// Their numbers.
        seqs: Vec<u64>,
    },
    /// The record holds another message.
    Different {
        /// The checksum of that one.
        found: MessageCrc,
        /// The checksum in the receipt.
        expected: MessageCrc,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |seqs: &[u64]| seqs.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Unchecked => f.write_str("sin revisar: no se dio el data.txt de este datanode"),
            Self::Missing => f.write_str("falta: ningún registro tiene este id"),
            Self::Damaged { offset } => {
                write!(f, "dañado: su línea, en el byte {offset}, tiene una suma de verificación incorrecta")
            }
            Self::Elsewhere { seqs } => write!(f, "distinto: el id está en el registro {}", list(seqs)),
            Self::Duplicate { seqs } => write!(f, "duplicado: el id está en los registros {}", list(seqs)),
            Self::Different { found, expected } => {
                write!(f, "distinto: el mensaje de allí tiene message_crc32c {found}, no {expected}")
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |file: &Path| Shown(&file.to_string_lossy()).to_string();
        match self {
            Self::Problem { file, line, id, place, wrong } => {
                write!(f, "{}:{line}: {id} {place}: {wrong}", shown(file))
            }
            Self::OtherText { file, line, id, found, expected } => write!(
                f,
                "{}:{line}: {id}: distinto: el texto de este comprobante tiene message_crc32c {found}, no {expected}",
                shown(file)
            ),
            Self::NoReceipt { file, line } => {
                write!(f, "{}:{line}: ilegible: esta línea no es un comprobante", shown(file))
            }
            Self::DamagedLine { file, offset } => {
                write!(f, "nota: {}: línea dañada en el byte {offset}", shown(file))
            }
            Self::TornTail { file, bytes } => {
                write!(f, "nota: {}: termina en media línea de {bytes} bytes", shown(file))
            }
        }
    }
}

/// Checks the receipts in `files` against the records in `files`, and tells `tell` each finding.
///
/// # Errors
/// [`VerifyError`], if the files cannot be checked at all.
pub fn verify(files: &[Named], tell: &mut dyn FnMut(Finding)) -> Result<Report, VerifyError> {
    let mut indexes = Indexes::default();
    let mut receipts = Vec::new();
    for Named { datanode, path } in files {
        match (kind_of(path)?, datanode) {
            (Kind::Records, _) => {
                let name = datanode.clone().or_else(|| folder_name(path));
                let name = name.ok_or_else(|| VerifyError::Nameless(path.clone()))?;
                indexes.add(name, path, tell)?;
            }
            (Kind::Receipts, None) => receipts.push((path, Checksum::None)),
            (Kind::Registry, None) => receipts.push((path, Checksum::Crc32c)),
            (Kind::Receipts | Kind::Registry, Some(datanode)) => {
                return Err(VerifyError::NotRecords { path: path.clone(), datanode: datanode.clone() });
            }
        }
    }
    if receipts.is_empty() {
        return Err(VerifyError::NoReceipts);
    }
    let mut report = Report::default();
    for (path, checksum) in receipts {
        check_receipts(path, checksum, &indexes, &mut report, tell)?;
    }
    Ok(report)
}

/// Checks `files` and prints each finding and the summary.
///
/// # Errors
/// If the files cannot be checked, or the findings not be printed.
pub fn print(files: &[Named]) -> anyhow::Result<Report> {
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

fn check_receipts(
    path: &Path,
    checksum: Checksum,
    indexes: &Indexes,
    report: &mut Report,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), VerifyError> {
    let parse = |line: &[u8]| match checksum {
        Checksum::None => parse_receipt(std::str::from_utf8(line).ok()?),
        Checksum::Crc32c => {
            let RegistryEntry { time, id, places, message_crc32c, .. } = parse_entry(line)?;
            Some(Receipt { time, id, places, message_crc32c, text: None })
        }
    };
    let mut number = 0;
    let recovery = read(path, checksum, |_, line| {
        number += 1;
        let Some(Receipt { id, places, message_crc32c, text, .. }) = parse(line) else {
            report.problems += 1;
            return tell(Finding::NoReceipt { file: path.to_owned(), line: number });
        };
        report.receipts += 1;
        if let Some(found) = text.map(|text| MessageCrc::of(&text)).filter(|found| *found != message_crc32c) {
            report.problems += 1;
            let (file, expected) = (path.to_owned(), message_crc32c);
            tell(Finding::OtherText { file, line: number, id, found, expected });
        }
        for place in places {
            report.places += 1;
            if let Err(wrong) = indexes.check(&place, id, message_crc32c) {
                report.problems += 1;
                tell(Finding::Problem { file: path.to_owned(), line: number, id, place, wrong });
            }
        }
    })?;
    tell_tail(path, &recovery, tell);
    Ok(())
}

fn tell_tail(path: &Path, recovery: &Recovery, tell: &mut dyn FnMut(Finding)) {
    if recovery.torn_bytes > 0 {
        tell(Finding::TornTail { file: path.to_owned(), bytes: recovery.torn_bytes });
    }
}

fn read(path: &Path, checksum: Checksum, visit: impl FnMut(u64, &[u8])) -> Result<Recovery, VerifyError> {
    let unreadable = |cause| VerifyError::Unreadable { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    scan(BufReader::with_capacity(READ_BUFFER_BYTES, file), checksum, visit).map_err(unreadable)
}

enum Kind {
    /// Of a client: `registro_cliente.txt`.
    Receipts,
    /// Of the headnode, as good as receipts: `registro_server.txt`.
    Registry,
    Records,
}

/// What a file is: by the first line that can be read, or else by its name.
fn kind_of(path: &Path) -> Result<Kind, VerifyError> {
    let by_line = || {
        let mut file = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
        let mut line = Vec::new();
        while file.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
            let whole = line.strip_suffix(b"\n").unwrap_or(&line);
            if std::str::from_utf8(whole).is_ok_and(|line| parse_receipt(line).is_some()) {
                return Ok(Some(Kind::Receipts));
            }
            if verified(whole, Checksum::Crc32c).and_then(parse_entry).is_some() {
                return Ok(Some(Kind::Registry));
            }
            if parse_data_key(whole).is_some() {
                return Ok(Some(Kind::Records));
            }
            line.clear();
        }
        Ok(None)
    };
    let unreadable = |cause| VerifyError::Unreadable { path: path.to_owned(), cause };
    if let Some(kind) = by_line().map_err(unreadable)? {
        return Ok(kind);
    }
    match path.file_name().and_then(|name| name.to_str()) {
        Some(RECEIPTS_FILE) => Ok(Kind::Receipts),
        Some(REGISTRY_FILE) => Ok(Kind::Registry),
        Some(DATA_FILE) => Ok(Kind::Records),
        _ => Err(VerifyError::Neither(path.to_owned())),
    }
}

/// The name of the folder that `path` is in.
fn folder_name(path: &Path) -> Option<NodeName> {
    let folder = path.canonicalize().ok()?.parent()?.file_name()?.to_str()?.to_owned();
    folder.parse().ok()
}
