//! The files `datanode.journal` and `headnode.journal`: what a server of the store must remember besides messages.
//!
//! | line | meaning | who writes it |
//! | --- | --- | --- |
//! | `peer datanode2 crc32c=…` | there is, or was, a datanode of this name | headnode, datanode |
//! | `next 18 crc32c=…` | no number below 18 may be assigned any more | datanode |
//! | `drain yes crc32c=…` | an operator drains this datanode; `no` takes it back | datanode |
//! | `forget datanode2 crc32c=…` | an operator has declared this datanode lost | headnode |
//! | `keep datanode2 crc32c=…` | it is not lost | headnode |
//!
//! A headnode whose registry may lack lines has to ask all these datanodes before it may say that a message does not
//! exist. It writes a name before it uses the datanode, because the lines of its registry are not synced. The datanodes
//! keep the names too, so that they survive the loss of the headnode's disk. The numbers survive the loss of a record
//! that had one of them. That a datanode is drained is its own to remember, because every headnode has to know it before it
//! stores anything there.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;

use anyhow::ensure;
use journal::{Batch, Checksum, Disk, JournalFile, WriteFailure, record};
use protocol::store::types::NodeName;

/// The highest number of names that are remembered. Further names are ignored.
const MAX_PEERS: usize = 100_000;

const PEER: &str = "peer";
const NEXT: &str = "next";
const FORGET: &str = "forget";
const KEEP: &str = "keep";
const DRAIN: &str = "drain";
const YES: &str = "yes";
const NO: &str = "no";

/// The open file and its contents.
#[derive(Debug)]
pub struct Remembered {
    file: JournalFile,
    peers: BTreeSet<NodeName>,
    next_seq: u64,
    is_draining: bool,
    forgotten: BTreeSet<NodeName>,
}

impl Remembered {
    /// Opens or creates the file. Damaged lines are skipped: the others tell the names again.
    ///
    /// # Errors
    /// Fails if the file cannot be used, or if it holds any other lines.
    pub fn open(disk: &Disk, path: &Path) -> anyhow::Result<Self> {
        let (mut peers, mut forgotten) = (BTreeSet::new(), BTreeSet::new());
        let (mut next_seq, mut is_draining, mut unknown_lines) = (1, false, 0u64);
        let (file, recovery) = JournalFile::open_verified_on(disk, path, |_, line| {
            let fields = std::str::from_utf8(line).ok().and_then(record::fields).unwrap_or_default();
            let [word, value] = &fields[..] else { return unknown_lines += 1 };
            match (word.as_str(), value.as_str()) {
                (PEER, name) => peers.extend(name.parse::<NodeName>()),
                (FORGET, name) => forgotten.extend(name.parse::<NodeName>()),
                (KEEP, name) => forgotten.retain(|one: &NodeName| one.as_str() != name),
                (NEXT, seq) => next_seq = seq.parse().unwrap_or(0).max(next_seq),
                (DRAIN, YES) => is_draining = true,
                (DRAIN, NO) => is_draining = false,
                _ => unknown_lines += 1,
            }
        })?;
        let shown = path.display();
        ensure!(
            unknown_lines == 0,
            "{shown} holds {unknown_lines} lines of another program: choose another --data-dir"
        );
        if !recovery.damaged.is_empty() {
            tracing::warn!(
                path = %shown,
                damaged = recovery.damaged.len(),
                "damaged lines were skipped: what operators have decided may have to be said again"
            );
        }
        Ok(Self { file, peers, next_seq, is_draining, forgotten })
    }

    /// Returns the lowest number that may be assigned according to this file.
    #[must_use]
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

    /// Returns whether an operator drains this datanode.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Writes whether an operator drains this datanode, and waits until that is on disk.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`] if the line cannot be written.
    pub fn set_draining(&mut self, on: bool) -> Result<(), WriteFailure> {
        if on != self.is_draining {
            self.append(|batch| {
                batch.push(|line| {
                    line.word(DRAIN).word(if on { YES } else { NO });
                });
            })?;
            self.is_draining = on;
        }
        Ok(())
    }

    /// Returns the datanodes that are declared lost, in order.
    pub fn forgotten(&self) -> impl Iterator<Item = &NodeName> {
        self.forgotten.iter()
    }

    /// Writes whether a datanode is declared lost, and waits until that is on disk.
    ///
    /// # Errors
    /// Fails with a [`WriteFailure`] if the line cannot be written.
    pub fn set_forgotten(&mut self, name: &NodeName, on: bool) -> Result<(), WriteFailure> {
        if on != self.forgotten.contains(name) {
            self.append(|batch| {
                batch.push(|line| {
                    line.word(if on { FORGET } else { KEEP }).word(name);
                });
            })?;
            if on {
                self.forgotten.insert(name.clone());
            } else {
                self.forgotten.remove(name);
            }
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

    /// Returns all names, in order.
    pub fn peers(&self) -> impl Iterator<Item = &NodeName> {
        self.peers.iter()
    }

    /// Returns up to `most` of the names behind `after`, in order, and whether there are more.
    #[must_use]
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
    use crate::{DATANODE_JOURNAL, HEADNODE_JOURNAL};

    fn names(texts: &[&str]) -> Vec<NodeName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_remembered_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DATANODE_JOURNAL);
        let mut remembered = Remembered::open(&Disk::default(), &path).unwrap();
        assert_eq!((remembered.next_seq(), remembered.peers_after(None, 9)), (1, (vec![], false)));
        remembered.remember(names(&["c", "a", "b"])).unwrap();
        remembered.remember(names(&["b", "a"])).unwrap();
        remembered.reserve(18).unwrap();
        remembered.reserve(7).unwrap();
        assert!(!remembered.is_draining());
        remembered.set_draining(true).unwrap();
        remembered.set_draining(true).unwrap();
        drop(remembered);
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 5, "nothing is written twice: {lines}");
        let mut remembered = Remembered::open(&Disk::default(), &path).unwrap();
        assert_eq!((remembered.next_seq(), remembered.is_draining()), (18, true));
        assert_eq!(remembered.peers_after(None, 2), (names(&["a", "b"]), true));
        assert_eq!(remembered.peers_after(Some(&names(&["b"])[0]), 2), (names(&["c"]), false));
        remembered.set_draining(false).unwrap();
        drop(remembered);
        assert!(!Remembered::open(&Disk::default(), &path).unwrap().is_draining());
    }

    #[test]
    fn datanodes_are_declared_lost_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(HEADNODE_JOURNAL);
        let mut remembered = Remembered::open(&Disk::default(), &path).unwrap();
        for (name, on) in [("a", true), ("b", true), ("b", true), ("a", false), ("c", false)] {
            remembered.set_forgotten(&names(&[name])[0], on).unwrap();
        }
        drop(remembered);
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 3, "nothing is written twice: {lines}");
        assert!(lines.starts_with("forget a crc32c="), "{lines}");
        let remembered = Remembered::open(&Disk::default(), &path).unwrap();
        assert_eq!(remembered.forgotten().collect::<Vec<_>>(), [&names(&["b"])[0]]);
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DATANODE_JOURNAL);
        let mut batch = Batch::new(Checksum::Crc32c);
        batch.push(|line| {
            line.text("of something else");
        });
        std::fs::write(&path, batch.as_bytes()).unwrap();
        assert!(
            Remembered::open(&Disk::default(), &path).unwrap_err().to_string().contains("of another program")
        );
    }
}
