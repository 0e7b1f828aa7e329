//! Files in pieces, looked through for quotes on the way.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::file_bytes::{FileBytes, FileState};

/// Large enough for few system calls, and small enough for the processor's second cache.
const PIECE_BYTES: u64 = 128 << 10;

/// A store of files whose parts are read in pieces of 128 KiB; DataFusion reads 8 KiB at a time. An object comes in the larger pieces
/// of [`FileBytes`], because a request for a long part would outlive the patience of its client.
///
/// It notes whether a piece has a quote. Where the cuts of the file are right only without quotes, it stops there with an error.
#[derive(Debug)]
pub(super) struct WatchedStore {
    pub(super) inner: Arc<dyn ObjectStore>,
    /// What is read, where it is an object.
    pub(super) object: Option<WatchedObject>,
    pub(super) quotes: QuoteWatch,
}

/// An object in the state in which it was looked at.
#[derive(Debug, Clone)]
pub(super) struct WatchedObject {
    pub(super) file: FileState,
    pub(super) meta: ObjectMeta,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct QuoteWatch {
    pub(super) quote: u8,
    pub(super) stops: bool,
    pub(super) seen: Arc<AtomicBool>,
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchedStore({})", self.inner)
    }
}

struct PieceReader {
    file: FileBytes,
    remaining: u64,
    quotes: QuoteWatch,
}

impl PieceReader {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let wanted = self.remaining.min(PIECE_BYTES);
        if wanted == 0 {
            return Ok(None);
        }
        let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let read = self.file.by_ref().take(wanted).read_to_end(&mut piece).map_err(local_error)?;
        if read == 0 {
            return Ok(None);
        }
        self.remaining -= read as u64;
        if memchr::memchr(self.quotes.quote, &piece).is_some() {
            self.quotes.seen.store(true, Ordering::Relaxed);
            if self.quotes.stops {
                return Err(local_error(io::Error::other("a quote follows after the sample")));
            }
        }
        Ok(Some(Bytes::from(piece)))
    }
}

fn local_error(error: io::Error) -> Error {
    Error::Generic { store: "local", source: Box::new(error) }
}

impl WatchedStore {
    fn pieces(&self, mut file: FileBytes, range: &Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        file.seek(SeekFrom::Start(range.start)).map_err(local_error)?;
        let reader = PieceReader { file, remaining: range.end - range.start, quotes: self.quotes.clone() };
        let pieces = stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next()?.map(|piece| (piece, reader)))
        });
        Ok(pieces.boxed())
    }

    fn read_object(&self, object: &WatchedObject, options: &GetOptions) -> Result<GetResult> {
        let whole = 0..object.meta.size;
        let range = match &options.range {
            Some(range) => range
                .as_range(object.meta.size)
                .map_err(|error| Error::Generic { store: "bucket", source: Box::new(error) })?,
            None => whole,
        };
        let file = object.file.open().map_err(local_error)?;
        Ok(GetResult {
            payload: GetResultPayload::Stream(self.pieces(file, &range)?),
            meta: object.meta.clone(),
            range,
            attributes: Attributes::default(),
        })
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if let Some(object) = &self.object {
            return self.read_object(object, &options);
        }
        let is_part = options.range.is_some();
        let mut result = self.inner.get_opts(location, options).await?;
        result.payload = match result.payload {
            GetResultPayload::File(file, _) if is_part => {
                GetResultPayload::Stream(self.pieces(FileBytes::Disk(file), &result.range)?)
            }
            payload => payload,
        };
        Ok(result)
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
