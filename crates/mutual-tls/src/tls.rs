//! Both ends of a connection, with the certificates of a folder.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ClientConfig, InvalidMessage, ServerConfig, version};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::folder::{Credentials, NODE_NAME, Stamp, TlsFolderError, TlsHolder, read, stamp};

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is spoken on a connection, which both ends name to each other (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// gRPC, which is HTTP/2.
    Grpc,
    /// XML-RPC, which is HTTP/1.1.
    XmlRpc,
}

impl Application {
    fn protocol(self) -> Vec<u8> {
        match self {
            Application::Grpc => b"h2".to_vec(),
            Application::XmlRpc => b"http/1.1".to_vec(),
        }
    }
}

/// Who is at the other end of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRole {
    /// The master, or a worker.
    Node,
    /// A client.
    Client,
}

/// The certificates of a running program. Clones are the same.
#[derive(Clone)]
pub struct MutualTls(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    holder: TlsHolder,
    state: Mutex<State>,
}

struct State {
    stamp: Stamp,
    looked: Instant,
    ends: Ends,
}

/// What connections are made with.
#[derive(Clone)]
struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl MutualTls {
    /// Reads the certificates of a folder. They are read again when they have changed, for connections that begin after that.
    ///
    /// # Errors
    /// Fails with a [`TlsFolderError`] if the folder cannot be used.
    pub fn open(folder: &Path, holder: TlsHolder) -> Result<Self, TlsFolderError> {
        let stamp = stamp(folder, holder);
        let ends = ends(folder, holder)?;
        let state = Mutex::new(State { stamp, looked: Instant::now(), ends });
        Ok(Self(Arc::new(Shared { folder: folder.to_owned(), holder, state })))
    }

    /// Lets a peer prove who it is, and proves it to the peer.
    ///
    /// # Errors
    /// Fails if the peer has no certificate of the cluster, or does not speak TLS 1.3.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        application: Application,
    ) -> io::Result<(server::TlsStream<S>, PeerRole)> {
        let mut config = ServerConfig::clone(&self.ends().server);
        config.alpn_protocols = vec![application.protocol()];
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = if shown.is_some_and(is_node) { PeerRole::Node } else { PeerRole::Client };
        Ok((stream, peer))
    }

    /// Proves to a node who this is, and lets it prove that it is a node.
    ///
    /// # Errors
    /// Fails if the other end is no node of the cluster. Whether that end accepts this one shows when the first bytes are read.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        application: Application,
    ) -> io::Result<client::TlsStream<S>> {
        let mut config = ClientConfig::clone(&self.ends().client);
        config.alpn_protocols = vec![application.protocol()];
        TlsConnector::from(Arc::new(config)).connect(node_name(), stream).await.map_err(explained)
    }

    /// Reads the files again if they have changed. Connections look once a second by themselves. Files that cannot be used are
    /// logged, and what was read before stays in use.
    pub fn reload(&self) {
        self.look(&mut self.lock());
    }

    fn ends(&self) -> Ends {
        let mut state = self.lock();
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        state.ends.clone()
    }

    fn look(&self, state: &mut State) {
        let Shared { folder, holder, .. } = &*self.0;
        let now = stamp(folder, *holder);
        if now == state.stamp {
            return;
        }
        // Files that cannot be used are complained about once, until they change again.
        state.stamp = now;
        match ends(folder, *holder) {
            Ok(ends) => {
                state.ends = ends;
                tracing::info!(folder = %folder.display(), "the certificates have changed");
            }
            Err(error) => {
                tracing::warn!(%error, "the certificates are not read again: those that were read before stay in use");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MutualTls({:?} of {})", self.0.holder, self.0.folder.display())
    }
}

/// Makes both ends. Both speak TLS 1.3 alone: all programs that call a cluster know it.
fn ends(folder: &Path, holder: TlsHolder) -> Result<Ends, TlsFolderError> {
    let Credentials { authorities, chain, key } = read(folder, holder)?;
    let unusable = |cause| TlsFolderError::Unusable { folder: folder.to_owned(), cause };
    let (provider, authorities) = (provider(), Arc::new(authorities));
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(unusable)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(authorities)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    Ok(Ends { server: Arc::new(server), client: Arc::new(client) })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn node_name() -> ServerName<'static> {
    ServerName::try_from(NODE_NAME).expect("the name is one")
}

fn is_node(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&node_name()).is_ok())
}

/// Returns an error of a connection that was begun here with the way out, where there is one. The other end refuses a certificate
/// only after the connection was made, so that the refusal comes when the first bytes are read.
#[must_use]
pub fn explained(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let way_out = match cause {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it does not speak TLS: start it with --tls, or call it without"
        }
        Some(rustls::Error::InvalidCertificate(_)) => "it has no certificate of this cluster",
        Some(rustls::Error::AlertReceived(_)) => "it does not accept the certificate that it was shown",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{way_out} ({error})"))
}
