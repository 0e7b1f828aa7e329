//! Redis.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ::brokers::RedisServer;
use async_trait::async_trait;
use bytes::Bytes;
use middleware::brokered::BrokerSettings;
use middleware::redis::RedisTransport;
use middleware::{Endpoint, SharedTransport, TransportError};

use super::faults::{self, BrokerSetup};
use crate::answering::Answering;
use crate::conformance::{Setup, ask, eventually};

/// A server that the tests of this process share. It ends with the process.
fn shared_server() -> Option<String> {
    static SERVER: OnceLock<Option<Mutex<RedisServer>>> = OnceLock::new();
    // Each test that is skipped counts.
    if !RedisServer::is_installed() {
        return None;
    }
    let server = SERVER.get_or_init(|| RedisServer::start().map(Mutex::new)).as_ref()?;
    Some(server.lock().unwrap().url())
}

/// Transports of one cluster, apart from all other ones by its prefix.
pub struct RedisSetup {
    url: String,
    settings: BrokerSettings,
}

impl RedisSetup {
    fn at(url: String) -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test[{}]", CLUSTERS.fetch_add(1, Ordering::Relaxed));
        Self { url, settings: super::quick(prefix) }
    }

    fn with(mut self, change: impl FnOnce(&mut BrokerSettings)) -> Self {
        change(&mut self.settings);
        self
    }
}

#[async_trait]
impl Setup for RedisSetup {
    async fn transport(&self) -> SharedTransport {
        Arc::new(RedisTransport::new(&self.url, self.settings.clone()).unwrap())
    }
}

impl BrokerSetup for RedisSetup {
    fn words(&self) -> [String; 3] {
        ["redis".to_owned(), self.url.clone(), self.settings.prefix.clone()]
    }
}

async fn setup() -> Option<RedisSetup> {
    shared_server().map(RedisSetup::at)
}

conformance!(setup().await);
broker_faults!(setup().await);

/// A server of its own, for tests that kill it or measure it.
fn own_server() -> Option<(RedisServer, RedisSetup)> {
    let server = RedisServer::start()?;
    let setup = RedisSetup::at(server.url());
    Some((server, setup))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_broker_comes_back_empty() {
    let Some((mut server, setup)) = own_server() else { return };
    let restart = move || {
        server.kill();
        server.restart();
        server
    };
    let (server, again) = faults::broker_is_killed_in_the_middle(&setup, restart).await;
    assert!(again > 0, "what the broker held was lost");
    assert!(server.info("uptime_in_seconds") < 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_lose_nothing() {
    let Some((server, setup)) = own_server() else { return };
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::Worker("a".to_owned());
    let _server = Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint);
    let mut pieces = asker.request(&endpoint, Bytes::from_static(b"fill 300 100000")).await.unwrap();
    let mut received = 0;
    while let Some(piece) = futures_util::StreamExt::next(&mut pieces).await {
        assert_eq!(piece.unwrap()[0], received as u8);
        received += 1;
        if [50, 150].contains(&received) {
            let killed: u32 = server.ask("CLIENT KILL TYPE normal SKIPME yes").parse().unwrap();
            assert!(killed >= 3, "{killed} connections were broken");
        }
    }
    assert_eq!(received, 300, "the reply goes on after its connections broke");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_reply_does_not_fill_the_broker() {
    let Some((server, setup)) = own_server() else { return };
    faults::long_reply(&setup, || ()).await;
    let peak = server.info("used_memory_peak");
    assert!(peak > 1 << 20, "pieces went through the broker: peak {peak}");
    assert!(peak < 100 << 20, "the broker held {peak} bytes");
    assert!(server.info("used_memory") < 10 << 20, "what is read is deleted");
}

#[tokio::test]
async fn workers_are_announced_until_they_are_gone() {
    let Some(setup) = setup().await else { return };
    let (transport, other) = (setup.transport().await, shared_server().map(RedisSetup::at).unwrap());
    assert!(transport.announced().await.unwrap().is_empty());
    for name in ["a", "b"] {
        let description = Bytes::from(format!("I am {name}"));
        transport.announce(name, description, Duration::from_secs(60)).await.unwrap();
    }
    transport.announce("gone", Bytes::new(), Duration::from_millis(1)).await.unwrap();
    let start = std::time::Instant::now();
    while transport.announced().await.unwrap() != ["I am a", "I am b"] {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", transport.announced().await);
    }
    assert!(other.transport().await.announced().await.unwrap().is_empty());
}

#[tokio::test]
async fn only_so_many_requests_wait() {
    let Some(setup) = setup().await else { return };
    let setup = setup.with(|settings| settings.max_waiting = 3);
    let asker = setup.transport().await;
    let nobody = Endpoint::Worker("nobody".to_owned());
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(asker.request(&nobody, Bytes::new()).await.unwrap());
    }
    let refused = asker.request(&nobody, Bytes::new()).await.err();
    assert!(
        matches!(&refused, Some(TransportError::Unreachable { cause, .. }) if cause.contains("3 requests wait"))
    );
    drop(waiting);
    // Requests whose askers left are withdrawn.
    eventually_accepted(&asker, &nobody).await;
}

async fn eventually_accepted(asker: &SharedTransport, to: &Endpoint) {
    let start = std::time::Instant::now();
    while asker.request(to, Bytes::new()).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "the requests are not withdrawn");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn wrong_addresses_are_named_without_their_password() {
    for url in ["http://user:secret@host", "redis://user:secret@host:notaport", "secret"] {
        let refused = RedisTransport::new(url, BrokerSettings::default()).err().unwrap();
        let text = refused.to_string();
        assert!(matches!(refused, TransportError::Invalid(_)), "{text}");
        assert!(text.contains("redis://USER"), "{text}");
        assert!(url == "secret" || !text.contains("secret"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_a_broker_that_is_away() {
    let Some((mut server, setup)) = own_server() else { return };
    server.kill();
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::Master(String::new());
    let served = endpoint.clone();
    let serving = tokio::spawn(async move { transport.serve(&served, 4).await.unwrap() });
    let early = tokio::spawn({
        let (asker, endpoint) = (asker.clone(), endpoint.clone());
        async move { eventually(&asker, &endpoint, "echo early").await }
    });
    let impatient = setup.with(|settings| settings.patience = Duration::from_millis(50)).transport().await;
    let refused = ask(&impatient, &endpoint, "echo never").await;
    assert!(matches!(refused, Err(TransportError::Unreachable { .. })), "{refused:?}");
    server.restart();
    let _server = Answering::start(serving.await.unwrap(), &endpoint);
    assert_eq!(early.await.unwrap(), ["early"]);
}
