//! gRPC and XML-RPC over TLS: the whole suite, and who is let in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use middleware::connect::{Middleware, TransportSettings, connect};
use middleware::xmlrpc::{MethodServer, Methods, Value, method};
use middleware::{Endpoint, MutualTls, SharedTransport, TlsHolder, TransportError};
use mutual_tls::certificates::make;
use tokio::time::{Instant, timeout};

use crate::answering::Answering;
use crate::conformance::{Setup, ask, start};

static OURS: LazyLock<tempfile::TempDir> = LazyLock::new(certificates);
static THEIRS: LazyLock<tempfile::TempDir> = LazyLock::new(certificates);

fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &[]).unwrap();
    folder
}

async fn transport(middleware: Middleware, certificates: Option<(&Path, TlsHolder)>) -> SharedTransport {
    let tls = certificates.map(|(folder, holder)| MutualTls::open(folder, holder).unwrap());
    connect(middleware, TransportSettings { tls, ..TransportSettings::default() }).await.unwrap()
}

/// Transports of the nodes of one cluster.
pub struct NodeSetup(Middleware);

#[async_trait]
impl Setup for NodeSetup {
    async fn transport(&self) -> SharedTransport {
        transport(self.0, Some((OURS.path(), TlsHolder::Node))).await
    }
}

/// Runs the suite, and then what TLS is for.
macro_rules! over_tls {
    ($name:ident, $middleware:expr) => {
        mod $name {
            use super::*;

            async fn setup() -> Option<NodeSetup> {
                Some(NodeSetup($middleware))
            }

            conformance!(setup().await);

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn junk_does_no_harm() {
                crate::direct::junk_does_no_harm(&NodeSetup($middleware)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn only_nodes_give_work_to_workers() {
                super::only_nodes_give_work_to_workers($middleware).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn whoever_shows_no_certificate_gets_nothing() {
                super::whoever_shows_no_certificate_gets_nothing($middleware).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn silent_connections_keep_nobody_out() {
                super::silent_connections_keep_nobody_out($middleware).await;
            }
        }
    };
}

over_tls!(grpc, Middleware::Grpc);
over_tls!(xmlrpc, Middleware::XmlRpc);

async fn only_nodes_give_work_to_workers(middleware: Middleware) {
    let node = NodeSetup(middleware);
    let client = transport(middleware, Some((OURS.path(), TlsHolder::Client))).await;
    let worker = start(&node, "a").await;
    assert_eq!(ask(&node.transport().await, &worker.endpoint, "echo 1").await.unwrap(), ["1"]);
    let refused = ask(&client, &worker.endpoint, "echo 1").await.unwrap_err();
    assert!(matches!(refused, TransportError::Protocol { .. }), "{refused:?}");
    assert!(refused.to_string().contains("only the nodes of the cluster may ask this"), "{refused}");
    // A master is asked by clients, too, and sees who they are.
    let endpoint = Endpoint::Master("127.0.0.1:0".to_owned());
    let serving = node.transport().await;
    let master = Answering::start(serving.serve(&endpoint, 8).await.unwrap(), &endpoint);
    assert_eq!(ask(&client, &master.endpoint, "peer").await.unwrap(), ["Client"]);
    assert_eq!(ask(&serving, &master.endpoint, "peer").await.unwrap(), ["Node"]);
}

async fn whoever_shows_no_certificate_gets_nothing(middleware: Middleware) {
    let worker = start(&NodeSetup(middleware), "a").await;
    let plain = transport(middleware, None).await;
    let other = transport(middleware, Some((THEIRS.path(), TlsHolder::Node))).await;
    assert!(ask(&plain, &worker.endpoint, "echo 1").await.is_err());
    let refused = ask(&other, &worker.endpoint, "echo 1").await.unwrap_err();
    assert!(refused.to_string().contains("it has no certificate of this cluster"), "{refused}");
    // The other way round: a server that has none.
    let endpoint = Endpoint::Worker("127.0.0.1:0".to_owned());
    let server = Answering::start(plain.serve(&endpoint, 8).await.unwrap(), &endpoint);
    let node = NodeSetup(middleware).transport().await;
    let refused = ask(&node, &server.endpoint, "echo 1").await.unwrap_err();
    assert!(matches!(refused, TransportError::Unreachable { .. }), "{refused}");
    assert_eq!(ask(&plain, &server.endpoint, "echo 1").await.unwrap(), ["1"]);
}

async fn silent_connections_keep_nobody_out(middleware: Middleware) {
    let worker = start(&NodeSetup(middleware), "a").await;
    let Endpoint::Worker(address) = &worker.endpoint else { panic!("no address") };
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    let begun = Instant::now();
    let asking = NodeSetup(middleware).transport().await;
    let reply = timeout(Duration::from_secs(4), ask(&asking, &worker.endpoint, "echo 1")).await;
    assert_eq!(reply.expect("it waits for the silent ones").unwrap(), ["1"], "{:?}", begun.elapsed());
    // Some of them had to go.
    let closed = silent.iter().filter(|connection| is_closed(connection)).count();
    assert!(closed >= 40, "{closed} of {} were closed", silent.len());
}

fn is_closed(mut connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).unwrap();
    let gone = |error: std::io::Error| error.kind() != std::io::ErrorKind::WouldBlock;
    connection.read(&mut [0]).map_or_else(gone, |bytes| bytes == 0)
}

#[tokio::test]
async fn methods_are_for_clients_too() {
    let add =
        method(|parameters| async move { Ok(parameters.into_iter().next().unwrap_or(Value::Boolean(true))) });
    let methods = Methods::from([("first".to_owned(), add)]);
    let tls = MutualTls::open(OURS.path(), TlsHolder::Node).unwrap();
    let server = MethodServer::start("127.0.0.1:0", methods, Some(tls)).await.unwrap();
    let client = MutualTls::open(OURS.path(), TlsHolder::Client).unwrap();
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let mut stream = client.connect(stream, mutual_tls::Application::XmlRpc).await.unwrap();
    let call = "<methodCall><methodName>first</methodName><params><param><value><int>7</int></value></param></params></methodCall>";
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{call}",
        call.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("7</"), "{reply}");
    // The same without TLS is closed without a word.
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(request.as_bytes()).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut heard = Vec::new();
    let _reset = plain.read_to_end(&mut heard);
    assert!(!heard.windows(4).any(|bytes| bytes == b"HTTP"), "{heard:?}");
}
