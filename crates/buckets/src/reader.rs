//! An object as a file.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use object_store::ObjectMeta;

use crate::data_bucket::DataBucket;

/// The first piece: enough for the types of a file's columns, or for the end of a line.
const FIRST_PIECE: u64 = 128 << 10;
/// The largest piece. With the next one on its way, a reader keeps twice as much in memory.
const MAX_PIECE: u64 = 8 << 20;

/// Reads an object in pieces, which become larger while it is read on. The next piece is on its way while one is read. The reader
/// waits for the network, so it is for threads that may wait.
#[derive(Debug)]
pub struct ObjectReader {
    bucket: Arc<DataBucket>,
    meta: ObjectMeta,
    /// Where the next byte is.
    position: u64,
    /// The piece that came last, and where it begins.
    piece: Bytes,
    piece_start: u64,
    /// The piece that was asked for, and where it begins.
    ahead: Option<(u64, PieceAnswer)>,
    /// How long the next piece is.
    bytes: u64,
}

type PieceAnswer = Receiver<object_store::Result<Bytes>>;

impl ObjectReader {
    /// Reads an object in the state that `meta` tells: if it is another one now, reading fails.
    #[must_use]
    pub fn new(bucket: Arc<DataBucket>, meta: ObjectMeta) -> Self {
        let (piece, ahead) = (Bytes::new(), None);
        Self { bucket, meta, position: 0, piece, piece_start: 0, ahead, bytes: FIRST_PIECE }
    }

    /// What has come and begins at the position.
    fn unread(&self) -> &[u8] {
        let read = self.position.checked_sub(self.piece_start).and_then(|read| usize::try_from(read).ok());
        read.and_then(|read| self.piece.get(read..)).unwrap_or_default()
    }

    /// Asks for the piece at a place. `None` behind the end.
    fn ask(&mut self, start: u64) -> io::Result<Option<PieceAnswer>> {
        let end = start.saturating_add(self.bytes).min(self.meta.size);
        if start >= end {
            return Ok(None);
        }
        let answer = self.bucket.ask(&self.meta, start..end).map_err(io::Error::other)?;
        Ok(Some(answer))
    }

    /// Waits for the piece at the position.
    fn next_piece(&mut self) -> io::Result<()> {
        if self.position != self.piece_start + self.piece.len() as u64 {
            (self.ahead, self.bytes) = (None, FIRST_PIECE);
        }
        let asked = match self.ahead.take() {
            Some((start, answer)) if start == self.position => Some(answer),
            _ => self.ask(self.position)?,
        };
        let Some(answer) = asked else { return Ok(()) };
        let answer = answer.recv().map_err(|_| io::Error::other("a request to the bucket ended early"))?;
        self.piece = answer.map_err(|error| io::Error::other(self.bucket.explain(&error)))?;
        self.piece_start = self.position;
        if self.piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A reader of the first piece may want no more than that.
        let reads_on = self.bytes > FIRST_PIECE;
        self.bytes = (self.bytes * 2).min(MAX_PIECE);
        if reads_on {
            let next = self.position + self.piece.len() as u64;
            self.ahead = self.ask(next)?.map(|answer| (next, answer));
        }
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.unread().is_empty() {
            self.next_piece()?;
        }
        let unread = self.unread();
        let taken = buffer.len().min(unread.len());
        buffer[..taken].copy_from_slice(&unread[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(offset) => self.meta.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::*;

    fn filled(bytes: &[u8]) -> (Arc<InMemory>, ObjectReader) {
        let (store, key) = (Arc::new(InMemory::new()), Path::from("a.csv"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.put(&key, bytes.to_vec().into())).unwrap();
        let bucket = DataBucket::of_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
        let meta = bucket.look_at(&key).unwrap();
        (store, ObjectReader::new(bucket, meta))
    }

    #[test]
    fn an_object_reads_like_a_file() {
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (_store, mut reader) = filled(&bytes);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == bytes, "{} of {} bytes", read.len(), bytes.len());
        assert_eq!(reader.bytes, MAX_PIECE, "pieces have become large");
        for place in [0, 1, 127 << 10, 128 << 10, 129 << 10, 19_999_999, 20_000_000, 20_000_001, 5] {
            assert_eq!(reader.seek(SeekFrom::Start(place)).unwrap(), place);
            let mut some = [0; 1000];
            let count = reader.read(&mut some).unwrap();
            let expected = &bytes[usize::try_from(place).unwrap().min(bytes.len())..];
            assert_eq!(count == 0, expected.is_empty(), "at {place}");
            assert_eq!(some[..count], expected[..count], "at {place}");
        }
        assert!(reader.seek(SeekFrom::Current(-6000)).is_err());
        assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 19_999_999);
    }

    #[test]
    fn an_object_that_changes_is_noticed() {
        let (store, mut reader) = filled(&[1; 1 << 20]);
        let mut some = [0; 1000];
        reader.read_exact(&mut some).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.put(&Path::from("a.csv"), vec![2; 1 << 20].into())).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("has been written since"), "{error}");
    }
}
