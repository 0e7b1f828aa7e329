//! The files of keys.
//!
//! | line | meaning |
//! | --- | --- |
//! | 64 hexadecimal digits | a key of the cluster |
//! | `client` and 64 hexadecimal digits | a client's key, derived from a key of the cluster |
//! | nothing, or `#` and a text | ignored |
//!
//! The first key is used to send and to connect, and all of them are accepted. So a key is replaced without a pause: the
//! new one is added below on every machine, then moved to the top on every machine, and at last the old one is removed.
//!
//! A file that all users of the machine may read, or that its group may change, is refused: a key that others know protects
//! nothing, and a warning in a log would be read too late. The group may read it, because that is how a program gets a file
//! of another user.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::secret::{ClusterKey, KeyPurpose, PurposeKey, SecretKey};

/// The highest number of keys in a file.
pub const MAX_KEYS: usize = 16;
/// The longest file of keys, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Access rights that no file of keys may have: all of others, and writing by the group.
const FORBIDDEN: u32 = 0o027;
/// What a line with a client's key begins with.
const CLIENT: &str = "client";

/// Who reads a file of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHolder {
    /// A program of the cluster, which needs a key of the cluster.
    Cluster,
    /// A client, which gets a key of its own.
    Client,
}

/// Why a file of keys cannot be used. The texts tell the way out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("cannot read {0}: {1}: give the path of a file of keys that this user may read; store-client key new makes one", path.display(), cause)]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{} can be read by every user, or changed by its group (mode {mode:04o}): chmod 600 {0}", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{}: line {line} is not a key: 64 hexadecimal digits are expected; store-client key new makes them", path.display())]
    Malformed { path: PathBuf, line: usize },
    #[error("{} holds no key: store-client key new makes one", path.display())]
    Empty { path: PathBuf },
    #[error("{} holds more than {MAX_KEYS} keys or {MAX_BYTES} bytes: remove keys that are not used any more", path.display())]
    TooLong { path: PathBuf },
    #[error("{}: line {line} is a client's key, which opens no datanode: give the file of the cluster's keys", path.display())]
    OfClient { path: PathBuf, line: usize },
    #[error(
        "{}: line {line} is a key of the cluster, and a client holds one of its own: \
         store-client key client --from {0} makes it", path.display()
    )]
    OfCluster { path: PathBuf, line: usize },
    #[error("cannot write {}: {cause}", path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
}

/// The keys of a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKeys {
    /// Keys of the cluster, at least one.
    Cluster(Vec<ClusterKey>),
    /// Keys of a client, at least one.
    Client(Vec<PurposeKey>),
}

/// Reads the keys of `path`.
///
/// # Errors
/// Fails with a [`KeyError`] if the file cannot be read, if others may read it, or if it holds anything else than keys for
/// `holder`.
pub fn read(path: &Path, holder: KeyHolder) -> Result<FileKeys, KeyError> {
    let unreadable = |cause| KeyError::Unreadable { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("not a file")));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & FORBIDDEN != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(KeyError::TooLong { path: path.to_owned() });
    }
    parse(&text, path, holder)
}

fn parse(text: &str, path: &Path, holder: KeyHolder) -> Result<FileKeys, KeyError> {
    let mut keys = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (is_client, digits) = match line.strip_prefix(CLIENT) {
            Some(digits) => (true, digits.trim_start()),
            None => (false, line),
        };
        let path = || path.to_owned();
        let key: SecretKey =
            digits.parse().map_err(|_| KeyError::Malformed { path: path(), line: number })?;
        match (holder, is_client) {
            (KeyHolder::Cluster, true) => return Err(KeyError::OfClient { path: path(), line: number }),
            (KeyHolder::Client, false) => return Err(KeyError::OfCluster { path: path(), line: number }),
            (KeyHolder::Cluster, false) | (KeyHolder::Client, true) => keys.push(key),
        }
    }
    match keys.len() {
        0 => Err(KeyError::Empty { path: path.to_owned() }),
        1..=MAX_KEYS => Ok(match holder {
            KeyHolder::Cluster => FileKeys::Cluster(keys.into_iter().map(ClusterKey).collect()),
            KeyHolder::Client => FileKeys::Client(keys.into_iter().map(PurposeKey::new).collect()),
        }),
        _ => Err(KeyError::TooLong { path: path.to_owned() }),
    }
}

/// Returns the line of a file that holds this key of the cluster.
#[must_use]
pub fn cluster_line(key: &ClusterKey) -> String {
    format!("{}\n", key.0.to_hex())
}

/// Returns the lines of a client's file: the client's key of each key of the cluster, in the same order.
#[must_use]
pub fn client_lines(keys: &[ClusterKey]) -> String {
    keys.iter().map(|key| format!("{CLIENT} {}\n", key.of(KeyPurpose::Client).secret.to_hex())).collect()
}

/// Writes a new file that only its owner may read.
///
/// # Errors
/// Fails if the file exists already, or cannot be written.
pub fn create(path: &Path, lines: &str) -> Result<(), KeyError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|cause| KeyError::Unwritable { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn told(text: &str, holder: KeyHolder) -> String {
        parse(text, Path::new("k"), holder).unwrap_err().to_string()
    }

    #[test]
    fn files_are_read_in_their_order() {
        let other = DIGITS.replace('0', "f");
        let text = format!("# the new one\n{other}\n\n  {DIGITS}  \r\n");
        let keys = [&other, DIGITS].map(|digits| ClusterKey(digits.parse().unwrap()));
        assert_eq!(
            parse(&text, Path::new("k"), KeyHolder::Cluster).unwrap(),
            FileKeys::Cluster(keys.to_vec())
        );
        let of_clients = keys.iter().map(|key| key.of(KeyPurpose::Client)).collect();
        let lines = client_lines(&keys);
        assert_eq!(parse(&lines, Path::new("k"), KeyHolder::Client).unwrap(), FileKeys::Client(of_clients));
        assert_eq!(cluster_line(&keys[1]), format!("{DIGITS}\n"));
    }

    #[test]
    fn errors_tell_the_way_out() {
        let client = format!("client {DIGITS}");
        let cases = [
            ("", KeyHolder::Cluster, "k holds no key: store-client key new makes one"),
            ("#\n", KeyHolder::Client, "k holds no key: store-client key new makes one"),
            (
                "\n12\n",
                KeyHolder::Cluster,
                "k: line 2 is not a key: 64 hexadecimal digits are expected; store-client key new makes them",
            ),
            (
                &client,
                KeyHolder::Cluster,
                "k: line 1 is a client's key, which opens no datanode: give the file of the cluster's keys",
            ),
            (
                DIGITS,
                KeyHolder::Client,
                "k: line 1 is a key of the cluster, and a client holds one of its own: \
                 store-client key client --from k makes it",
            ),
        ];
        for (text, holder, expected) in cases {
            assert_eq!(told(text, holder), expected);
        }
        let many = format!("{DIGITS}\n").repeat(MAX_KEYS + 1);
        assert!(told(&many, KeyHolder::Cluster).contains("more than 16 keys"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, &format!("{DIGITS}\n")).unwrap();
        assert!(
            matches!(create(&path, "x"), Err(KeyError::Unwritable { .. })),
            "the key that exists is kept"
        );
        for (mode, is_good) in
            [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o604, false), (0o660, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let outcome = read(&path, KeyHolder::Cluster);
            assert_eq!(outcome.is_ok(), is_good, "{mode:o}");
            if let Err(error) = outcome {
                assert!(error.to_string().contains(&format!("(mode {mode:04o}): chmod 600 ")), "{error}");
            }
        }
        let missing = read(&folder.path().join("none"), KeyHolder::Cluster).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read "), "{missing}");
        let of_folder = read(folder.path(), KeyHolder::Cluster);
        assert!(matches!(of_folder, Err(KeyError::Unreadable { .. })));
    }
}
