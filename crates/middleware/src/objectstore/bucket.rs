//! The bucket: a folder, or one of S3. An object appears whole or not at all.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use buckets::{ObjectUrl, S3Facts, s3_builder};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::{Path, PathPart};
use object_store::{Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::names::within;
use crate::TransportError;
use crate::brokered::address::without_password;
use crate::brokered::pace::Pace;

/// What the client of S3 tries by itself, and for how long.
const RETRIES: usize = 2;
const TRIES: Duration = Duration::from_secs(2);

/// A bucket, or a part of one.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// Where it is a folder.
    folder: Option<BucketFolder>,
    /// What helps to explain failures, where it is not a folder.
    facts: Option<S3Facts>,
    shown: String,
    trouble: Mutex<Trouble>,
}

/// A folder as a bucket.
struct BucketFolder {
    base: PathBuf,
    /// Tells the folder from another one that stands in its place while it is away, such as the place where it was mounted.
    inode: u64,
    /// The part of it that is used.
    root: PathBuf,
}

impl BucketFolder {
    fn new(base: PathBuf, part: &PathPart<'_>) -> std::io::Result<Self> {
        Ok(Self { inode: base.metadata()?.ino(), root: base.join(part.as_ref()), base })
    }

    fn check_there(&self) -> object_store::Result<()> {
        let cause = match self.base.metadata() {
            Ok(found) if found.ino() == self.inode => return Ok(()),
            Ok(_) => "another folder is in its place",
            Err(_) => "it is away",
        };
        let cause = format!("the folder {}: {cause}", self.base.display());
        Err(Error::Generic { store: "folder", source: cause.into() })
    }
}

/// The last failure, so that the same one is told once.
#[derive(Default)]
struct Trouble {
    said: String,
    last: Option<Instant>,
}

impl Bucket {
    /// Opens `s3://BUCKET/PREFIX`, `file:///FOLDER` or a folder by its path, which is made if it is missing. All objects are in `part`
    /// of it.
    ///
    /// # Errors
    /// Fails if the URL is none of these, the folder cannot be made, or the environment's settings for S3 are wrong.
    pub(crate) fn open(url: &str, part: PathPart<'_>) -> Result<Self, TransportError> {
        let shown = without_password(url);
        let wrong = |cause: String| {
            TransportError::Invalid(format!(
                "{shown:?} is no bucket: {cause}. Write a folder, file:///FOLDER or s3://BUCKET/PREFIX"
            ))
        };
        let in_a_folder = |path| {
            let (store, folder) = Self::folder(path).map_err(wrong)?;
            Ok::<_, TransportError>((store, Path::default(), Some(folder)))
        };
        let (store, root, base): (Arc<dyn ObjectStore>, _, _) = match url.split_once("://") {
            Some(("s3", _)) => {
                let place = ObjectUrl::parse(url).map_err(|error| wrong(error.to_string()))?;
                let store = s3_builder(&place.bucket, RETRIES, TRIES).build();
                (Arc::new(store.map_err(|error| wrong(error.to_string()))?), place.key, None)
            }
            Some(("file", path)) if path.starts_with('/') => in_a_folder(path)?,
            Some((scheme, _)) => return Err(wrong(format!("{scheme} is not understood"))),
            None if url.is_empty() => return Err(wrong("it is empty".to_owned())),
            None => in_a_folder(url)?,
        };
        let folder = match base {
            Some(base) => Some(BucketFolder::new(base, &part).map_err(|error| wrong(error.to_string()))?),
            None => None,
        };
        let root = root.join(part);
        let facts = folder.is_none().then(S3Facts::read);
        Ok(Self { store, root, folder, facts, shown, trouble: Mutex::default() })
    }

    fn folder(path: &str) -> Result<(Arc<dyn ObjectStore>, PathBuf), String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let folder = std::fs::canonicalize(path).map_err(|error| error.to_string())?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| error.to_string())?;
        Ok((Arc::new(store.with_automatic_cleanup(true)), folder))
    }

    /// The bucket as it may be shown.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The time since the bucket failed last; `None` if it never has.
    pub(crate) fn since_trouble(&self) -> Option<Duration> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).last.map(|last| last.elapsed())
    }

    /// Puts an object, in place of one that is there.
    pub(crate) async fn put(&self, path: &str, body: &Bytes, pace: Pace) -> Result<(), TransportError> {
        let at = &within(&self.root, path);
        let put = || async { self.store.put(at, PutPayload::from_bytes(body.clone())).await };
        self.run(pace, put).await.map(|_| ())
    }

    /// Puts an object if there is none. Tells whether there was none.
    pub(crate) async fn create(&self, path: &str, body: &Bytes, pace: Pace) -> Result<bool, TransportError> {
        let at = &within(&self.root, path);
        let create = || async {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(at, PutPayload::from_bytes(body.clone()), options).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.run(pace, create).await
    }

    /// Gets an object of at most `max_bytes`. `None` if it is not there.
    pub(crate) async fn get(
        &self,
        path: &str,
        max_bytes: usize,
        pace: Pace,
    ) -> Result<Option<Bytes>, TransportError> {
        let at = &within(&self.root, path);
        let get = || async {
            let found = match self.store.get_opts(at, GetOptions::default()).await {
                Ok(found) => found,
                Err(Error::NotFound { .. }) => return Ok(Ok(None)),
                Err(error) => return Err(error),
            };
            if found.meta.size > max_bytes as u64 {
                return Ok(Err(found.meta.size));
            }
            match found.bytes().await {
                Ok(bytes) => Ok(Ok(Some(bytes))),
                Err(Error::NotFound { .. }) => Ok(Ok(None)),
                Err(error) => Err(error),
            }
        };
        self.run(pace, get).await?.map_err(|bytes| TransportError::Protocol {
            peer: self.shown.clone(),
            cause: format!("the object {path} has {bytes} bytes, and at most {max_bytes} are taken"),
        })
    }

    /// Whether an object is there.
    pub(crate) async fn has(&self, path: &str, pace: Pace) -> Result<bool, TransportError> {
        let at = &within(&self.root, path);
        let look = || async {
            match self.store.head(at).await {
                Ok(_) => Ok(true),
                Err(Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.run(pace, look).await
    }

    /// Deletes objects, those that are not there included.
    pub(crate) async fn delete(&self, paths: &[String], pace: Pace) -> Result<(), TransportError> {
        let delete = || async {
            let all: Vec<_> = paths.iter().map(|path| Ok(within(&self.root, path))).collect();
            let mut gone = self.store.delete_stream(futures_util::stream::iter(all).boxed());
            let mut outcome = Ok(());
            while let Some(deleted) = gone.next().await {
                if let Err(error) = deleted
                    && !matches!(error, Error::NotFound { .. })
                {
                    outcome = Err(error);
                }
            }
            outcome
        };
        self.run(pace, delete).await
    }

    /// The names of the objects in a folder of the bucket, in their order. Names that no object of ours has may be left out.
    pub(crate) async fn names(&self, folder: &str, pace: Pace) -> Result<Vec<String>, TransportError> {
        self.entries(folder, false, pace).await
    }

    /// The names of the folders in a folder of the bucket.
    pub(crate) async fn folders(&self, folder: &str, pace: Pace) -> Result<Vec<String>, TransportError> {
        self.entries(folder, true, pace).await
    }

    async fn entries(
        &self,
        folder: &str,
        are_folders: bool,
        pace: Pace,
    ) -> Result<Vec<String>, TransportError> {
        let at = &within(&self.root, folder);
        let list = || async {
            if let Some(own) = &self.folder {
                return in_folder(own.root.join(folder), are_folders).await;
            }
            let paths: Vec<Path> = if are_folders {
                self.store.list_with_delimiter(Some(at)).await?.common_prefixes
            } else {
                self.store.list(Some(at)).map_ok(|object| object.location).try_collect().await?
            };
            let depth = at.parts().count();
            let last = |path: Path| {
                let mut parts = path.parts().skip(depth);
                let name = parts.next()?.as_ref().to_owned();
                parts.next().is_none().then_some(name)
            };
            Ok(paths.into_iter().filter_map(last).collect())
        };
        let mut names = self.run(pace, list).await?;
        names.sort_unstable();
        Ok(names)
    }

    /// Tries until it succeeds, no further try can help, or the pace ends.
    async fn run<T, F>(&self, mut pace: Pace, operation: impl Fn() -> F) -> Result<T, TransportError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        loop {
            let outcome = match self.check_there() {
                // What is put while the folder goes away may be put into another one.
                Ok(()) => operation().await.and_then(|value| self.check_there().map(|()| value)),
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(value) => {
                    self.is_well();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let cause = match &self.facts {
                Some(facts) => facts.explain(&error).to_string(),
                None => error.to_string(),
            };
            self.complain(&cause);
            if is_final(&error) || !pace.pause().await {
                return Err(TransportError::Unreachable { peer: self.shown.clone(), cause });
            }
        }
    }

    fn check_there(&self) -> object_store::Result<()> {
        self.folder.as_ref().map_or(Ok(()), BucketFolder::check_there)
    }

    fn is_well(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if !trouble.said.is_empty() {
            trouble.said.clear();
            tracing::info!(bucket = self.shown, "the bucket answers again");
        }
    }

    /// The same complaint again and again helps nobody.
    fn complain(&self, cause: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.last = Some(Instant::now());
        if trouble.said.is_empty() {
            tracing::warn!(bucket = self.shown, cause, "the bucket fails, and is tried again");
            trouble.said = cause.to_owned();
        }
    }
}

fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::UnknownConfigurationKey { .. }
    )
}

/// Reads a folder itself: a look at many names takes one call, and a name that is no text hides no other one.
async fn in_folder(folder: PathBuf, are_folders: bool) -> object_store::Result<Vec<String>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // `#` marks an object that is being written.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type()?.is_dir() == are_folders && !name.contains('#') {
                names.push(name);
            }
        }
        Ok::<_, std::io::Error>(names)
    });
    read.await?.map_err(|error| Error::Generic { store: "folder", source: error.into() })
}
