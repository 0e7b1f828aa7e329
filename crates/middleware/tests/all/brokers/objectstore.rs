//! An object store: a folder, with a fast store and without.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ::brokers::RedisServer;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use middleware::brokered::BrokerSettings;
use middleware::objectstore::ObjectStoreTransport;
use middleware::{Endpoint, SharedTransport, TransportError};
use tempfile::TempDir;

use super::faults::BrokerSetup;
use crate::answering::{Answering, answer, collect};
use crate::conformance::{PAUSE, Setup, ask, eventually, until};

/// Transports that share one bucket.
pub struct BucketSetup {
    folder: TempDir,
    fast_store: Option<String>,
    settings: BrokerSettings,
}

impl BucketSetup {
    fn new() -> Self {
        let (folder, settings) = (tempfile::tempdir().unwrap(), super::quick("test".to_owned()));
        Self { folder, fast_store: None, settings }
    }

    /// The folder of the cluster in the bucket.
    fn root(&self) -> PathBuf {
        self.folder.path().join("test")
    }

    fn url(&self) -> String {
        let path = self.folder.path().display();
        match &self.fast_store {
            Some(redis) => format!("{path}+{redis}"),
            None => path.to_string(),
        }
    }
}

#[async_trait]
impl Setup for BucketSetup {
    async fn transport(&self) -> SharedTransport {
        let path = format!("file://{}", self.folder.path().display());
        let transport = ObjectStoreTransport::new(&path, self.fast_store.as_deref(), self.settings.clone());
        Arc::new(transport.unwrap())
    }
}

impl BrokerSetup for BucketSetup {
    fn words(&self) -> [String; 3] {
        ["objectstore".to_owned(), self.url(), self.settings.prefix.clone()]
    }
}

/// A transport of the bucket that another process made, from its words.
pub fn transport(url: &str, settings: BrokerSettings) -> SharedTransport {
    let (path, fast_store) = match url.split_once('+') {
        Some((path, redis)) => (path, Some(redis)),
        None => (url, None),
    };
    Arc::new(ObjectStoreTransport::new(path, fast_store, settings).unwrap())
}

async fn setup() -> Option<BucketSetup> {
    Some(BucketSetup::new())
}

conformance!(setup().await);
broker_faults!(setup().await);

mod fast_store {
    use super::*;

    /// A bucket beside a Redis that the tests of this process share.
    async fn setup() -> Option<BucketSetup> {
        static SERVER: OnceLock<Option<Mutex<RedisServer>>> = OnceLock::new();
        if !RedisServer::is_installed() {
            return None;
        }
        let server = SERVER.get_or_init(|| RedisServer::start().map(Mutex::new)).as_ref()?;
        let fast_store = Some(server.lock().unwrap().url());
        Some(BucketSetup { fast_store, ..BucketSetup::new() })
    }

    conformance!(setup().await);
    broker_faults!(setup().await);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn small_pieces_go_through_it_and_the_result_does_not() {
        let Some(server) = RedisServer::start() else { return };
        let setup = BucketSetup { fast_store: Some(server.url()), ..BucketSetup::new() };
        let (transport, asker) = (setup.transport().await, setup.transport().await);
        let mut requests = transport.serve(&Endpoint::AnyWorker, 1).await.unwrap();
        let mut pieces = asker.request(&Endpoint::AnyWorker, Bytes::from_static(b"two")).await.unwrap();
        let mut incoming = requests.next().await;
        incoming.reply.send(Bytes::from_static(b"small")).await.unwrap();
        assert_eq!(pieces.next().await.unwrap().unwrap(), "small");
        assert!(files(&setup.root().join("replies")).is_empty(), "the piece went through Redis");
        let carried: usize = server.ask("INFO commandstats").matches("cmdstat_xadd").count();
        assert_eq!(carried, 1, "Redis has carried the piece");
        // A long piece and what follows it stay with the bucket, in their order.
        incoming.reply.send(Bytes::from(vec![7; 1 << 20])).await.unwrap();
        incoming.reply.send(Bytes::from_static(b"last")).await.unwrap();
        incoming.reply.finish().await.unwrap();
        let rest: Vec<_> = collect(pieces).await.unwrap().iter().map(Bytes::len).collect();
        assert_eq!(rest, [1 << 20, 4]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn programs_without_it_meet_those_with_it() {
        let Some(server) = RedisServer::start() else { return };
        let setup = BucketSetup { fast_store: Some(server.url()), ..BucketSetup::new() };
        let with = setup.transport().await;
        let without = super::transport(setup.folder.path().to_str().unwrap(), setup.settings.clone());
        for (serving, asker, name) in [(&with, &without, "a"), (&without, &with, "b")] {
            let endpoint = Endpoint::Worker(name.to_owned());
            let _server = Answering::start(serving.serve(&endpoint, 4).await.unwrap(), &endpoint);
            assert_eq!(ask(asker, &endpoint, "count 100").await.unwrap().len(), 100);
            // Longer than what may lie in the bucket, so that its reader has to say how far it is.
            assert_eq!(ask(asker, &endpoint, "fill 80 1000000").await.unwrap().len(), 80);
        }
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The results that lie in a bucket.
fn results(root: &Path) -> Vec<PathBuf> {
    let is_result = |path: &PathBuf| path.to_string_lossy().ends_with("-result");
    files(&root.join("replies")).into_iter().filter(is_result).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_finish_one_request_one_counts() {
    let setup = BucketSetup::new();
    let (first, second) = (setup.transport().await, setup.transport().await);
    let mut requests = first.serve(&Endpoint::AnyWorker, 1).await.unwrap();
    request_of_a_lost_asker(&setup).await;
    let held = requests.next().await;
    let ticket = held.reply.ticket().expect("a bucket has tickets");
    let mut replies = Vec::new();
    for transport in [&first, &second] {
        let incoming = transport.take_up(&ticket).await.unwrap().expect("nobody has answered yet");
        assert_eq!(incoming.request, "task");
        replies.push(incoming.reply);
    }
    // Both have worked, and finish at the same moment.
    let finished =
        futures_util::future::join_all(replies.into_iter().map(middleware::ReplySink::finish)).await;
    assert_eq!(finished.iter().filter(|finished| finished.is_ok()).count(), 1, "{finished:?}");
    assert_eq!(results(&setup.root()).len(), 1);
    assert!(second.take_up(&ticket).await.unwrap().is_none(), "an answered request is taken up by nobody");
    drop(held);
    until(|| files(&setup.root().join("claims")).is_empty(), "the claim is gone").await;
    assert!(files(&setup.root().join("requests")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_process_died_says_so_at_once() {
    let setup = BucketSetup::new();
    let (holder, asker) = (setup.transport().await, setup.transport().await);
    let mut requests = holder.serve(&Endpoint::AnyWorker, 2).await.unwrap();
    for has_begun in [false, true] {
        let mut pieces = asker.request(&Endpoint::AnyWorker, Bytes::from_static(b"task")).await.unwrap();
        let held = requests.next().await;
        if has_begun {
            let function = setup.transport().await;
            let mut taken = function.take_up(&held.reply.ticket().unwrap()).await.unwrap().unwrap();
            taken.reply.send(Bytes::from_static(b"started")).await.unwrap();
            assert_eq!(pieces.next().await.unwrap().unwrap(), "started");
        }
        held.reply.fail("the process was killed").await.unwrap();
        let error = pieces.next().await.expect("there is no result").unwrap_err();
        assert!(
            matches!(&error, TransportError::Unreachable { cause, .. } if cause == "the process was killed")
        );
    }
    until(|| files(&setup.root().join("requests")).is_empty(), "the requests are gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_died_after_its_result_has_succeeded() {
    let setup = BucketSetup::new();
    let (holder, function) = (setup.transport().await, setup.transport().await);
    let asker = setup.transport().await;
    let mut requests = holder.serve(&Endpoint::AnyWorker, 1).await.unwrap();
    let pieces = asker.request(&Endpoint::AnyWorker, Bytes::from_static(b"task")).await.unwrap();
    let held = requests.next().await;
    let mut taken = function.take_up(&held.reply.ticket().unwrap()).await.unwrap().unwrap();
    taken.reply.send(Bytes::from_static(b"all")).await.unwrap();
    // A result is an object: nothing else has to be told to anybody.
    taken.reply.finish().await.unwrap();
    held.reply.fail("the process was killed").await.unwrap();
    assert_eq!(collect(pieces).await.unwrap(), ["all"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_answered_requests() {
    let setup = BucketSetup::new();
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::AnyWorker;
    let _server = Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint);
    for number in 0..20 {
        assert_eq!(ask(&asker, &endpoint, &format!("count {number}")).await.unwrap().len(), number);
    }
    let left = || files(&setup.root()).into_iter().filter(|path| !path.to_string_lossy().contains("inboxes"));
    until(|| left().count() == 0, "requests, claims and replies are gone").await;
    asker.clear().await.unwrap();
    assert!(files(&setup.root()).is_empty(), "{:?}", files(&setup.root()));
}

/// Whoever reads sees an object whole or not at all, although it is written anew all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_half_an_object() {
    let setup = BucketSetup::new();
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::AnyWorker;
    let _server = Answering::start(transport.serve(&endpoint, 8).await.unwrap(), &endpoint);
    let asks = (0..8).map(|_| async {
        let mut pieces = asker.request(&endpoint, Bytes::from_static(b"fill 30 1000000")).await.unwrap();
        for number in 0..30 {
            let piece = pieces.next().await.unwrap().unwrap();
            assert!(piece.len() == 1_000_000 && piece.iter().all(|byte| *byte == number), "piece {number}");
        }
        assert!(pieces.next().await.is_none());
    });
    futures_util::future::join_all(asks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_with_other_names_harm_nobody() {
    let setup = BucketSetup::new();
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let outside = setup.folder.path().join("outside");
    std::fs::write(&outside, "not a part of the cluster").unwrap();
    let endpoint = Endpoint::AnyWorker;
    let _server = Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint);
    ask(&asker, &endpoint, "echo first").await.unwrap();
    let inbox = std::fs::read_dir(setup.root().join("inboxes")).unwrap().next().unwrap().unwrap().file_name();
    for folder in ["requests/tasks", "claims", "inboxes", &format!("replies/{}", inbox.to_str().unwrap())] {
        let folder = setup.root().join(folder);
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        for name in ["..%2f..%2foutside", "a\nb", "%2e%2e", "x-y", "ask-result", &"n".repeat(200), "#1", "é"]
        {
            std::fs::write(folder.join(name), "junk").unwrap();
        }
        use std::os::unix::ffi::OsStrExt as _;
        std::fs::write(folder.join(std::ffi::OsStr::from_bytes(&[0xff, 0xfe])), "junk").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
    }
    // A request and letters whose names are right, and whose contents are not.
    let ask_of_nobody = "01JB0000000000000000000001";
    let strange = [
        (format!("requests/tasks/{ask_of_nobody}-{ask_of_nobody}"), "echo nobody".to_owned()),
        (format!("requests/tasks/01JB0000000000000000000002-{ask_of_nobody}"), "x".repeat((1 << 20) + 1)),
        (
            format!("replies/{}/{ask_of_nobody}-result", inbox.to_str().unwrap()),
            "1 2 ../../outside".to_owned(),
        ),
        (
            format!("replies/{}/01JB0000000000000000000003-result", inbox.to_str().unwrap()),
            "y".repeat(10_000),
        ),
    ];
    for (path, body) in &strange {
        std::fs::write(setup.root().join(path), body).unwrap();
    }
    for number in 0..20 {
        let text = number.to_string();
        assert_eq!(ask(&asker, &endpoint, &format!("echo {text}")).await.unwrap(), [text]);
    }
    until(|| !strange.iter().any(|(path, _)| setup.root().join(path).exists()), "what is wrong is dropped")
        .await;
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "not a part of the cluster");
    asker.clear().await.unwrap();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "not a part of the cluster");
}

#[tokio::test]
async fn a_ticket_is_checked() {
    let setup = BucketSetup::new();
    let transport = setup.transport().await;
    for ticket in ["", "tasks", "tasks ../../../etc/passwd 1", "../.. a-b 1", "tasks a-b x"] {
        let refused = transport.take_up(ticket).await.err();
        assert!(matches!(refused, Some(TransportError::Invalid(_))), "{ticket:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_is_waited_for() {
    let setup = BucketSetup::new();
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::AnyWorker;
    let server = Answering::start(transport.serve(&endpoint, 8).await.unwrap(), &endpoint);
    let mut pieces = asker.request(&endpoint, Bytes::from_static(b"fill 200 1000000")).await.unwrap();
    for _ in 0..3 {
        pieces.next().await.unwrap().unwrap();
    }
    let settings = BrokerSettings { patience: Duration::from_millis(50), ..setup.settings.clone() };
    let impatient = self::transport(&setup.url(), settings);
    let elsewhere = setup.folder.path().with_extension("away");
    std::fs::rename(setup.folder.path(), &elsewhere).unwrap();
    let early = tokio::spawn({
        let asker = asker.clone();
        async move { eventually(&asker, &Endpoint::AnyWorker, "echo early").await }
    });
    // Whoever may not wait hears of it.
    let refused = ask(&impatient, &endpoint, "echo never").await;
    assert!(matches!(refused, Err(TransportError::Unreachable { .. })), "{refused:?}");
    assert!(server.sent.load(Ordering::SeqCst) < 200, "the reply was to be on its way");
    // Something may have been put while the folder went away, and has made another one.
    while std::fs::rename(&elsewhere, setup.folder.path()).is_err() {
        std::fs::remove_dir_all(setup.folder.path()).unwrap();
    }
    assert_eq!(early.await.unwrap(), ["early"]);
    let mut received = 3;
    while let Some(piece) = pieces.next().await {
        assert_eq!(piece.unwrap()[0], received as u8);
        received += 1;
    }
    assert_eq!(received, 200, "the reply goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_requests_wait() {
    let mut setup = BucketSetup::new();
    setup.settings.max_waiting = 3;
    let asker = setup.transport().await;
    let nobody = Endpoint::Worker("nobody/../..".to_owned());
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(asker.request(&nobody, Bytes::new()).await.unwrap());
    }
    let refused = asker.request(&nobody, Bytes::new()).await.err();
    assert!(
        matches!(&refused, Some(TransportError::Unreachable { cause, .. }) if cause.contains("3 requests wait"))
    );
    assert_eq!(files(&setup.root().join("requests")).len(), 3, "the name of a worker leads nowhere else");
    drop(waiting);
    // Requests whose askers left are withdrawn.
    while asker.request(&nobody, Bytes::new()).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn what_is_no_bucket_is_refused() {
    for url in
        ["", "http://host/bucket", "s3://", "s3:///prefix", "s3://key:secret@bucket", "file://host/path"]
    {
        let refused = ObjectStoreTransport::new(url, None, BrokerSettings::default()).err().unwrap();
        let text = refused.to_string();
        assert!(matches!(refused, TransportError::Invalid(_)), "{text}");
        assert!(text.contains("s3://BUCKET/PREFIX") && !text.contains("secret"), "{text}");
    }
}

/// A function that goes on when its holder is lost, and another one that has the request then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_function_of_a_lost_holder_changes_nothing() {
    let setup = BucketSetup::new();
    let asker = setup.transport().await;
    let reply = tokio::spawn({
        let asker = asker.clone();
        async move { ask(&asker, &Endpoint::AnyWorker, "echo task").await }
    });
    let ticket = ticket_of_a_lost_holder(&setup).await;
    let function = setup.transport().await;
    let late = function.take_up(&ticket).await.unwrap().unwrap();
    let other = setup.transport().await;
    let mut requests = other.serve(&Endpoint::AnyWorker, 1).await.unwrap();
    drop(requests.next().await);
    let endpoint = Endpoint::AnyWorker;
    let _server = Answering::start(requests, &endpoint);
    assert_eq!(reply.await.unwrap().unwrap(), ["task"]);
    // The asker has read the result, and does not wait any more.
    let _ = answer(late, &AtomicUsize::new(0)).await;
    assert_eq!(ask(&asker, &endpoint, "echo next").await.unwrap(), ["next"]);
    until(|| results(&setup.root()).is_empty(), "a result that nobody waits for is dropped").await;
}

/// A ticket whose holder has ended without a word: nothing of it runs any more.
async fn ticket_of_a_lost_holder(setup: &BucketSetup) -> String {
    let (url, settings) = (setup.url(), setup.settings.clone());
    let lost = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ticket = runtime.block_on(async {
            let mut requests = transport(&url, settings).serve(&Endpoint::AnyWorker, 1).await.unwrap();
            let held = requests.next().await;
            let ticket = held.reply.ticket().unwrap();
            std::mem::forget(held);
            ticket
        });
        runtime.shutdown_background();
        ticket
    });
    lost.await.unwrap()
}

/// Leaves a request whose asker has ended without a word, so that nobody takes its result away.
async fn request_of_a_lost_asker(setup: &BucketSetup) {
    let (url, settings) = (setup.url(), setup.settings.clone());
    let lost = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let asker = transport(&url, settings);
            let pieces = asker.request(&Endpoint::AnyWorker, Bytes::from_static(b"task")).await.unwrap();
            std::mem::forget(pieces);
        });
        runtime.shutdown_background();
    });
    lost.await.unwrap();
}
