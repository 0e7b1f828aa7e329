//! The keys of a running program.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::file::{self, FileKeys, KeyError, KeyHolder};
use crate::secret::{ClusterKey, KeyId, KeyPurpose, PurposeKey};

/// The keys of a running program. Clones are the same keyring.
#[derive(Clone)]
pub struct Keyring(Arc<SharedKeys>);

struct SharedKeys {
    source: Option<(PathBuf, KeyHolder)>,
    /// How often the keys have changed.
    version: AtomicU64,
    state: Mutex<KeyringState>,
}

struct KeyringState {
    keys: FileKeys,
    by_purpose: Arc<PurposeKeys>,
    /// The last reason for which the file could not be read again.
    complaint: Option<String>,
}

/// The keys of each purpose. The first one is used to send, and all are accepted.
#[derive(Debug, Default)]
pub struct PurposeKeys {
    heartbeat: Vec<PurposeKey>,
    link: Vec<PurposeKey>,
    client: Vec<PurposeKey>,
}

impl PurposeKeys {
    fn new(keys: &FileKeys) -> Self {
        match keys {
            FileKeys::Cluster(keys) => {
                let of = |purpose| keys.iter().map(|key| key.of(purpose)).collect();
                Self {
                    heartbeat: of(KeyPurpose::Heartbeat),
                    link: of(KeyPurpose::Link),
                    client: of(KeyPurpose::Client),
                }
            }
            FileKeys::Client(keys) => Self { client: keys.clone(), ..Self::default() },
        }
    }

    /// Returns all keys of a purpose. A client has only those of [`KeyPurpose::Client`].
    #[must_use]
    pub fn of(&self, purpose: KeyPurpose) -> &[PurposeKey] {
        match purpose {
            KeyPurpose::Heartbeat => &self.heartbeat,
            KeyPurpose::Link => &self.link,
            KeyPurpose::Client => &self.client,
        }
    }

    /// Returns the key of a purpose with this name, if it is accepted.
    #[must_use]
    pub fn find(&self, purpose: KeyPurpose, id: KeyId) -> Option<&PurposeKey> {
        self.of(purpose).iter().find(|key| key.id == id)
    }
}

impl Keyring {
    /// Reads the keys of a program from a file, which [`reload`](Self::reload) reads again.
    ///
    /// # Errors
    /// Fails with a [`KeyError`] if the file cannot be used.
    pub fn open(path: &Path, holder: KeyHolder) -> Result<Self, KeyError> {
        let keys = file::read(path, holder)?;
        Ok(Self::new(Some((path.to_owned(), holder)), keys))
    }

    /// Returns the keys of a program of a cluster without a file.
    #[must_use]
    pub fn of_cluster(keys: Vec<ClusterKey>) -> Self {
        Self::new(None, FileKeys::Cluster(keys))
    }

    fn new(source: Option<(PathBuf, KeyHolder)>, keys: FileKeys) -> Self {
        let by_purpose = Arc::new(PurposeKeys::new(&keys));
        let state = Mutex::new(KeyringState { keys, by_purpose, complaint: None });
        Self(Arc::new(SharedKeys { source, version: AtomicU64::new(0), state }))
    }

    /// Reads the file again. If it cannot be used, that is logged once, and the keys stay what they are.
    pub fn reload(&self) {
        let Some((path, holder)) = &self.0.source else { return };
        match file::read(path, *holder) {
            Ok(keys) => self.replace(keys),
            Err(error) => {
                let error = error.to_string();
                let mut state = self.lock();
                if state.complaint.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the keys are not read again: those that were read before stay in use"
                    );
                    state.complaint = Some(error);
                }
            }
        }
    }

    /// Uses these keys of the cluster from now on.
    pub fn replace_with(&self, keys: Vec<ClusterKey>) {
        self.replace(FileKeys::Cluster(keys));
    }

    fn replace(&self, keys: FileKeys) {
        let mut state = self.lock();
        state.complaint = None;
        if state.keys == keys {
            return;
        }
        state.by_purpose = Arc::new(PurposeKeys::new(&keys));
        state.keys = keys;
        self.0.version.fetch_add(1, Ordering::Release);
        drop(state);
        tracing::info!(keys = ?self, "the keys have changed");
    }

    /// Returns the present keys.
    #[must_use]
    pub fn keys(&self) -> Arc<PurposeKeys> {
        self.lock().by_purpose.clone()
    }

    /// Returns a number that is another one after the keys have changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, KeyringState> {
        // No code that holds the lock can panic in the middle of a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows where the keys are from, and the names under which clients and links present them.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys();
        let ids = |purpose| keys.of(purpose).iter().map(|key| key.id.to_string()).collect::<Vec<_>>();
        let path = self.0.source.as_ref().map(|(path, _)| path);
        let (link, client) = (ids(KeyPurpose::Link), ids(KeyPurpose::Client));
        f.debug_struct("Keyring").field("path", &path).field("link", &link).field("client", &client).finish()
    }
}

/// Two keyrings are equal if they are the same one.
impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Keyring {}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let [old, new] = [1, 2].map(|byte| ClusterKey::from([byte; 32]));
        file::create(&path, &file::cluster_line(&old)).unwrap();
        let keyring = Keyring::open(&path, KeyHolder::Cluster).unwrap();
        let ids = || keyring.keys().of(KeyPurpose::Link).iter().map(|key| key.id).collect::<Vec<_>>();
        let [old_id, new_id] = [&old, &new].map(|key| key.of(KeyPurpose::Link).id);
        assert_eq!(ids(), [old_id]);
        keyring.reload();
        assert_eq!(keyring.version(), 0, "the same keys are no change");
        for bad in ["", "hola"] {
            fs::write(&path, bad).unwrap();
            keyring.reload();
            assert_eq!((keyring.version(), ids()), (0, vec![old_id]));
        }
        fs::write(&path, file::cluster_line(&new) + &file::cluster_line(&old)).unwrap();
        keyring.reload();
        assert_eq!((keyring.version(), ids()), (1, vec![new_id, old_id]));
        let keys = keyring.keys();
        assert_eq!(keys.find(KeyPurpose::Link, old_id), Some(&old.of(KeyPurpose::Link)));
        assert_eq!(keys.find(KeyPurpose::Client, old_id), None, "each purpose has a key of its own");
        assert!(!format!("{keyring:?}").contains(&old.0.to_hex()));
    }

    #[test]
    fn a_client_has_no_other_key_than_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.key");
        let key = ClusterKey::from([1; 32]);
        file::create(&path, &file::client_lines(std::slice::from_ref(&key))).unwrap();
        let keys = Keyring::open(&path, KeyHolder::Client).unwrap().keys();
        assert_eq!(keys.of(KeyPurpose::Client), [key.of(KeyPurpose::Client)]);
        assert!(keys.of(KeyPurpose::Link).is_empty() && keys.of(KeyPurpose::Heartbeat).is_empty());
    }
}
