//! A bucket that data is read from.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::client::SpawnedReqwestConnector;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::client::{network, s3_builder};
use crate::error::{BucketError, S3Facts};

/// How often, and for how long, a request is tried again.
const RETRIES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// A bucket of S3. Its methods wait for the network: they are for threads that may wait, and not for those of an event loop.
#[derive(Debug)]
pub struct DataBucket {
    store: Arc<dyn ObjectStore>,
    facts: S3Facts,
}

impl DataBucket {
    /// The bucket of this name. A process has one client for each, because the environment does not change.
    ///
    /// # Errors
    /// Fails if the environment's settings for S3 are wrong.
    pub fn open(name: &str) -> Result<Arc<Self>, BucketError> {
        static OPEN: OnceLock<Mutex<HashMap<String, Arc<DataBucket>>>> = OnceLock::new();
        let mut open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.get(name) {
            return Ok(Arc::clone(known));
        }
        let connector = SpawnedReqwestConnector::new(network()?.clone());
        let store = s3_builder(name, RETRIES, PATIENCE).with_http_connector(connector).build();
        let store = store.map_err(|error| BucketError::Url(error.to_string()))?;
        let bucket = Arc::new(Self { store: Arc::new(store), facts: S3Facts::read() });
        open.insert(name.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }

    #[cfg(test)]
    pub(crate) fn of_store(store: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { store, facts: S3Facts::read() })
    }

    /// The store, for whoever reads it without waiting.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// What a failure of the store means for people.
    #[must_use]
    pub fn explain(&self, error: &object_store::Error) -> BucketError {
        self.facts.explain(error)
    }

    /// Looks at one object.
    ///
    /// # Errors
    /// [`BucketError::Missing`] if it is not there; fails if the bucket refuses or cannot be reached.
    pub fn look_at(&self, key: &Path) -> Result<ObjectMeta, BucketError> {
        let (store, key) = (self.store(), key.clone());
        self.wait(async move { store.head(&key).await })
    }

    /// All objects below a prefix that ends at a slash, with those of its folders or without, by their keys.
    ///
    /// # Errors
    /// Fails if the bucket refuses or cannot be reached.
    pub fn list(&self, prefix: &Path, with_folders: bool) -> Result<Vec<ObjectMeta>, BucketError> {
        let (store, prefix) = (self.store(), prefix.clone());
        let mut objects: Vec<ObjectMeta> = self.wait(async move {
            if with_folders {
                return store.list(Some(&prefix)).try_collect().await;
            }
            Ok(store.list_with_delimiter(Some(&prefix)).await?.objects)
        })?;
        objects.sort_unstable_by(|one, other| one.location.cmp(&other.location));
        Ok(objects)
    }

    /// Asks for a part of an object. The answer comes while the caller does something else.
    pub(crate) fn ask(
        &self,
        meta: &ObjectMeta,
        range: std::ops::Range<u64>,
    ) -> Result<Receiver<object_store::Result<Bytes>>, BucketError> {
        let (store, key) = (self.store(), meta.location.clone());
        let options = GetOptions {
            if_match: meta.e_tag.clone(),
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        Self::begin(async move { store.get_opts(&key, options).await?.bytes().await })
    }

    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, BucketError> {
        match Self::begin(work)?.recv() {
            Ok(done) => done.map_err(|error| self.explain(&error)),
            Err(_) => Err(BucketError::Failed("a request ended early".to_owned())),
        }
    }

    fn begin<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Receiver<T>, BucketError> {
        let (sender, receiver) = sync_channel(1);
        network()?.spawn(async move {
            // Nobody may want it any more.
            let _ = sender.send(work.await);
        });
        Ok(receiver)
    }
}
