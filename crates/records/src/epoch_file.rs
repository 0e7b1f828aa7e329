//! The file that keeps an epoch: that of the headnode that leads, on a datanode, or on a headnode its own.
//!
//! | line | meaning |
//! | --- | --- |
//! | `epoch 3:01JD… crc32c=…` | the highest epoch that this program has met |
//! | `epoch 3:01JD… own crc32c=…` | the same, and this headnode has taken it |
//!
//! The file has one line. It is replaced as a whole, so that it holds either the old or the new epoch, whatever happens.

use std::io;
use std::path::{Path, PathBuf};

use journal::disk::{Disk, replace};
use journal::plants::{Plant, is_planted};
use journal::record::{Batch, fields};
use journal::scan::scan;
use journal::{Checksum, WriteFailure};
use protocol::store::types::Epoch;

const EPOCH: &str = "epoch";
const OWN: &str = "own";

/// The content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptEpoch {
    /// The highest epoch that the program has met.
    pub epoch: Epoch,
    /// Whether the program is the headnode that has taken it.
    pub is_own: bool,
}

/// The file and its content.
#[derive(Debug)]
pub struct EpochFile {
    disk: Disk,
    path: PathBuf,
    kept: Option<KeptEpoch>,
}

impl EpochFile {
    /// Reads the file, if there is one. A damaged file counts as none, and that is logged: the program then waits for
    /// somebody to tell it the epoch. The caller also opens a journal in the same folder, which syncs the file's name.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn open(disk: &Disk, path: PathBuf) -> io::Result<Self> {
        let bytes = match disk.read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut kept = None;
        if let Some(bytes) = bytes {
            scan(&bytes[..], Checksum::Crc32c, |_, line| kept = parse(line))?;
            if kept.is_none() {
                tracing::error!(path = %path.display(), "the file of the epoch is damaged: it counts as missing");
            }
        }
        Ok(Self { disk: disk.clone(), path, kept })
    }

    /// Returns what the file holds.
    #[must_use]
    pub fn kept(&self) -> Option<KeptEpoch> {
        self.kept
    }

    /// Returns the epoch in the file.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.kept.map(|kept| kept.epoch)
    }

    /// Replaces the content of the file, and waits until that is on disk.
    ///
    /// # Errors
    /// Fails with [`WriteFailure::NoSpace`], after which the file holds what it held, or with [`WriteFailure::Fatal`],
    /// after which it may hold either.
    pub fn keep(&mut self, kept: KeptEpoch) -> Result<(), WriteFailure> {
        if self.kept == Some(kept) {
            return Ok(());
        }
        let mut batch = Batch::new(Checksum::Crc32c);
        batch.push(|line| {
            line.word(EPOCH).word(kept.epoch);
            if kept.is_own {
                line.word(OWN);
            }
        });
        let is_synced = !is_planted(Plant::EpochNotSynced);
        replace(&self.disk, &self.path, batch.as_bytes(), is_synced)
            .map_err(|cause| WriteFailure::of("replace", &self.path, cause))?;
        self.kept = Some(kept);
        Ok(())
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn parse(line: &[u8]) -> Option<KeptEpoch> {
    let fields = fields(std::str::from_utf8(line).ok()?)?;
    let fields: Vec<_> = fields.iter().map(String::as_str).collect();
    let (epoch, is_own) = match fields[..] {
        [EPOCH, epoch] => (epoch, false),
        [EPOCH, epoch, OWN] => (epoch, true),
        _ => return None,
    };
    Some(KeptEpoch { epoch: epoch.parse().ok()?, is_own })
}

#[cfg(test)]
mod tests {
    use protocol::store::types::Incarnation;

    use super::*;

    #[test]
    fn an_epoch_is_there_after_a_restart_and_a_damaged_one_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let open = || EpochFile::open(&Disk::default(), folder.path().join("x.epoch")).unwrap();
        assert_eq!(open().kept(), None);
        let first = Epoch::after(None, Incarnation::from_parts(1, 2));
        let second = Epoch::after(Some(first), Incarnation::from_parts(1, 2));
        for (epoch, is_own) in [(first, true), (second, false)] {
            let kept = KeptEpoch { epoch, is_own };
            open().keep(kept).unwrap();
            assert_eq!(open().kept(), Some(kept));
        }
        let text = std::fs::read_to_string(open().path()).unwrap();
        assert!(text.starts_with("epoch 2:00000000010000000000000002 crc32c="), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        for damaged in [text.replace("epoch 2", "epoch 3"), text.trim_end().to_owned(), String::new()] {
            std::fs::write(open().path(), &damaged).unwrap();
            assert_eq!(open().kept(), None, "{damaged:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EpochFile::open(&Disk::default(), folder.path().join("missing/x.epoch")).unwrap();
        let epoch = Epoch::after(None, Incarnation::from_parts(1, 2));
        let failure = file.keep(KeptEpoch { epoch, is_own: true }).unwrap_err();
        assert!(failure.to_string().contains("x.epoch"), "{failure}");
        assert_eq!(file.kept(), None);
    }
}
