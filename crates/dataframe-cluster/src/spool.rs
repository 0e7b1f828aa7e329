//! Pieces of a result that wait to be read: in memory while they are few, in a file when they are many.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use nix::sys::statvfs::statvfs;

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
    /// What the files of all spools may take together.
    limit: u64,
}

impl SpoolRoom {
    /// A room whose spools make their files in `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder: folder.into(), in_memory: Arc::default(), on_disk: Arc::default(), limit: u64::MAX }
    }

    /// The same room with a limit for the files of all spools together.
    pub(crate) fn limited(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// The bytes in the files of all spools.
    pub(crate) fn on_disk(&self) -> u64 {
        self.on_disk.load(Ordering::Relaxed)
    }

    /// The bytes that all spools keep in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.in_memory.load(Ordering::Relaxed)
    }

    /// The disk of the files; `None` if the operating system does not tell.
    pub(crate) fn disk(&self) -> Option<SpoolDisk> {
        let disk = statvfs(&*self.folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
        Some(SpoolDisk { free: bytes(disk.blocks_available()), total: bytes(disk.blocks()) })
    }

    fn take(&self, bytes: usize) -> Option<TakenRoom> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= ALL_IN_MEMORY);
        self.in_memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(TakenRoom { bytes, in_memory: Arc::clone(&self.in_memory) })
    }

    /// Sets disk aside. [`SpoolRoom::give_back`] ends that.
    fn take_disk(&self, bytes: u64) -> io::Result<()> {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.limit);
        let taken = self.on_disk.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        let full = |_| {
            let limit = self.limit;
            io::Error::other(format!(
                "the files of all results that wait would take more than {limit} bytes (--spool-limit of the master)"
            ))
        };
        taken.map(drop).map_err(full)
    }

    fn give_back(&self, bytes: u64) {
        self.on_disk.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The disk of the spools' files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpoolDisk {
    /// What may still be written.
    pub(crate) free: u64,
    /// What there is altogether.
    pub(crate) total: u64,
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
        self.room.take_disk(length as u64)?;
        file.write_all_at(&piece, start).inspect_err(|_| self.room.give_back(length as u64))?;
        self.in_file += length as u64;
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
        self.room.give_back(self.in_file);
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
    #[test]
    fn all_files_together_have_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let room = SpoolRoom::new(folder.path().to_owned()).limited(12 << 20);
        let mut spools = [Spool::new(&room), Spool::new(&room)];
        let piece = Bytes::from(vec![7; 5 << 20]);
        // Three pieces of each are in memory.
        for _ in 0..4 {
            spools.iter_mut().for_each(|spool| spool.push(None, piece.clone()).unwrap());
        }
        assert_eq!(room.on_disk(), 10 << 20);
        let refused = spools[0].push(None, piece.clone()).unwrap_err();
        assert!(refused.to_string().contains("--spool-limit"), "{refused}");
        assert_eq!((spools[0].len(), room.on_disk()), (4, 10 << 20), "what is refused takes no room");
        let [kept, dropped] = spools;
        drop(dropped);
        let mut kept = kept;
        kept.push(None, piece.clone()).unwrap();
        assert_eq!(kept.read(4).unwrap(), piece);
    }
}
