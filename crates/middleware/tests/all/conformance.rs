//! What every middleware promises.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use middleware::{Endpoint, SharedTransport, TransportError};
use tokio::time::{Instant, sleep, timeout};

use crate::answering::{Answering, answer, collect, reachable};

/// A test that takes this long has failed, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that is waited for.
pub const PAUSE: Duration = Duration::from_millis(10);

/// How far the sender of a reply may be ahead of its reader, in bytes.
const AHEAD: usize = 48 << 20;

/// Makes transports of one middleware.
#[async_trait]
pub trait Setup: Send + Sync {
    /// A transport as another process has it. The transports of one setup meet each other, and those of no other setup.
    async fn transport(&self) -> SharedTransport;
}

/// Runs the whole suite. `$setup` is an expression with `.await` that gives an `Option<impl Setup>`: none where the broker is missing.
macro_rules! conformance {
    ($setup:expr) => {
        conformance!($setup;
            request_and_reply, masters_endpoint, thousand_pieces_in_order, big_reply_in_bounded_memory, two_hundred_answered_backwards,
            dropped_sink, asker_that_leaves, asker_that_leaves_before_its_turn, server_that_starts_later, server_that_comes_back,
            two_endpoints_on_one_transport, what_is_too_long, at_most_so_many_at_once);
    };
    ($setup:expr; $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(setup) = $setup {
                    let case = $crate::conformance::$case(&setup);
                    tokio::time::timeout($crate::conformance::PATIENCE, case).await.expect("the case takes too long");
                }
            }
        )+
    };
}

/// An endpoint to serve: a worker's name, or an address with a port that the system chooses.
pub fn worker(transport: &SharedTransport, name: &str) -> Endpoint {
    let direct = transport.capabilities().calls_workers_directly;
    Endpoint::Worker(if direct { "127.0.0.1:0" } else { name }.to_owned())
}

/// A server that answers as its requests say.
pub async fn start(setup: &impl Setup, name: &str) -> Answering {
    let transport = setup.transport().await;
    let endpoint = worker(&transport, name);
    Answering::start(transport.serve(&endpoint, 64).await.unwrap(), &endpoint)
}

/// Asks, and gives the whole reply.
pub async fn ask(
    transport: &SharedTransport,
    to: &Endpoint,
    request: &str,
) -> Result<Vec<Bytes>, TransportError> {
    collect(transport.request(to, Bytes::copy_from_slice(request.as_bytes())).await?).await
}

pub async fn request_and_reply(setup: &impl Setup) {
    let (server, asker) = (start(setup, "a").await, setup.transport().await);
    assert_eq!(ask(&asker, &server.endpoint, "echo hello").await.unwrap(), ["hello"]);
    assert_eq!(ask(&asker, &server.endpoint, "echo ").await.unwrap(), [""]);
    assert!(ask(&asker, &server.endpoint, "empty").await.unwrap().is_empty());

    let every_byte: Vec<u8> = b"echo ".iter().copied().chain(0..=255).collect();
    let reply = collect(asker.request(&server.endpoint, every_byte.into()).await.unwrap()).await.unwrap();
    assert_eq!(reply, [(0..=255).collect::<Vec<u8>>()]);
}

pub async fn masters_endpoint(setup: &impl Setup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::Master("127.0.0.1:0".to_owned());
    let server = Answering::start(transport.serve(&endpoint, 8).await.unwrap(), &endpoint);
    assert_eq!(ask(&asker, &server.endpoint, "echo who is there").await.unwrap(), ["who is there"]);
}

pub async fn thousand_pieces_in_order(setup: &impl Setup) {
    let (server, asker) = (start(setup, "a").await, setup.transport().await);
    let reply = ask(&asker, &server.endpoint, "count 1000").await.unwrap();
    let numbers: Vec<u32> =
        reply.iter().map(|piece| u32::from_le_bytes(piece[..].try_into().unwrap())).collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<u32>>());
}

pub async fn big_reply_in_bounded_memory(setup: &impl Setup) {
    const PIECES: usize = 200;
    const BYTES: usize = 1 << 20;
    let (server, asker) = (start(setup, "a").await, setup.transport().await);
    let request = format!("fill {PIECES} {BYTES}");
    let mut pieces = asker.request(&server.endpoint, request.into()).await.unwrap();
    let mut received = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        assert_eq!((piece.len(), piece[0], piece[BYTES - 1]), (BYTES, received as u8, received as u8));
        received += 1;
        let ahead = (server.sent.load(Ordering::SeqCst) - (received - 1).min(PIECES)) * BYTES;
        assert!(ahead <= AHEAD, "the sender is {ahead} bytes ahead of the reader");
        if received == 3 {
            // A reader that stops: the sender comes to a halt, too.
            settled(|| server.sent.load(Ordering::SeqCst)).await;
        }
    }
    assert_eq!(received, PIECES);
}

/// Waits until a number has not changed for a while.
async fn settled(number: impl Fn() -> usize) -> usize {
    let (mut last, mut since) = (number(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        sleep(PAUSE).await;
        if number() != last {
            (last, since) = (number(), Instant::now());
        }
    }
    last
}

pub async fn two_hundred_answered_backwards(setup: &impl Setup) {
    const REQUESTS: usize = 200;
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = worker(&transport, "a");
    let mut requests = transport.serve(&endpoint, REQUESTS).await.unwrap();
    let endpoint = reachable(requests.as_ref(), &endpoint);
    let server = async {
        let mut waiting = Vec::new();
        for _ in 0..REQUESTS {
            waiting.push(requests.next().await);
        }
        for incoming in waiting.into_iter().rev() {
            answer(incoming, &Default::default()).await.unwrap();
        }
        requests
    };
    let texts: Vec<String> = (0..REQUESTS).map(|number| format!("echo {number}")).collect();
    let replies = join_all(texts.iter().map(|text| ask(&asker, &endpoint, text)));
    let (_requests, replies) = tokio::join!(server, replies);
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), [number.to_string()]);
    }
}

pub async fn dropped_sink(setup: &impl Setup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = worker(&transport, "a");
    let mut requests = transport.serve(&endpoint, 4).await.unwrap();
    let endpoint = reachable(requests.as_ref(), &endpoint);
    let direct = transport.capabilities().calls_workers_directly;
    let server = async {
        drop(requests.next().await);
        if !direct {
            answer(requests.next().await, &Default::default()).await.unwrap();
        }
    };
    let (reply, ()) = tokio::join!(ask(&asker, &endpoint, "echo again"), server);
    if direct {
        assert!(matches!(reply, Err(TransportError::Unreachable { .. })), "{reply:?}");
        let mut pieces = {
            let (pieces, ()) = tokio::join!(asker.request(&endpoint, Bytes::from_static(b"break")), async {
                answer(requests.next().await, &Default::default()).await.unwrap();
            });
            pieces.unwrap()
        };
        assert_eq!(pieces.next().await.unwrap().unwrap(), "half");
        let error = pieces.next().await.expect("a broken reply does not look like a whole one").unwrap_err();
        assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
    } else {
        assert_eq!(reply.unwrap(), ["again"]);
    }
}

pub async fn asker_that_leaves(setup: &impl Setup) {
    const PIECES: usize = 2_000;
    let (server, asker) = (start(setup, "a").await, setup.transport().await);
    let request = format!("fill {PIECES} 65536");
    let mut pieces = asker.request(&server.endpoint, request.into()).await.unwrap();
    pieces.next().await.unwrap().unwrap();
    drop(pieces);
    // Either the sink tells that the asker is gone, or the broker takes the rest and drops it.
    let over = || server.refused.load(Ordering::SeqCst) == 1 || server.sent.load(Ordering::SeqCst) == PIECES;
    until(over, "the server learns that its asker is gone").await;
    if asker.capabilities().calls_workers_directly {
        assert_eq!(server.refused.load(Ordering::SeqCst), 1);
    }
    assert_eq!(ask(&asker, &server.endpoint, "echo next").await.unwrap(), ["next"]);
}

/// Requests whose askers leave before they are taken do not keep others out.
pub async fn asker_that_leaves_before_its_turn(setup: &impl Setup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = worker(&transport, "a");
    let requests = transport.serve(&endpoint, 1).await.unwrap();
    let endpoint = reachable(requests.as_ref(), &endpoint);
    for _ in 0..20 {
        let _left = timeout(PAUSE, ask(&asker, &endpoint, "echo nobody")).await;
    }
    let _server = Answering::start(requests, &endpoint);
    assert_eq!(ask(&asker, &endpoint, "echo next").await.unwrap(), ["next"]);
}

pub async fn server_that_starts_later(setup: &impl Setup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let mut endpoint = worker(&transport, "late");
    let direct = asker.capabilities().calls_workers_directly;
    if direct {
        // A port that was free a moment ago.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        endpoint = Endpoint::Worker(socket.local_addr().unwrap().to_string());
        drop(socket);
        let refused = ask(&asker, &endpoint, "echo early").await;
        assert!(matches!(refused, Err(TransportError::Unreachable { .. })), "{refused:?}");
    }
    let early = tokio::spawn({
        let (asker, endpoint) = (SharedTransport::clone(&asker), endpoint.clone());
        async move { eventually(&asker, &endpoint, "echo early").await }
    });
    let _server = Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint);
    assert_eq!(early.await.unwrap(), ["early"]);
}

pub async fn server_that_comes_back(setup: &impl Setup) {
    let (server, asker) = (start(setup, "a").await, setup.transport().await);
    let endpoint = server.endpoint.clone();
    for round in 0..3 {
        let text = format!("echo {round}");
        assert_eq!(eventually(&asker, &endpoint, &text).await, [round.to_string()]);
    }
    server.stop().await;
    let transport = setup.transport().await;
    let again = serve_again(&transport, &endpoint).await;
    assert_eq!(eventually(&asker, &again.endpoint, "echo back").await, ["back"]);
}

/// Serves an address again, as soon as the system lets go of it.
async fn serve_again(transport: &SharedTransport, endpoint: &Endpoint) -> Answering {
    loop {
        match transport.serve(endpoint, 4).await {
            Ok(requests) => return Answering::start(requests, endpoint),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Asks until there is a reply.
pub async fn eventually(transport: &SharedTransport, to: &Endpoint, request: &str) -> Vec<Bytes> {
    loop {
        match ask(transport, to, request).await {
            Ok(reply) => return reply,
            Err(error) => assert!(matches!(error, TransportError::Unreachable { .. }), "{error}"),
        }
        sleep(PAUSE).await;
    }
}

pub async fn two_endpoints_on_one_transport(setup: &impl Setup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let mut servers = VecDeque::new();
    for name in ["a", "b"] {
        let endpoint = worker(&transport, name);
        servers.push_back(Answering::start(transport.serve(&endpoint, 4).await.unwrap(), &endpoint));
    }
    let (a, b) = (servers.pop_front().unwrap(), servers.pop_front().unwrap());
    assert_ne!(a.endpoint, b.endpoint);
    let (from_a, from_b) =
        tokio::join!(ask(&asker, &a.endpoint, "count 3"), ask(&asker, &b.endpoint, "echo b"));
    assert_eq!(from_a.unwrap().len(), 3);
    assert_eq!(from_b.unwrap(), ["b"]);
    assert_eq!((a.sent.load(Ordering::SeqCst), b.sent.load(Ordering::SeqCst)), (3, 0));
}

pub async fn what_is_too_long(setup: &impl Setup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = worker(&transport, "a");
    let mut requests = transport.serve(&endpoint, 4).await.unwrap();
    let endpoint = reachable(requests.as_ref(), &endpoint);
    let most = asker.capabilities().max_bytes;

    let refused = asker.request(&endpoint, vec![1; most + 1].into()).await.err();
    assert!(matches!(refused, Some(TransportError::Invalid(_))), "{refused:?}");

    let server = async {
        let mut incoming = requests.next().await;
        assert_eq!(incoming.request.len(), most);
        // A hybrid promises what both its sides carry; the direct side alone may carry more.
        let refused = incoming.reply.send(vec![2; most + 1].into()).await;
        assert!(matches!(refused, Ok(()) | Err(TransportError::Invalid(_))), "{refused:?}");
        incoming.reply.send(vec![2; most].into()).await.unwrap();
        incoming.reply.finish().await.unwrap();
        refused.is_ok()
    };
    let reply = async { collect(asker.request(&endpoint, vec![1; most].into()).await.unwrap()).await };
    let (carried, reply) = tokio::join!(server, reply);
    let lengths: Vec<usize> = reply.unwrap().iter().map(Bytes::len).collect();
    assert_eq!(lengths, if carried { vec![most + 1, most] } else { vec![most] });
    assert!(!carried || transport.capabilities().name.starts_with("hybrid"));
}

pub async fn at_most_so_many_at_once(setup: &impl Setup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = worker(&transport, "a");
    let mut requests = transport.serve(&endpoint, 2).await.unwrap();
    let endpoint = reachable(requests.as_ref(), &endpoint);
    let texts: Vec<String> = (0..5).map(|number| format!("echo {number}")).collect();
    let replies = join_all(texts.iter().map(|text| ask(&asker, &endpoint, text)));
    let server = async {
        let mut taken = VecDeque::from([requests.next().await, requests.next().await]);
        while let Some(incoming) = taken.pop_front() {
            if !taken.is_empty() {
                let third = timeout(20 * PAUSE, requests.next()).await;
                assert!(third.is_err(), "a third request was taken while two were not answered");
            }
            answer(incoming, &Default::default()).await.unwrap();
            if let Ok(next) = timeout(100 * PAUSE, requests.next()).await {
                taken.push_back(next);
            }
        }
    };
    let (replies, ()) = tokio::join!(replies, server);
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), [number.to_string()]);
    }
}

/// Waits until something is so.
pub async fn until(mut so: impl FnMut() -> bool, what: &str) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE / 2, "still waiting until {what}");
        sleep(PAUSE).await;
    }
}
