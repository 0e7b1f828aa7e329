//! WebAssembly modules that clients send in pieces.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use dataframe_engine::{MAX_MODULE_BYTES, ModuleStore};
use dataframe_jobs::failure::{Failure, FailureCode};

/// Modules of which a part has come. With more of them the oldest one is begun again.
const MAX_UPLOADS: usize = 8;

/// The parts of modules that have come so far. Several clients may send the same module: each goes on where the master is.
#[derive(Debug, Default)]
pub(crate) struct ModuleUploads {
    begun: Mutex<VecDeque<Upload>>,
}

#[derive(Debug)]
struct Upload {
    hash: String,
    bytes: BytesMut,
}

impl ModuleUploads {
    /// Takes a piece that begins at `from` of a module of `length` bytes. Returns how many bytes are here now, from the beginning.
    ///
    /// # Errors
    /// Fails if the module is too long, or if it is whole and refused.
    pub(crate) fn take(
        &self,
        store: &ModuleStore,
        hash: &str,
        length: u64,
        from: u64,
        piece: &Bytes,
    ) -> Result<u64, Failure> {
        if let Some(module) = store.get(hash) {
            return Ok(module.bytes().len() as u64);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_MODULE_BYTES {
            return Err(bad_job(format!(
                "the module {hash} has {length} bytes, and may have {MAX_MODULE_BYTES}"
            )));
        }
        let Some(whole) = self.add(hash, length, from, piece) else {
            return Ok(self.held(hash));
        };
        let module = store.insert_as(hash, whole).map_err(|error| bad_job(error.to_string()))?;
        Ok(module.bytes().len() as u64)
    }

    /// Adds a piece if it is the next one. Returns the bytes if they are all here.
    fn add(&self, hash: &str, length: usize, from: u64, piece: &Bytes) -> Option<Bytes> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let place = begun.iter().position(|upload| upload.hash == hash).unwrap_or_else(|| {
            if begun.len() == MAX_UPLOADS {
                begun.pop_front();
            }
            begun.push_back(Upload { hash: hash.to_owned(), bytes: BytesMut::new() });
            begun.len() - 1
        });
        let upload = &mut begun[place];
        if from == upload.bytes.len() as u64 && upload.bytes.len() + piece.len() <= length {
            upload.bytes.extend_from_slice(piece);
        }
        let is_whole = upload.bytes.len() >= length && !piece.is_empty();
        if is_whole { begun.remove(place).map(|upload| upload.bytes.freeze()) } else { None }
    }

    fn held(&self, hash: &str) -> u64 {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().find(|upload| upload.hash == hash).map_or(0, |upload| upload.bytes.len() as u64)
    }
}

fn bad_job(message: String) -> Failure {
    Failure { code: FailureCode::BadJob, message, worker: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module without contents.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";
    /// The SHA-256 of it.
    const HASH: &str = "93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476";

    fn take(
        uploads: &ModuleUploads,
        store: &ModuleStore,
        from: u64,
        piece: &'static [u8],
    ) -> Result<u64, Failure> {
        uploads.take(store, HASH, EMPTY.len() as u64, from, &Bytes::from_static(piece))
    }

    #[test]
    fn pieces_come_in_order_and_those_that_are_here_already_change_nothing() {
        let (uploads, store) = (ModuleUploads::default(), ModuleStore::default());
        assert_eq!(take(&uploads, &store, 0, b""), Ok(0));
        assert_eq!(take(&uploads, &store, 0, &EMPTY[..5]), Ok(5));
        assert_eq!(take(&uploads, &store, 0, &EMPTY[..3]), Ok(5));
        assert_eq!(take(&uploads, &store, 6, &EMPTY[6..]), Ok(5));
        assert!(store.get(HASH).is_none());
        assert_eq!(take(&uploads, &store, 5, &EMPTY[5..]), Ok(8));
        assert!(store.get(HASH).is_some());
        assert_eq!(take(&uploads, &store, 0, b""), Ok(8));
    }

    #[test]
    fn other_bytes_than_those_of_the_hash_are_refused_and_forgotten() {
        let (uploads, store) = (ModuleUploads::default(), ModuleStore::default());
        let failure = take(&uploads, &store, 0, b"\0asm\x02\0\0\0").unwrap_err();
        assert!(
            failure.message.contains("the bytes that came for the module 93a44bbb96c7 are those of"),
            "{failure}"
        );
        assert_eq!(take(&uploads, &store, 0, EMPTY), Ok(8));
    }

    #[test]
    fn what_is_begun_is_bounded() {
        let (uploads, store) = (ModuleUploads::default(), ModuleStore::default());
        let failure = uploads.take(&store, HASH, 1 << 40, 0, &Bytes::new()).unwrap_err();
        assert!(failure.message.contains("and may have 4194304"), "{failure}");
        for hash in 0..2 * MAX_UPLOADS {
            let held = uploads.take(&store, &hash.to_string(), 9, 0, &Bytes::from_static(b"abc"));
            assert_eq!(held, Ok(3));
        }
        assert_eq!(uploads.begun.lock().unwrap().len(), MAX_UPLOADS);
        // It was the oldest one, and begins again.
        assert_eq!(uploads.take(&store, "0", 9, 3, &Bytes::from_static(b"def")), Ok(0));
        let longer = uploads.take(&store, "15", 4, 3, &Bytes::from_static(b"def"));
        assert_eq!(longer, Ok(3), "a piece that does not fit is not taken");
    }
}
