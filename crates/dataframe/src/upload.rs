//! Files of this computer that are put where the cluster reads them.

use std::collections::BTreeMap;
use std::path::Path;

use buckets::{BucketError, UploadPlace};
use dataframe_engine::FrameError;
use dataframe_engine::csv::list_files;
use dataframe_jobs::failure::Failure;
use dataframe_jobs::operation::{Compression, Operation, ReadCsv};
use tokio::sync::Mutex;

use crate::job::WrongArguments;

/// Puts files into a bucket or a folder before they are read, each content once.
pub struct FileUploads {
    place: UploadPlace,
    known: Mutex<BTreeMap<KnownFile, String>>,
}

/// A file in the state in which it was put.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct KnownFile {
    path: String,
    size: u64,
    modified_ns: i64,
}

impl FileUploads {
    /// Opens the place that `--upload` names.
    ///
    /// # Errors
    /// Fails if it is none.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        let place = UploadPlace::open(url).map_err(|error| match error {
            BucketError::Url(message) => anyhow::Error::from(WrongArguments(format!("--upload: {message}"))),
            error => anyhow::Error::from(error).context(format!("--upload {url}")),
        })?;
        Ok(Self { place, known: Mutex::default() })
    }

    /// The same operations, which read what has been put in place of files of this computer.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or cannot be put.
    pub async fn put(&self, operations: &[Operation]) -> Result<Vec<Operation>, FrameError> {
        let mut operations = operations.to_vec();
        let mut lists = vec![&mut operations];
        while let Some(list) = lists.pop() {
            for operation in list {
                if let Operation::ReadCsv(read) = operation {
                    self.put_files(read).await?;
                } else {
                    lists.extend(operation.lists_mut());
                }
            }
        }
        Ok(operations)
    }

    async fn put_files(&self, read: &mut ReadCsv) -> Result<(), FrameError> {
        let mut paths = Vec::new();
        for path in std::mem::take(&mut read.paths) {
            if path.contains("://") {
                paths.push(path);
                continue;
            }
            for file in files(path, read.options.compression).await? {
                paths.push(self.put_file(file).await?);
            }
        }
        read.paths = paths;
        Ok(())
    }

    async fn put_file(&self, file: KnownFile) -> Result<String, FrameError> {
        let mut known = self.known.lock().await;
        if let Some(there) = known.get(&file) {
            return Ok(there.clone());
        }
        let put = self.place.put_once(Path::new(&file.path)).await;
        let (there, is_new) = put.map_err(|error| match error {
            BucketError::File(message) => FrameError::File(message),
            error => {
                FrameError::File(format!("{}: the file cannot be put into the bucket: {error}", file.path))
            }
        })?;
        let what = if is_new {
            "the file was put where the cluster reads it"
        } else {
            "the content of the file is there already"
        };
        tracing::info!(path = file.path, there, bytes = file.size, "{what}");
        known.insert(file, there.clone());
        Ok(there)
    }

    /// An error with the names of the files of this computer in place of those by which they are read.
    pub async fn with_own_names(&self, mut failure: Failure) -> Failure {
        for (file, there) in self.known.lock().await.iter() {
            failure.message = failure.message.replace(there, &file.path);
        }
        failure
    }
}

/// The files behind a path, listed by a thread that may wait for the disk.
async fn files(path: String, compression: Compression) -> Result<Vec<KnownFile>, FrameError> {
    let listed = tokio::task::spawn_blocking(move || list_files(&[path], compression)).await;
    let listed =
        listed.map_err(|error| FrameError::Internal(format!("listing files ended early: {error}")))??;
    let known = listed.into_iter().map(|file| KnownFile {
        path: file.path,
        size: file.size,
        modified_ns: file.modified_ns,
    });
    Ok(known.collect())
}
