//! RabbitMQ.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::brokers::RabbitServer;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use middleware::brokered::BrokerSettings;
use middleware::rabbitmq::RabbitmqTransport;
use middleware::{Endpoint, SharedTransport, TransportError};
use tokio::sync::RwLock;

use super::faults::{self, BrokerSetup};
use crate::answering::Answering;
use crate::conformance::{Setup, ask, eventually};

/// A server that the tests of this process share. It ends with the process. A test that kills it has it for itself.
fn shared_server() -> Option<&'static RwLock<RabbitServer>> {
    static SERVER: OnceLock<Option<RwLock<RabbitServer>>> = OnceLock::new();
    // Each test that is skipped counts.
    if !RabbitServer::is_installed() {
        return None;
    }
    SERVER.get_or_init(|| RabbitServer::start().map(RwLock::new)).as_ref()
}

/// Transports of one cluster, apart from all other ones by its prefix.
pub struct RabbitSetup {
    url: String,
    settings: BrokerSettings,
    /// Nobody kills the server while this lives.
    server: Option<tokio::sync::RwLockReadGuard<'static, RabbitServer>>,
}

impl RabbitSetup {
    fn at(url: String) -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test{}", CLUSTERS.fetch_add(1, Ordering::Relaxed));
        Self { url, settings: super::quick(prefix), server: None }
    }
}

#[async_trait]
impl Setup for RabbitSetup {
    async fn transport(&self) -> SharedTransport {
        Arc::new(RabbitmqTransport::new(&self.url, self.settings.clone()).unwrap())
    }
}

impl BrokerSetup for RabbitSetup {
    fn words(&self) -> [String; 3] {
        ["rabbitmq".to_owned(), self.url.clone(), self.settings.prefix.clone()]
    }
}

async fn setup() -> Option<RabbitSetup> {
    // The first test waits for the server here, which takes seconds.
    let server = tokio::task::spawn_blocking(shared_server).await.unwrap()?.read().await;
    let setup = RabbitSetup::at(server.url());
    Some(RabbitSetup { server: Some(server), ..setup })
}

conformance!(setup().await);
broker_faults!(setup().await);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_broker_comes_back() {
    let Some(server) = tokio::task::spawn_blocking(shared_server).await.unwrap() else { return };
    let mut server = server.write().await;
    let setup = RabbitSetup::at(server.url());
    let restart = move || {
        let before = server.control(&["eval", "os:getpid()."]);
        server.kill();
        server.restart();
        (before, server.control(&["eval", "os:getpid()."]))
    };
    let ((before, after), _again) = faults::broker_is_killed_in_the_middle(&setup, restart).await;
    assert_ne!(before, after, "the broker was killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_lose_no_request() {
    let Some(server) = tokio::task::spawn_blocking(shared_server).await.unwrap() else { return };
    let server = server.write().await;
    let setup = RabbitSetup::at(server.url());
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::Worker("a".to_owned());
    let _server = Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint);
    let mut pieces = asker.request(&endpoint, Bytes::from_static(b"fill 300 100000")).await.unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap()[0], 0);
    let server = tokio::task::spawn_blocking(move || {
        let _ = server.control(&["close_all_connections", "a test"]);
        server
    });
    let _server = server.await.unwrap();
    let mut received = 1;
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => assert_eq!(piece[0], received as u8),
            // The request was delivered again, because the taker's connection broke.
            Err(error) => {
                assert!(error.to_string().contains("lost in the middle"), "{error}");
                break;
            }
        }
        received += 1;
    }
    assert!(received > 1);
    assert_eq!(eventually(&asker, &endpoint, "echo next").await, ["next"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_reply_does_not_fill_the_broker() {
    let Some(setup) = setup().await else { return };
    let server = setup.server.as_ref().unwrap();
    let mut most = 0;
    faults::long_reply(&setup, || {
        let queues = tokio::task::block_in_place(|| {
            server.control(&["list_queues", "name", "message_bytes", "--no-table-headers"])
        });
        let inboxes =
            queues.lines().filter(|line| line.starts_with(&format!("{}.replies.", setup.settings.prefix)));
        // A queue that has just been made has no figure yet.
        let bytes = inboxes.map(|line| line.rsplit('\t').next().unwrap().trim().parse::<u64>().unwrap_or(0));
        let bytes: Vec<u64> = bytes.collect();
        assert_eq!(bytes.len(), 2, "the inboxes are seen: {queues}");
        most = most.max(bytes.iter().sum());
    })
    .await;
    assert!(most <= 8 << 20, "the queues held {most} bytes");
}

#[tokio::test]
async fn only_so_many_requests_wait() {
    let Some(mut setup) = setup().await else { return };
    setup.settings.max_waiting = 3;
    let asker = setup.transport().await;
    let nobody = Endpoint::Worker("nobody".to_owned());
    let mut waiting = Vec::new();
    let refused = loop {
        match asker.request(&nobody, Bytes::new()).await {
            Ok(pieces) => waiting.push(pieces),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10, "the queue has no bound");
    };
    assert!(waiting.len() >= 3);
    assert!(
        matches!(&refused, TransportError::Unreachable { cause, .. } if cause.contains("3 requests wait"))
    );
}

#[tokio::test]
async fn wrong_addresses_are_named_without_their_password() {
    for url in ["http://user:secret@host", "amqp://user:secret@host:notaport", "secret"] {
        let refused = RabbitmqTransport::new(url, BrokerSettings::default()).err().unwrap();
        let text = refused.to_string();
        assert!(matches!(refused, TransportError::Invalid(_)), "{text}");
        assert!(text.contains("amqp://USER"), "{text}");
        assert!(url == "secret" || !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn wrong_password_is_said_at_once() {
    let Some(setup) = setup().await else { return };
    let url = setup.url.replace("guest:guest", "guest:secret");
    let transport: SharedTransport = Arc::new(RabbitmqTransport::new(&url, setup.settings.clone()).unwrap());
    let refused = ask(&transport, &Endpoint::AnyWorker, "echo").await.unwrap_err().to_string();
    assert!(refused.contains("RabbitMQ refuses") && !refused.contains("secret"), "{refused}");
}

#[tokio::test]
async fn broker_that_is_away_is_named() {
    let settings = BrokerSettings { patience: Duration::from_millis(100), ..super::quick("test".to_owned()) };
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("amqp://guest:guest@127.0.0.1:{port}");
    let transport: SharedTransport = Arc::new(RabbitmqTransport::new(&url, settings).unwrap());
    let refused = ask(&transport, &Endpoint::AnyWorker, "echo").await.unwrap_err().to_string();
    assert!(refused.contains(&port.to_string()) && refused.contains("guest:***"), "{refused}");
}
