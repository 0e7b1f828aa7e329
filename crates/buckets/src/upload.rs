//! Files that are put into a bucket, or into a folder, by their content: the same content is put once.

use std::fs::File;
use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::data_bucket::DataBucket;
use crate::error::{BucketError, S3Facts};
use crate::url::ObjectUrl;

/// The folder of uploads in a bucket, so that a rule of the bucket can remove them by their age.
const UPLOADS: &str = "uploads";
/// A file of at most so many bytes is put at once, and a longer one in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way at a time.
const PARTS_AT_ONCE: usize = 4;
/// Suffixes by which the compression of a file is told.
const COMPRESSED: [&str; 4] = [".gz", ".gzip", ".zst", ".zstd"];

/// Where files are put.
#[derive(Debug, Clone)]
pub struct UploadPlace {
    store: Arc<dyn ObjectStore>,
    facts: S3Facts,
    /// Where the uploads are in the store.
    root: Path,
    /// What stands before a key in the path by which it is read.
    before: String,
}

impl UploadPlace {
    /// Opens `s3://BUCKET/PREFIX`, `file:///FOLDER` or a folder by its path, which is made if it is missing.
    ///
    /// # Errors
    /// Fails if the URL is none of these, or if the folder cannot be made.
    pub fn open(url: &str) -> Result<Self, BucketError> {
        let facts = S3Facts::read();
        if ObjectUrl::is_one(url) {
            let place = ObjectUrl::parse(url)?;
            let (store, root) = (DataBucket::open(&place.bucket)?.store(), place.key.join(UPLOADS));
            return Ok(Self { store, facts, root, before: format!("s3://{}/", place.bucket) });
        }
        let folder = url.strip_prefix("file://").unwrap_or(url);
        if folder.is_empty() || folder.contains("://") {
            return Err(BucketError::Url(format!(
                "{url:?} is no place for files: write s3://BUCKET/PREFIX, file:///FOLDER or a folder"
            )));
        }
        let cannot = |error: &dyn std::fmt::Display| BucketError::Failed(format!("{folder}: {error}"));
        std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
        let folder = std::fs::canonicalize(folder).map_err(|error| cannot(&error))?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| cannot(&error))?;
        let before = format!("{}/", folder.to_str().ok_or_else(|| cannot(&"the name is no UTF-8"))?);
        Ok(Self { store: Arc::new(store), facts, root: Path::from(UPLOADS), before })
    }

    /// Puts a file there, unless its content is there already. Returns the path by which it is read, and whether it was put.
    ///
    /// # Errors
    /// Fails if the file cannot be read or changes meanwhile, or if the bucket refuses it or cannot be reached.
    pub async fn put_once(&self, file: &FilePath) -> Result<(String, bool), BucketError> {
        let (hash, bytes) = self.content(file).await?;
        let name = file.to_string_lossy();
        let suffix = COMPRESSED.iter().find(|suffix| name.ends_with(*suffix)).copied().unwrap_or_default();
        let key = self.root.clone().join(format!("{hash}.csv{suffix}"));
        let path = format!("{}{key}", self.before);
        match self.store.head(&key).await {
            Ok(known) if known.size == bytes => return Ok((path, false)),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(self.facts.explain(&error)),
        }
        let is_new = self.put(file, &key, &hash).await?;
        Ok((path, is_new))
    }

    /// The SHA-256 of a file, and its size.
    async fn content(&self, file: &FilePath) -> Result<(String, u64), BucketError> {
        let (mut parts, mut hash, mut size) = (Parts::of(file), Sha256::new(), 0);
        while let Some(part) = parts.next().await? {
            hash.update(&part);
            size += part.len() as u64;
        }
        Ok((format!("{:x}", hash.finalize()), size))
    }

    /// Whoever puts a short file second changes nothing. A long one is put once more then, with the same content.
    async fn put(&self, file: &FilePath, key: &Path, expected: &str) -> Result<bool, BucketError> {
        let (mut parts, mut hash) = (Parts::of(file), Sha256::new());
        let first = parts.next().await?.unwrap_or_default();
        hash.update(&first);
        if first.len() < PART_BYTES {
            check(file, hash, expected)?;
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            return match self.store.put_opts(key, PutPayload::from_bytes(first), options).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(self.facts.explain(&error)),
            };
        }
        let upload = self.store.put_multipart(key).await.map_err(|error| self.facts.explain(&error))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        writer.put(first);
        let written = loop {
            match parts.next().await {
                Ok(None) => break check(file, hash, expected),
                Err(error) => break Err(error),
                Ok(Some(part)) => {
                    hash.update(&part);
                    if let Err(error) = writer.wait_for_capacity(PARTS_AT_ONCE).await {
                        break Err(self.facts.explain(&error));
                    }
                    writer.put(part);
                }
            }
        };
        if let Err(error) = written {
            // The bucket forgets parts that are not put together, sooner or later.
            let _ = writer.abort().await;
            return Err(error);
        }
        writer.finish().await.map(|_| true).map_err(|error| self.facts.explain(&error))
    }
}

fn check(file: &FilePath, hash: Sha256, expected: &str) -> Result<(), BucketError> {
    if format!("{:x}", hash.finalize()) == expected {
        return Ok(());
    }
    Err(BucketError::File(format!("{}: the file changes while it is put into the bucket", file.display())))
}

/// A file in parts, read by a thread that may wait for the disk.
struct Parts(mpsc::Receiver<Result<Bytes, BucketError>>);

impl Parts {
    fn of(file: &FilePath) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        let file = file.to_owned();
        tokio::task::spawn_blocking(move || {
            let cannot = |error: std::io::Error| BucketError::File(format!("{}: {error}", file.display()));
            if let Err(error) = send_parts(&file, &sender) {
                // Nobody may want the rest any more.
                let _ = sender.blocking_send(Err(cannot(error)));
            }
        });
        Self(receiver)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        self.0.recv().await.transpose()
    }
}

fn send_parts(file: &PathBuf, to: &mpsc::Sender<Result<Bytes, BucketError>>) -> std::io::Result<()> {
    let mut file = File::open(file)?;
    loop {
        let mut part = Vec::new();
        let read = file.by_ref().take(PART_BYTES as u64).read_to_end(&mut part)?;
        if read == 0 || to.blocking_send(Ok(part.into())).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_content_is_put_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = UploadPlace::open(folder.path().join("shared").to_str().unwrap()).unwrap();
        let put = async |name: &str, content: &[u8]| {
            let file = folder.path().join(name);
            std::fs::write(&file, content).unwrap();
            place.put_once(&file).await.unwrap()
        };
        let long: Vec<u8> = (0..20 << 20).map(|n| (n % 251) as u8).collect();
        let (path, is_new) = put("a.csv", b"x\n1\n").await;
        assert!(is_new && path.contains("/shared/uploads/") && path.ends_with(".csv"), "{path}");
        assert_eq!(std::fs::read(&path).unwrap(), b"x\n1\n");
        assert_eq!(put("b.csv", b"x\n1\n").await, (path.clone(), false), "the name does not matter");
        assert_ne!(put("a.csv", b"x\n2\n").await.0, path);
        let (zipped, is_new) = put("a.csv.gz", b"x\n1\n").await;
        assert!(is_new && zipped.ends_with(".csv.gz"), "the compression does: {zipped}");
        let (path, is_new) = put("long.csv", &long).await;
        assert!(is_new && std::fs::read(&path).unwrap() == long);
        assert!(!put("long.csv", &long).await.1);
        assert!(put("empty.csv", b"").await.1);
    }

    #[tokio::test]
    async fn what_cannot_be_put_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let place = UploadPlace::open(folder.path().to_str().unwrap()).unwrap();
        let error = place.put_once(&folder.path().join("none.csv")).await.unwrap_err();
        assert!(matches!(&error, BucketError::File(text) if text.contains("none.csv")), "{error:?}");
        for url in ["", "http://a/b", "s3://"] {
            assert!(matches!(UploadPlace::open(url), Err(BucketError::Url(_))), "{url}");
        }
    }
}
