//! Pieces of a result that wait to be read: in memory while they are few, in a file when they are many.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

/// What one spool keeps in memory. What is more goes to its file.
const IN_MEMORY: usize = 16 << 20;

/// Takes pieces.
pub(crate) struct Spool {
    folder: PathBuf,
    pieces: Vec<Bytes>,
    in_memory: usize,
    file: Option<File>,
    lengths: Vec<usize>,
}

impl Spool {
    /// Begins an empty spool. Its file, where it needs one, is made in `folder` and has no name, so that it is gone
    /// with the program.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), pieces: Vec::new(), in_memory: 0, file: None, lengths: Vec::new() }
    }

    /// The number of pieces.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len() + self.lengths.len()
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn push(&mut self, piece: Bytes) -> io::Result<()> {
        if self.file.is_none() && self.in_memory + piece.len() <= IN_MEMORY {
            self.in_memory += piece.len();
            self.pieces.push(piece);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.folder)?),
        };
        file.write_all(&piece)?;
        self.lengths.push(piece.len());
        Ok(())
    }

    /// Reads the pieces in their order.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(crate) fn into_reader(mut self) -> io::Result<SpoolReader> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
        }
        Ok(SpoolReader {
            pieces: self.pieces.into_iter(),
            file: self.file,
            lengths: self.lengths.into_iter(),
        })
    }
}

/// Gives the pieces of a spool.
pub(crate) struct SpoolReader {
    pieces: std::vec::IntoIter<Bytes>,
    file: Option<File>,
    lengths: std::vec::IntoIter<usize>,
}

impl Iterator for SpoolReader {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(piece) = self.pieces.next() {
            return Some(Ok(piece));
        }
        let length = self.lengths.next()?;
        let file = self.file.as_mut().expect("lengths are kept of pieces in the file alone");
        let mut piece = BytesMut::zeroed(length);
        Some(file.read_exact(&mut piece).map(|()| piece.freeze()))
    }
}
