//! The files that are checked: which they are, what they hold, and how they are read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use journal::Checksum;
use journal::record::verified;
use journal::scan::{Recovery, scan};
use protocol::store::types::NodeName;
use records::{DATA_FILE, RECEIPTS_FILE, REGISTRY_FILE, parse_data_key, parse_entry, parse_receipt};

use super::finding::Finding;

const READ_BUFFER_BYTES: usize = 256 * 1024;
/// The most bytes of a line that are read to tell what a file is.
const LINE_BYTES: u64 = 1024 * 1024;

/// A file to check, and the datanode that it belongs to if the user names it. The user writes `FILE` or `NAME=FILE`, and
/// `./NAME=FILE` for a file that is itself called so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    pub datanode: Option<NodeName>,
    pub path: PathBuf,
}

impl FromStr for NamedFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.split_once('=').and_then(|(name, path)| Some((name.parse().ok()?, path)));
        Ok(match named {
            Some((name, path)) => Self { datanode: Some(name), path: path.into() },
            None => Self { datanode: None, path: text.into() },
        })
    }
}

/// Says why files cannot be checked: the cause and the way out.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The system cannot read the file.
    #[error("cannot read {}: {cause}", .path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    /// The file holds something else.
    #[error(
        "{} holds neither receipts ({RECEIPTS_FILE} or {REGISTRY_FILE}) nor records of a datanode ({DATA_FILE})",
        .0.display()
    )]
    Neither(PathBuf),
    /// Nothing says which datanode the file belongs to.
    #[error("which datanode does {} belong to? Say so: NAME={}", .0.display(), .0.display())]
    Nameless(PathBuf),
    /// Receipts belong to no datanode.
    #[error("{} holds receipts, not the records of {datanode}: give it without a name", .path.display())]
    NotRecords { path: PathBuf, datanode: NodeName },
    /// Two files claim to be of the same datanode.
    #[error("two files of {0} were given: name them apart, NAME=FILE, or leave one out")]
    Twice(NodeName),
    /// No file holds receipts.
    #[error("no file with receipts was given: give a {RECEIPTS_FILE} or the {REGISTRY_FILE}")]
    NoReceipts,
}

/// Tells of half a line at the end of a file, if there is one.
pub fn tell_tail(path: &Path, recovery: &Recovery, tell: &mut dyn FnMut(Finding)) {
    if recovery.torn_bytes > 0 {
        tell(Finding::TornTail { file: path.to_owned(), bytes: recovery.torn_bytes });
    }
}

/// Calls `visit` with the start of each line, in bytes, and the line without its checksum.
///
/// # Errors
/// [`VerifyError::Unreadable`].
pub fn read(path: &Path, checksum: Checksum, visit: impl FnMut(u64, &[u8])) -> Result<Recovery, VerifyError> {
    let unreadable = |cause| VerifyError::Unreadable { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    scan(BufReader::with_capacity(READ_BUFFER_BYTES, file), checksum, visit).map_err(unreadable)
}

/// What a file holds.
pub enum FileKind {
    /// Receipts of a client: `registro_cliente.txt`.
    Receipts,
    /// The headnode's registry, as good as receipts: `registro_server.txt`.
    Registry,
    /// Records of a datanode: `data.txt`.
    Records,
}

/// Returns what a file holds, as its first readable line tells, or else its name.
///
/// # Errors
/// If the file cannot be read, or holds something else.
pub fn kind_of(path: &Path) -> Result<FileKind, VerifyError> {
    let by_line = || {
        let mut file = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
        let mut line = Vec::new();
        while file.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
            let whole = line.strip_suffix(b"\n").unwrap_or(&line);
            if std::str::from_utf8(whole).is_ok_and(|line| parse_receipt(line).is_some()) {
                return Ok(Some(FileKind::Receipts));
            }
            if verified(whole, Checksum::Crc32c).and_then(parse_entry).is_some() {
                return Ok(Some(FileKind::Registry));
            }
            if parse_data_key(whole).is_some() {
                return Ok(Some(FileKind::Records));
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
        Some(RECEIPTS_FILE) => Ok(FileKind::Receipts),
        Some(REGISTRY_FILE) => Ok(FileKind::Registry),
        Some(DATA_FILE) => Ok(FileKind::Records),
        _ => Err(VerifyError::Neither(path.to_owned())),
    }
}

/// Returns the name of the folder that `path` is in, if a datanode may have it.
pub fn folder_name(path: &Path) -> Option<NodeName> {
    let folder = path.canonicalize().ok()?.parent()?.file_name()?.to_str()?.to_owned();
    folder.parse().ok()
}
