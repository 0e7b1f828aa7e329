//! The server, asked over TCP as browsers, monitors and attackers do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use page::{Check, FrameStamp, Health, PageConfig, RawFile, Source};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use service::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that counts how often it is asked for its state.
#[derive(Debug)]
struct Example {
    registry: Registry,
    frames: AtomicU64,
    watched: AtomicBool,
    ready: AtomicBool,
    folder: tempfile::TempDir,
}

impl Source for Example {
    const HAS_PAGE: bool = true;

    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let ready = self.ready.load(Ordering::Relaxed);
        let seen = if ready { "1 of 1" } else { "0 of 1" }.to_owned();
        let check = |name, passed, seen| Check { name, passed, seen };
        Health {
            live: vec![check("loop", true, "ok".to_owned())],
            ready: vec![check("datanodes", ready, seen)],
        }
    }

    fn run(&self) -> String {
        "RUN".to_owned()
    }

    async fn frame(&self, stamp: FrameStamp) -> serde_json::Result<Vec<u8>> {
        let frames = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        // 4 KiB is what a frame may have.
        let frame = format!(r#"{{"n":{},"frames":{frames},"fill":"{}"}}"#, stamp.number, "x".repeat(4000));
        Ok(frame.into_bytes())
    }

    async fn query(&self, what: &str, argument: Option<&str>) -> Option<Vec<u8>> {
        (what == "echo").then(|| argument.unwrap_or("nothing").as_bytes().to_vec())
    }

    fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    fn files(&self) -> Vec<RawFile> {
        let name = "data.txt".to_owned();
        vec![RawFile { path: self.folder.path().join(&name), name }]
    }
}

/// Starts a server, and returns its address and what it tells about.
async fn start() -> (SocketAddr, Arc<Example>, Shutdown) {
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    registry.register("asked", "Questions", counter.clone());
    counter.inc();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.txt"), "hola\n").unwrap();
    std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    let (frames, watched, ready) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(true));
    let example = Arc::new(Example { registry, frames, watched, ready, folder });
    let config = PageConfig {
        address: Some("127.0.0.1:0".parse().unwrap()),
        required: true,
        hosts: vec!["store.example".to_owned()],
    };
    let listener = page::bind(&config).unwrap().unwrap();
    let (address, shutdown) = (listener.address, Shutdown::new());
    tokio::spawn(page::serve(listener, example.clone(), shutdown.clone()));
    (address, example, shutdown)
}

/// Sends `head` and returns all that comes back until the server closes.
async fn exchange(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses may reset the connection after its answer.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time");
    String::from_utf8(answer).unwrap()
}

/// Asks for a path as a browser on this computer does.
async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// Opens a page, and returns its connection once the head of the answer is there.
async fn open_page(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

/// Reads until `text` has come, and returns all that was read.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = vec![0; 64 * 1024];
    while !seen.contains(text) {
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "closed after {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    seen
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_served() {
    let (address, example, _) = start().await;
    for (path, kind, content) in [
        ("/", "text/html", "<html"),
        ("/page.js", "text/javascript", "import"),
        ("/page.css", "text/css", "prefers-reduced-motion"),
        ("/api/frame", "application/json", r#""n":1"#),
        ("/api/echo?since=7", "application/json", "7"),
        ("/files/data.txt", "text/plain", "hola"),
        ("/metrics", "text/plain; version=0.0.4", "asked_total 1"),
        ("/livez", "text/plain", "ok"),
        ("/healthz", "text/plain", "ok"),
        ("/readyz", "text/plain", "ok"),
        ("/readyz?verbose", "text/plain", "[+]datanodes: 1 of 1"),
    ] {
        let answer = get(address, path).await;
        assert_eq!(status(&answer), 200, "{path}: {answer}");
        assert!(answer.contains(&format!("content-type: {kind}")), "{path}: {answer}");
        assert!(answer.contains(content), "{path}: {answer}");
        for protection in ["content-security-policy: default-src 'none'", "nosniff", "no-store"] {
            assert!(answer.contains(protection), "{path}: {answer}");
        }
    }
    example.ready.store(false, Ordering::Relaxed);
    let answer = get(address, "/readyz").await;
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("[-]datanodes: 0 of 1"), "{answer}");
    assert_eq!(status(&get(address, "/livez").await), 200, "a restart would not help");
}

#[tokio::test]
async fn what_is_refused() {
    let (address, _, _) = start().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "HOLA"] {
        let target = if method == "CONNECT" { "localhost:1" } else { "/metrics" };
        let answer = exchange(
            address,
            &format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(status(&answer), 405, "{method}: {answer}");
    }
    let ask = |host: &str| format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for host in [
        "localhost",
        "LOCALHOST:5080",
        "127.0.0.1",
        "[::1]:5080",
        "10.0.0.7:80",
        "store.example:5080",
        "Store.Example",
    ] {
        assert_eq!(status(&exchange(address, &ask(host)).await), 200, "{host}");
    }
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""]
    {
        assert_eq!(status(&exchange(address, &ask(host)).await), 421, "{host}");
    }
    assert_eq!(status(&exchange(address, "GET / HTTP/1.0\r\n\r\n").await), 421, "no host at all");
    for path in [
        "/files/../secret.txt",
        "/files/..%2fsecret.txt",
        "/files/secret.txt",
        "/files/",
        "/nothing",
        "/api/nothing",
        "//",
    ] {
        let answer = get(address, path).await;
        assert_eq!(status(&answer), 404, "{path}: {answer}");
        assert!(!answer.contains("secret"), "{path}: {answer}");
    }
    let with_body = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhola";
    assert_eq!(status(&exchange(address, with_body).await), 413);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(17 * 1024));
    assert_eq!(status(&exchange(address, &long).await), 431);
    let head = exchange(address, "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(status(&head) == 200 && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_slow_head_is_not_waited_for() {
    let (address, _, _) = start().await;
    let started = Instant::now();
    let answer = exchange(address, "GET / HTTP/1.1\r\nHost: loc").await;
    assert!(started.elapsed() >= Duration::from_secs(4), "closed after {:?}", started.elapsed());
    assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
}

#[tokio::test]
async fn frames_are_made_only_while_a_page_is_open_and_once_for_all() {
    let (address, example, _) = start().await;
    assert_eq!(example.frames.load(Ordering::Relaxed), 0);
    let mut pages = Vec::new();
    for _ in 0..20 {
        pages.push(open_page(address).await);
    }
    for page in &mut pages {
        let seen = read_until(page, "event: frame\nid: RUN:3\ndata: {\"n\":3,").await;
        assert!(seen.contains("content-type: text/event-stream"), "{seen}");
    }
    assert!(example.watched.load(Ordering::Relaxed));
    let newest = get(address, "/api/frame").await;
    let made = example.frames.load(Ordering::Relaxed);
    assert!(newest.contains(&format!(r#""frames":{made}"#)), "every frame was made once: {newest}");
    drop(pages);
    until("nobody looks any more", || !example.watched.load(Ordering::Relaxed)).await;
}

#[tokio::test]
async fn a_page_that_reads_again_gets_the_newest_frame_only() {
    let (address, example, _) = start().await;
    let mut slow = open_page(address).await;
    let mut quick = open_page(address).await;
    // The slow page reads nothing until the other one is far ahead. What waits for it meanwhile is in the sockets.
    for _ in 0..6 {
        read_until(&mut quick, "\n\n").await;
    }
    assert!(example.frames.load(Ordering::Relaxed) >= 5);
    read_until(&mut slow, "event: frame").await;
}

#[tokio::test]
async fn the_page_over_the_limit_is_told_so() {
    let (address, example, _) = start().await;
    let mut pages = Vec::new();
    for _ in 0..1024 {
        pages.push(open_page(address).await);
    }
    let refused = get(address, "/events").await;
    assert_eq!(status(&refused), 503, "{refused}");
    assert_eq!(status(&get(address, "/metrics").await), 200, "monitors are still answered");
    pages.truncate(1000);
    let started = Instant::now();
    while status(
        &exchange(address, "HEAD /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await,
    ) != 200
    {
        assert!(started.elapsed() < PATIENCE);
    }
    open_page(address).await;
    assert!(example.watched.load(Ordering::Relaxed));
}

#[tokio::test]
async fn the_server_ends_with_its_program() {
    let (address, _, shutdown) = start().await;
    let mut page = open_page(address).await;
    shutdown.request();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, page.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the page stays open");
    assert!(TcpStream::connect(address).await.is_err(), "the port stays open");
}
