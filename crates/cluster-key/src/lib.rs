//! All assignments: the key of a cluster. Whoever holds it belongs to the cluster; everybody else is refused.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`secret`] | keys, and the keys that are derived from them for each purpose |
//! | [`file`](mod@file) | the files of keys: their lines, their access rights, new ones |
//! | [`keyring`] | the keys of a running program, which reads its file again and again |
//! | [`sealed`], [`replay`] | datagrams that prove who sent them; those that were received before |
//! | [`datagrams`] | datagrams with or without a key |
//! | [`handshake`] | how two programs prove to each other that they hold one key |
//! | [`channel`], [`stream`] | an encrypted connection; one with or without a key |
//! | [`listener`] | connections that have shown their key, and the others |
//! | [`network`] | all of it as one [`Network`](service::net::Network), which wraps another one |
//!
//! The crate knows neither the programs that use it nor their messages. What it does not do: files are not encrypted, whoever
//! holds the cluster's key is trusted with everything, and whoever can drop what two programs send can stop them.

pub mod channel;
pub mod datagrams;
pub mod file;
pub mod handshake;
pub mod keyring;
pub mod listener;
pub mod network;
pub mod replay;
pub mod sealed;
pub mod secret;
pub mod stream;

pub use file::{KeyError, KeyHolder};
pub use handshake::HandshakeError;
pub use keyring::Keyring;
pub use listener::Door;
pub use network::KeyedNetwork;
pub use secret::{ClusterKey, KeyId, KeyPurpose};
pub use stream::{KeyedStream, connect, handshake_error};
