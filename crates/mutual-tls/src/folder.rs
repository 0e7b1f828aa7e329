//! What a program needs of a folder of certificates.
//!
//! | file | what it holds | who needs it |
//! | --- | --- | --- |
//! | `ca.pem` | the authorities that are trusted, one or several | everybody |
//! | `ca.key` | the key of the authority, which signs certificates | nobody but `dataframe certificates` |
//! | `node.pem`, `node.key` | the certificate of the master and the workers, and its key | master and workers |
//! | `client.pem`, `client.key` | the certificate of the clients, and its key | clients |

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio_rustls::rustls;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name that every node's certificate is valid for, and no client's. It ends in `.internal`, which nobody can register.
pub const NODE_NAME: &str = "node.dataframe.internal";
/// The authorities that are trusted.
pub const AUTHORITY: &str = "ca.pem";
/// The authority's key.
pub const AUTHORITY_KEY: &str = "ca.key";
/// Access rights that no file of a key may have: all of others, and writing by the group.
const FORBIDDEN: u32 = 0o027;

/// Whose certificate is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsHolder {
    /// The master, or a worker.
    Node,
    /// A client.
    Client,
}

impl TlsHolder {
    /// The file of the certificate.
    #[must_use]
    pub fn certificate(self) -> &'static str {
        match self {
            TlsHolder::Node => "node.pem",
            TlsHolder::Client => "client.pem",
        }
    }

    /// The file of the certificate's key.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            TlsHolder::Node => "node.key",
            TlsHolder::Client => "client.key",
        }
    }
}

/// Why a folder of certificates cannot be used. The texts tell the way out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TlsFolderError {
    #[error("cannot read {}: {cause}: give a folder that `dataframe certificates` has made", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{} can be read by every user, or changed by its group (mode {mode:04o}): chmod 600 {0}", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{}: {cause}: `dataframe certificates` makes such files", path.display())]
    Malformed { path: PathBuf, cause: String },
    #[error("{} holds no certificate", path.display())]
    Empty { path: PathBuf },
    #[error("the certificates of {} cannot be used: {cause}", folder.display())]
    Unusable { folder: PathBuf, cause: rustls::Error },
}

/// What a program shows, and whom it trusts.
pub(crate) struct Credentials {
    pub(crate) authorities: RootCertStore,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Tells whether the files have changed: the time of the last change, and the size of each.
pub(crate) type Stamp = [Option<(SystemTime, u64)>; 3];

/// Returns the present stamp of the files that `holder` needs.
pub(crate) fn stamp(folder: &Path, holder: TlsHolder) -> Stamp {
    [AUTHORITY, holder.certificate(), holder.key()].map(|file| {
        let metadata = std::fs::metadata(folder.join(file)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

/// Reads the files that `holder` needs.
pub(crate) fn read(folder: &Path, holder: TlsHolder) -> Result<Credentials, TlsFolderError> {
    let mut authorities = RootCertStore::empty();
    let path = folder.join(AUTHORITY);
    for authority in read_certificates(&path)? {
        authorities.add(authority).map_err(|cause| malformed(&path, &cause))?;
    }
    let chain = read_certificates(&folder.join(holder.certificate()))?;
    let key = read_key(&folder.join(holder.key()))?;
    Ok(Credentials { authorities, chain, key })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFolderError> {
    let bytes = read_bytes(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|cause| malformed(path, &cause))?;
    if certificates.is_empty() {
        return Err(TlsFolderError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFolderError> {
    let bytes = read_bytes(path)?;
    let metadata = std::fs::metadata(path);
    let mode = metadata.map_err(|cause| unreadable(path, cause))?.mode() & 0o7777;
    if mode & FORBIDDEN != 0 {
        return Err(TlsFolderError::Exposed { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|cause| malformed(path, &cause))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, TlsFolderError> {
    std::fs::read(path).map_err(|cause| unreadable(path, cause))
}

fn unreadable(path: &Path, cause: io::Error) -> TlsFolderError {
    TlsFolderError::Unreadable { path: path.to_owned(), cause }
}

fn malformed(path: &Path, cause: &impl ToString) -> TlsFolderError {
    TlsFolderError::Malformed { path: path.to_owned(), cause: cause.to_string() }
}
