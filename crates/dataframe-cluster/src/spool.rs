//! Pieces of a result that wait to be read: in memory while they are few, in a file when they are many.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

/// What one spool keeps in memory. What is more goes to its file.
const IN_MEMORY: usize = 16 << 20;

/// What all spools of a room keep in memory together.
const ALL_IN_MEMORY: usize = 256 << 20;

/// The memory and the folder of many spools.
#[derive(Clone)]
pub(crate) struct SpoolRoom {
    folder: Arc<Path>,
    in_memory: Arc<AtomicUsize>,
}

impl SpoolRoom {
    /// A room whose spools make their files in `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder: folder.into(), in_memory: Arc::default() }
    }

    fn take(&self, bytes: usize) -> Option<TakenRoom> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= ALL_IN_MEMORY);
        self.in_memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(TakenRoom { bytes, in_memory: Arc::clone(&self.in_memory) })
    }
}

/// Memory that a piece takes. Dropping gives it back.
struct TakenRoom {
    bytes: usize,
    in_memory: Arc<AtomicUsize>,
}

impl Drop for TakenRoom {
    fn drop(&mut self) {
        self.in_memory.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes pieces.
pub(crate) struct Spool {
    room: SpoolRoom,
    pieces: Vec<(Bytes, TakenRoom)>,
    in_memory: usize,
    file: Option<File>,
    lengths: Vec<usize>,
}

impl Spool {
    /// Begins an empty spool. Its file, where it needs one, is made in the folder of the room and has no name, so that it is
    /// gone with the program.
    pub(crate) fn new(room: &SpoolRoom) -> Self {
        Self { room: room.clone(), pieces: Vec::new(), in_memory: 0, file: None, lengths: Vec::new() }
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
        if self.file.is_none()
            && self.in_memory + piece.len() <= IN_MEMORY
            && let Some(taken) = self.room.take(piece.len())
        {
            self.in_memory += piece.len();
            self.pieces.push((piece, taken));
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.room.folder)?),
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
    pieces: std::vec::IntoIter<(Bytes, TakenRoom)>,
    file: Option<File>,
    lengths: std::vec::IntoIter<usize>,
}

impl Iterator for SpoolReader {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some((piece, _)) = self.pieces.next() {
            return Some(Ok(piece));
        }
        let length = self.lengths.next()?;
        let file = self.file.as_mut().expect("lengths are kept of pieces in the file alone");
        let mut piece = BytesMut::zeroed(length);
        Some(file.read_exact(&mut piece).map(|()| piece.freeze()))
    }
}
