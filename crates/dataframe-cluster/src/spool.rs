//! Pieces of a result that wait to be read: in memory while they are few, in a file when they are many.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
    on_disk: Arc<AtomicU64>,
}

impl SpoolRoom {
    /// A room whose spools make their files in `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder: folder.into(), in_memory: Arc::default(), on_disk: Arc::default() }
    }

    /// The bytes in the files of all spools.
    pub(crate) fn on_disk(&self) -> u64 {
        self.on_disk.load(Ordering::Relaxed)
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

/// A piece that is kept.
struct KeptPiece {
    /// Which stream it belongs to, where the result has several.
    stream: Option<u32>,
    place: PiecePlace,
}

enum PiecePlace {
    Memory(Bytes, #[expect(dead_code, reason = "it gives the memory back when it is dropped")] TakenRoom),
    File { start: u64, length: usize },
}

impl KeptPiece {
    fn length(&self) -> usize {
        match &self.place {
            PiecePlace::Memory(piece, _) => piece.len(),
            PiecePlace::File { length, .. } => *length,
        }
    }
}

/// Takes pieces.
pub(crate) struct Spool {
    room: SpoolRoom,
    pieces: Vec<KeptPiece>,
    in_memory: usize,
    file: Option<File>,
    in_file: u64,
}

impl Spool {
    /// Begins an empty spool. Its file, where it needs one, is made in the folder of the room and has no name, so that it is
    /// gone with the program.
    pub(crate) fn new(room: &SpoolRoom) -> Self {
        Self { room: room.clone(), pieces: Vec::new(), in_memory: 0, file: None, in_file: 0 }
    }

    /// The number of pieces.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether the pieces belong to several streams; `None` while there are none.
    pub(crate) fn is_split(&self) -> Option<bool> {
        self.pieces.first().map(|piece| piece.stream.is_some())
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn push(&mut self, stream: Option<u32>, piece: Bytes) -> io::Result<()> {
        if self.file.is_none()
            && self.in_memory + piece.len() <= IN_MEMORY
            && let Some(taken) = self.room.take(piece.len())
        {
            self.in_memory += piece.len();
            self.pieces.push(KeptPiece { stream, place: PiecePlace::Memory(piece, taken) });
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.room.folder)?),
        };
        let (start, length) = (self.in_file, piece.len());
        file.write_all_at(&piece, start)?;
        self.in_file += length as u64;
        self.room.on_disk.fetch_add(length as u64, Ordering::Relaxed);
        self.pieces.push(KeptPiece { stream, place: PiecePlace::File { start, length } });
        Ok(())
    }

    /// The numbers of the pieces of one stream, in their order.
    pub(crate) fn pieces_of(&self, stream: u32) -> impl Iterator<Item = usize> {
        let is_of =
            move |(number, piece): (usize, &KeptPiece)| (piece.stream == Some(stream)).then_some(number);
        self.pieces.iter().enumerate().filter_map(is_of)
    }

    /// Adds the bytes of each stream to those at its place.
    pub(crate) fn add_bytes(&self, streams: &mut [u64]) {
        for piece in &self.pieces {
            let place = piece.stream.and_then(|stream| streams.get_mut(stream as usize));
            if let Some(bytes) = place {
                *bytes += piece.length() as u64;
            }
        }
    }

    /// Reads a piece, which stays where it is.
    ///
    /// # Errors
    /// Fails if there is no such piece or the file cannot be read.
    pub(crate) fn read(&self, number: usize) -> io::Result<Bytes> {
        match self.pieces.get(number).map(|piece| &piece.place) {
            Some(PiecePlace::Memory(piece, _)) => Ok(piece.clone()),
            Some(PiecePlace::File { start, length }) => read_at(self.file.as_ref(), *start, *length),
            None => Err(io::Error::other(format!("there is no piece {number}"))),
        }
    }

    /// Reads the pieces in their order, and frees their memory on the way.
    pub(crate) fn into_reader(mut self) -> SpoolReader {
        SpoolReader { pieces: std::mem::take(&mut self.pieces).into_iter(), spool: self }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.room.on_disk.fetch_sub(self.in_file, Ordering::Relaxed);
    }
}

fn read_at(file: Option<&File>, start: u64, length: usize) -> io::Result<Bytes> {
    let file = file.ok_or_else(|| io::Error::other("the file of the pieces is missing"))?;
    let mut piece = BytesMut::zeroed(length);
    file.read_exact_at(&mut piece, start)?;
    Ok(piece.freeze())
}

/// Gives the pieces of a spool.
pub(crate) struct SpoolReader {
    pieces: std::vec::IntoIter<KeptPiece>,
    spool: Spool,
}

impl Iterator for SpoolReader {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        Some(match self.pieces.next()?.place {
            PiecePlace::Memory(piece, _) => Ok(piece),
            PiecePlace::File { start, length } => read_at(self.spool.file.as_ref(), start, length),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let room = SpoolRoom::new(folder.path().to_owned());
        let mut spool = Spool::new(&room);
        assert_eq!(spool.is_split(), None);
        let piece = |number: usize| Bytes::from(vec![number as u8; 5 << 20]);
        for number in 0..8 {
            spool.push(Some(number as u32 % 2), piece(number)).unwrap();
        }
        assert_eq!((spool.len(), spool.is_split()), (8, Some(true)));
        assert_eq!(room.on_disk(), 25 << 20, "three pieces are in memory");
        assert_eq!(spool.pieces_of(1).collect::<Vec<_>>(), [1, 3, 5, 7]);
        assert!(spool.pieces_of(1).all(|number| spool.read(number).unwrap() == piece(number)));
        assert!(spool.read(8).is_err());
        let mut bytes = [0; 2];
        spool.add_bytes(&mut bytes);
        assert_eq!(bytes, [20 << 20, 20 << 20]);
        for (number, read) in spool.into_reader().enumerate() {
            assert_eq!(read.unwrap(), piece(number));
        }
        assert_eq!((room.on_disk(), room.in_memory.load(Ordering::Relaxed)), (0, 0));
    }
}
