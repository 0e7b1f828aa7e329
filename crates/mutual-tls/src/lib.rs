//! Tasca 1: TLS between master, workers and clients. Both ends of a connection show a certificate of the cluster, and whoever has
//! none is refused before a byte of a request is read.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`certificates`] | makes the folders of certificates: the cluster's authority, its nodes, its clients |
//! | [`folder`] | reads what a program needs of such a folder |
//! | [`tls`] | both ends of a connection, with the certificates of a folder, which is read again when it has changed |
//!
//! There are two kinds of certificates. A *node's* opens everything. A *client's* opens the master, as a client: with it nobody is a
//! worker, or gives tasks to workers. All are signed by the cluster's own authority, so that no other one is trusted.
//!
//! Which address a node is called at does not matter to the programs of the cluster: a node's certificate is valid for the name
//! [`NODE_NAME`], which they ask for whatever address they call. The certificate also holds the names that other clients ask
//! for, such as `localhost`, because Arrow Flight and Python compare the name with the address that they call.

pub mod certificates;
pub mod folder;
pub mod tls;

pub use folder::{NODE_NAME, TlsFolderError, TlsHolder};
pub use tls::{Application, MutualTls, PeerRole, explained};
