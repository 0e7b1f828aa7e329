//! Makes folders of certificates. [`folder`](crate::folder) has the list of the files.
//!
//! All keys are ECDSA on P-256, which every client of Arrow Flight and Python knows. The certificates are valid until the year
//! 4096: a cluster whose certificates end at night serves nobody, and whoever has lost a key replaces the authority anyway.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::folder::{AUTHORITY, AUTHORITY_KEY, NODE_NAME, TlsHolder};

/// Names that a node's certificate always holds, for clients on the same computer.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why certificates were not made. The texts tell the way out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CertificatesError {
    #[error("{} is there already, and programs may use it: give another folder, or remove the file", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}: {cause}", path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
    #[error("cannot read {}: {cause}: `dataframe certificates new` makes an authority", path.display())]
    NoAuthority { path: PathBuf, cause: io::Error },
    #[error("{}: {cause}: `dataframe certificates new` makes an authority", path.display())]
    BadAuthority { path: PathBuf, cause: rcgen::Error },
    #[error("{host:?} is neither the name of a computer nor an address: {cause}")]
    Host { host: String, cause: rcgen::Error },
    #[error("cannot make a certificate: {0}")]
    Failed(#[from] rcgen::Error),
}

/// Makes an authority, a node's certificate that is also valid for `hosts`, and a client's, all in `folder`, which is made if
/// it is missing.
///
/// # Errors
/// Fails with a [`CertificatesError`]. Files that are there are not written over.
pub fn make(folder: &Path, hosts: &[String]) -> Result<(), CertificatesError> {
    // What can go wrong goes wrong before anything is written: half a folder of certificates is of no use.
    let _certificate = node(hosts)?;
    make_folder(folder)?;
    let holders = [TlsHolder::Node, TlsHolder::Client];
    let files = holders.iter().flat_map(|holder| [holder.certificate(), holder.key()]);
    for path in files.chain([AUTHORITY, AUTHORITY_KEY]).map(|file| folder.join(file)) {
        if path.exists() {
            return Err(CertificatesError::Exists { path });
        }
    }
    let key = KeyPair::generate()?;
    let authority = authority(&key).self_signed(&key)?;
    create(&folder.join(AUTHORITY_KEY), &key.serialize_pem(), 0o600)?;
    create(&folder.join(AUTHORITY), &authority.pem(), 0o644)?;
    issue(folder, folder, TlsHolder::Node, hosts)?;
    issue(folder, folder, TlsHolder::Client, &[])
}

/// Makes a certificate for `holder` and its key in the folder `to`, signed by the authority of the folder `from`. Whom that folder
/// trusts, the new one trusts too.
///
/// # Errors
/// As [`make`].
pub fn issue(from: &Path, to: &Path, holder: TlsHolder, hosts: &[String]) -> Result<(), CertificatesError> {
    let path = from.join(AUTHORITY_KEY);
    let pem = std::fs::read_to_string(&path)
        .map_err(|cause| CertificatesError::NoAuthority { path: path.clone(), cause })?;
    let authority_key =
        KeyPair::from_pem(&pem).map_err(|cause| CertificatesError::BadAuthority { path, cause })?;
    let issuer = Issuer::new(authority(&authority_key), authority_key);
    let key = KeyPair::generate()?;
    let certificate = match holder {
        TlsHolder::Node => node(hosts)?,
        TlsHolder::Client => client(),
    };
    let certificate = certificate.signed_by(&key, &issuer)?;
    make_folder(to)?;
    create(&to.join(holder.key()), &key.serialize_pem(), 0o600)?;
    create(&to.join(holder.certificate()), &certificate.pem(), 0o644)?;
    let (trusted, copy) = (from.join(AUTHORITY), to.join(AUTHORITY));
    if !copy.exists() {
        std::fs::copy(&trusted, &copy)
            .map_err(|cause| CertificatesError::Unwritable { path: copy, cause })?;
    }
    Ok(())
}

/// The authority of a key. Its name comes from the key, so that one authority is not taken for another one.
fn authority(key: &KeyPair) -> CertificateParams {
    let mut authority = CertificateParams::default();
    let number: String =
        authority.key_identifier(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    authority.distinguished_name = named(&format!("dataframe cluster {number}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority
}

/// A node calls others, too: the master its workers, and workers the master.
fn node(hosts: &[String]) -> Result<CertificateParams, CertificatesError> {
    let mut node = CertificateParams::default();
    for host in [NODE_NAME].iter().chain(&LOCAL).copied().chain(hosts.iter().map(String::as_str)) {
        let of_host = CertificateParams::new([host.to_owned()])
            .map_err(|cause| CertificatesError::Host { host: host.to_owned(), cause })?;
        node.subject_alt_names.extend(of_host.subject_alt_names);
    }
    node.distinguished_name = named("dataframe node");
    node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    node.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    node.use_authority_key_identifier_extension = true;
    Ok(node)
}

/// A client is nobody's server: its certificate does not serve for that.
fn client() -> CertificateParams {
    let mut client = CertificateParams::default();
    client.distinguished_name = named("dataframe client");
    client.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    client.use_authority_key_identifier_extension = true;
    client
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn make_folder(folder: &Path) -> Result<(), CertificatesError> {
    std::fs::create_dir_all(folder)
        .map_err(|cause| CertificatesError::Unwritable { path: folder.to_owned(), cause })
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), CertificatesError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => CertificatesError::Exists { path: path.to_owned() },
        _ => CertificatesError::Unwritable { path: path.to_owned(), cause },
    })
}
