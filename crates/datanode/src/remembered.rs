//! The file `datanode.journal`: what this datanode must remember besides its messages.
//!
//! | line | meaning |
//! | --- | --- |
//! | `peer datanode2 crc32c=…` | a headnode has known a datanode of this name |
//! | `next 18 crc32c=…` | no number below 18 may be assigned any more |
//!
//! The names survive the loss of the headnode's registry. A headnode that starts without a registry learns from any
//! datanode which other datanodes it has to ask before it may say that a message does not exist. The numbers survive
//! the loss of a record that had one of them.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;

use anyhow::ensure;
use journal::{Batch, Checksum, JournalFile, WriteFailure, record};
use protocol::store::types::NodeName;

/// The name of the file, which is in the same folder as `data.txt`.
pub const REMEMBERED_FILE: &str = "datanode.journal";
/// The highest number of names that are remembered. Further names are ignored.
const MAX_PEERS: usize = 100_000;

const PEER: &str = "peer";
const NEXT: &str = "next";

/// The open file and its contents.
#[derive(Debug)]
pub struct Remembered {
    file: JournalFile,
    peers: BTreeSet<NodeName>,
    next_seq: u64,
}

impl Remembered {
    /// Opens or creates the file in `folder`. Damaged lines are skipped, because headnodes send their content again.
    ///
    /// # Errors
    /// Fails if the file cannot be used, or if it holds anything other than a datanode's lines.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(REMEMBERED_FILE);
        let (mut peers, mut next_seq, mut unknown_lines) = (BTreeSet::new(), 1, 0u64);
        let (file, recovery) = JournalFile::open_verified(&path, |_, line| {
            let fields = std::str::from_utf8(line).ok().and_then(record::fields).unwrap_or_default();
            match (fields.first().map(String::as_str), fields.get(1)) {
                (Some(PEER), Some(name)) => peers.extend(name.parse::<NodeName>()),
                (Some(NEXT), Some(seq)) => next_seq = seq.parse().unwrap_or(0).max(next_seq),
                _ => unknown_lines += 1,
            }
        })?;
        let shown = path.display();
        ensure!(
            unknown_lines == 0,
            "{shown} holds {unknown_lines} lines that are not a datanode's: choose another --data-dir"
        );
        if !recovery.damaged.is_empty() {
            tracing::warn!(path = %shown, damaged = recovery.damaged.len(), "damaged lines were skipped");
        }
        Ok(Self { file, peers, next_seq })
    }

    /// Returns the lowest number that may be assigned according to this file.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Writes that no number below `next_seq` may be assigned, and waits until that is on disk.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`] if the line cannot be written.
    pub fn reserve(&mut self, next_seq: u64) -> Result<(), WriteFailure> {
        if next_seq > self.next_seq {
            self.append(|batch| {
                batch.push(|line| {
                    line.word(NEXT).word(next_seq);
                });
            })?;
            self.next_seq = next_seq;
        }
        Ok(())
    }

    /// Adds the names of datanodes, and waits until they are on disk.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`] if the names cannot be written. None of them is remembered then.
    pub fn remember(&mut self, names: Vec<NodeName>) -> Result<(), WriteFailure> {
        let room = MAX_PEERS.saturating_sub(self.peers.len());
        let news: BTreeSet<_> =
            names.into_iter().filter(|name| !self.peers.contains(name)).take(room).collect();
        self.append(|batch| {
            for name in &news {
                batch.push(|line| {
                    line.word(PEER).word(name);
                });
            }
        })?;
        self.peers.extend(news);
        Ok(())
    }

    /// Returns up to `most` of the names behind `after`, in order, and whether there are more.
    pub fn peers_after(&self, after: Option<&NodeName>, most: usize) -> (Vec<NodeName>, bool) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut names = self.peers.range::<NodeName, _>((start, Bound::Unbounded));
        let page = names.by_ref().take(most).cloned().collect();
        (page, names.next().is_some())
    }

    fn append(&mut self, write: impl FnOnce(&mut Batch)) -> Result<(), WriteFailure> {
        let mut batch = Batch::new(Checksum::Crc32c);
        write(&mut batch);
        if !batch.is_empty() {
            self.file.commit(batch.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<NodeName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn names_and_numbers_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut remembered = Remembered::open(folder.path()).unwrap();
        assert_eq!((remembered.next_seq(), remembered.peers_after(None, 9)), (1, (vec![], false)));
        remembered.remember(names(&["c", "a", "b"])).unwrap();
        remembered.remember(names(&["b", "a"])).unwrap();
        remembered.reserve(18).unwrap();
        remembered.reserve(7).unwrap();
        drop(remembered);
        let lines = std::fs::read_to_string(folder.path().join(REMEMBERED_FILE)).unwrap();
        assert_eq!(lines.lines().count(), 4, "nothing is written twice: {lines}");
        let remembered = Remembered::open(folder.path()).unwrap();
        assert_eq!(remembered.next_seq(), 18);
        assert_eq!(remembered.peers_after(None, 2), (names(&["a", "b"]), true));
        assert_eq!(remembered.peers_after(Some(&names(&["b"])[0]), 2), (names(&["c"]), false));
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut batch = Batch::new(Checksum::Crc32c);
        batch.push(|line| {
            line.text("of something else");
        });
        std::fs::write(folder.path().join(REMEMBERED_FILE), batch.as_bytes()).unwrap();
        assert!(Remembered::open(folder.path()).unwrap_err().to_string().contains("not a datanode's"));
    }
}
