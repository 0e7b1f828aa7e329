//! An object store behind the protocol of S3, as far as it is used: put, put if absent, get, delete and list. The objects are in
//! memory. A server of others (`s3s`) would change the features of DataFusion's libraries, and have them compiled once more.
//!
//! The settings of S3 come from the environment. So the suite runs in a process of its own, which has them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use middleware::brokered::BrokerSettings;
use middleware::objectstore::ObjectStoreTransport;
use middleware::{Endpoint, SharedTransport};

use super::faults::BrokerSetup;
use crate::answering::Answering;
use crate::conformance::{Setup, ask, eventually};

/// Tells the tests of this file that the environment has the settings of an S3.
const HAS_S3: &str = "MIDDLEWARE_TEST_S3";
const BUCKET: &str = "cluster";
const DATE: &str = "Mon, 02 Jan 2023 03:04:05 GMT";
/// Objects in one page of a list. Short, so that there are several.
const PAGE: usize = 50;

/// One bucket.
#[derive(Default)]
struct MemoryS3 {
    objects: Mutex<BTreeMap<String, (Bytes, usize)>>,
    puts: AtomicUsize,
    puts_if_absent: AtomicUsize,
    is_away: AtomicBool,
    refused: AtomicUsize,
}

type S3Reply = Response<Full<Bytes>>;

fn reply(status: StatusCode, body: impl Into<Bytes>) -> S3Reply {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn error(status: StatusCode, code: &str) -> S3Reply {
    reply(
        status,
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"),
    )
}

/// Keys have no other characters that are escaped in a URL.
fn decoded(text: &str) -> String {
    text.replace("%2F", "/").replace("%5B", "[").replace("%25", "%")
}

impl MemoryS3 {
    async fn answer(&self, request: Request<Incoming>) -> S3Reply {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.is_away.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        if !text("authorization").starts_with("AWS4-HMAC-SHA256 Credential=test-key/") {
            return error(StatusCode::FORBIDDEN, "InvalidAccessKeyId");
        }
        let path = decoded(head.uri.path());
        let Some(key) = path.strip_prefix(&format!("/{BUCKET}")) else {
            return error(StatusCode::NOT_FOUND, "NoSuchBucket");
        };
        let (key, query) = (key.trim_start_matches('/'), head.uri.query().unwrap_or_default());
        match head.method {
            Method::PUT => self.put(key, body, text("if-none-match") == "*"),
            Method::POST if query.starts_with("delete") => self.delete(&body),
            Method::GET if key.is_empty() => self.list(query),
            Method::GET | Method::HEAD => self.get(key),
            _ => error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        }
    }

    fn put(&self, key: &str, body: Bytes, if_absent: bool) -> S3Reply {
        let mut objects = self.objects.lock().unwrap();
        self.puts_if_absent.fetch_add(usize::from(if_absent), Ordering::SeqCst);
        if if_absent && objects.contains_key(key) {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let version = self.puts.fetch_add(1, Ordering::SeqCst);
        objects.insert(key.to_owned(), (body, version));
        tagged(reply(StatusCode::OK, ""), version)
    }

    fn get(&self, key: &str) -> S3Reply {
        let objects = self.objects.lock().unwrap();
        match objects.get(key) {
            Some((body, version)) => tagged(reply(StatusCode::OK, body.clone()), *version),
            None => error(StatusCode::NOT_FOUND, "NoSuchKey"),
        }
    }

    fn delete(&self, body: &[u8]) -> S3Reply {
        let mut objects = self.objects.lock().unwrap();
        let body = std::str::from_utf8(body).unwrap();
        let mut told = String::new();
        for part in body.split("<Key>").skip(1) {
            let key = part.split("</Key>").next().unwrap();
            objects.remove(key);
            told.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
        }
        reply(StatusCode::OK, format!("<?xml version=\"1.0\"?><DeleteResult>{told}</DeleteResult>"))
    }

    fn list(&self, query: &str) -> S3Reply {
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
        };
        let (prefix, delimiter) = (value("prefix").unwrap_or_default(), value("delimiter"));
        let after = value("continuation-token").unwrap_or_default();
        let objects = self.objects.lock().unwrap();
        let (mut told, mut count, mut next, mut last_prefix) =
            (String::new(), 0, String::new(), String::new());
        let mut last = String::new();
        for (key, (body, version)) in objects.range(after.clone()..).filter(|(key, _)| **key > after) {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            if count == PAGE {
                next = format!("<NextContinuationToken>{last}</NextContinuationToken>");
                break;
            }
            last.clone_from(key);
            if let Some(end) = rest.find('/').filter(|_| delimiter.is_some()) {
                let folder = format!("{prefix}{}", &rest[..=end]);
                if folder != last_prefix {
                    told.push_str(&format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"));
                    count += 1;
                }
                last_prefix = folder;
                continue;
            }
            count += 1;
            let size = body.len();
            told.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>2023-01-02T03:04:05.000Z</LastModified><ETag>\"{version}\"</ETag><Size>{size}</Size></Contents>"
            ));
        }
        let is_truncated = !next.is_empty();
        reply(
            StatusCode::OK,
            format!(
                "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>{is_truncated}</IsTruncated>{next}{told}</ListBucketResult>"
            ),
        )
    }
}

fn tagged(mut reply: S3Reply, version: usize) -> S3Reply {
    reply.headers_mut().insert("etag", format!("\"{version}\"").parse().unwrap());
    reply.headers_mut().insert("last-modified", DATE.parse().unwrap());
    reply
}

/// Serves the objects at a port of loopback, for as long as the runtime lives.
async fn serve(store: &Arc<MemoryS3>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let store = Arc::clone(store);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let store = Arc::clone(&store);
            let service = service_fn(move |request| {
                let store = Arc::clone(&store);
                async move { Ok::<_, Infallible>(store.answer(request).await) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // A client may go at any time.
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    format!("http://{address}")
}

/// The tests of this module in a process whose environment has the settings of this S3.
async fn run_cases(endpoint: &str, key: &str, cases: &str) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("brokers::s3::{cases}"), "--nocapture", "--test-threads", "4"]);
    command.envs([(HAS_S3, "yes"), ("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", "test-secret")]);
    command.envs([("AWS_ENDPOINT", endpoint), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "us-east-1")]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_suite_holds_over_s3() {
    let store = Arc::<MemoryS3>::default();
    let (success, told) = run_cases(&serve(&store).await, "test-key", "cases::").await;
    assert!(success && told.contains("18 passed"), "{told}");
    let (puts, if_absent) = (store.puts.load(Ordering::SeqCst), store.puts_if_absent.load(Ordering::SeqCst));
    assert!(puts > 1000 && if_absent > 300, "{puts} objects were put, {if_absent} of them if absent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_refused() {
    let store = Arc::<MemoryS3>::default();
    let (success, told) = run_cases(&serve(&store).await, "another-key", "refused::").await;
    assert!(success && told.contains("1 passed"), "{told}");
    assert_eq!(store.puts.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_that_is_away_is_waited_for() {
    let store = Arc::<MemoryS3>::default();
    let endpoint = serve(&store).await;
    let away = Arc::clone(&store);
    let switching = tokio::spawn(async move {
        while away.puts.load(Ordering::SeqCst) < 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        away.is_away.store(true, Ordering::SeqCst);
        while away.refused.load(Ordering::SeqCst) < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        away.is_away.store(false, Ordering::SeqCst);
    });
    let (success, told) = run_cases(&endpoint, "test-key", "away::").await;
    assert!(success && told.contains("1 passed"), "{told}");
    assert!(switching.is_finished(), "the S3 was to be away meanwhile");
}

struct S3Setup(String);

fn setup() -> Option<S3Setup> {
    static CLUSTERS: AtomicUsize = AtomicUsize::new(0);
    std::env::var_os(HAS_S3)?;
    let cluster = CLUSTERS.fetch_add(1, Ordering::SeqCst);
    Some(S3Setup(format!("s3://{BUCKET}/a/prefix/{}-{cluster}", std::process::id())))
}

#[async_trait]
impl Setup for S3Setup {
    async fn transport(&self) -> SharedTransport {
        Arc::new(ObjectStoreTransport::new(&self.0, None, super::quick("test".to_owned())).unwrap())
    }
}

impl BrokerSetup for S3Setup {
    fn words(&self) -> [String; 3] {
        ["objectstore".to_owned(), self.0.clone(), "test".to_owned()]
    }
}

mod cases {
    use super::setup;

    conformance!(setup());
    broker_faults!(setup());
}

mod refused {
    use super::*;

    #[tokio::test]
    async fn a_transport_says_so_at_once() {
        let Some(setup) = setup() else { return };
        let settings = BrokerSettings { patience: Duration::from_secs(600), ..BrokerSettings::default() };
        let transport: SharedTransport =
            Arc::new(ObjectStoreTransport::new(&setup.0, None, settings).unwrap());
        let refused = transport.serve(&Endpoint::AnyWorker, 1).await.err().expect("the key is wrong");
        assert!(!refused.to_string().contains("test-secret"), "{refused}");
        let refused = ask(&transport, &Endpoint::AnyWorker, "echo").await.unwrap_err();
        assert!(refused.to_string().contains("s3://cluster"), "{refused}");
    }
}

mod away {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_go_on() {
        let Some(setup) = setup() else { return };
        let (transport, asker) = (setup.transport().await, setup.transport().await);
        let endpoint = Endpoint::AnyWorker;
        let _server = Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint);
        for number in 0..100 {
            let text = number.to_string();
            assert_eq!(eventually(&asker, &endpoint, &format!("echo {text}")).await, [text]);
        }
    }
}
