//! What a middleware with a broker promises when something fails.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use middleware::{Endpoint, SharedTransport, TransportError};
use tokio::time::timeout;

use crate::answering::{Answering, answer, collect};
use crate::conformance::{PAUSE, Setup, ask, until};

/// Tells a child process of a test what to do.
const TAKER: &str = "MIDDLEWARE_TEST_TAKER";
/// What a child says when it holds a request.
const HOLDING: &str = "the taker holds a request";

/// A setup with a broker, which another process can find.
pub trait BrokerSetup: Setup {
    /// Middleware, address and prefix, each without spaces.
    fn words(&self) -> [String; 3];
}

/// Runs what every broker promises. `$setup` is what `conformance!` takes.
macro_rules! broker_faults {
    ($setup:expr) => {
        broker_faults!($setup;
            killed_taker, taker_killed_in_the_middle_of_its_reply, poisonous_request, free_workers_share,
            slow_reader_holds_up_nobody);
    };
    ($setup:expr; $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(setup) = $setup {
                    let case = $crate::brokers::faults::$case(&setup);
                    tokio::time::timeout($crate::conformance::PATIENCE, case).await.expect("the case takes too long");
                }
            }
        )+
    };
}

/// Another process, which takes requests, one after the other, sends `pieces` pieces for each, and hangs.
struct TakerProcess {
    child: Child,
}

impl TakerProcess {
    fn start(setup: &impl BrokerSetup, name: &str, pieces: usize) -> Self {
        let words = [setup.words().join(" "), name.to_owned(), pieces.to_string()].join(" ");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "brokers::faults::taker_process", "--ignored", "--nocapture"])
            .env(TAKER, words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Self { child: child.unwrap() }
    }

    /// Waits until the process holds a request, and kills it as `kill -9` does.
    async fn kill_when_it_holds_a_request(mut self) {
        let output = BufReader::new(self.child.stdout.take().unwrap());
        let lines = tokio::task::spawn_blocking(move || {
            output.lines().map_while(Result::ok).any(|line| line.ends_with(HOLDING))
        });
        assert!(lines.await.unwrap(), "the taker never got a request");
        self.child.kill().unwrap();
        assert!(!self.child.wait().unwrap().success(), "the taker was killed");
    }
}

impl Drop for TakerProcess {
    fn drop(&mut self) {
        // The process has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of other tests, which start it as a process of its own"]
async fn taker_process() {
    let Ok(words) = std::env::var(TAKER) else { return };
    let words: Vec<&str> = words.split(' ').collect();
    let [kind, url, prefix, _, pieces] = words[..] else { panic!("{words:?}") };
    let transport = super::transport(kind, url, prefix);
    let mut requests = transport.serve(&Endpoint::AnyWorker, 1).await.unwrap();
    let mut incoming = requests.next().await;
    for _ in 0..pieces.parse().unwrap() {
        incoming.reply.send(Bytes::from_static(b"half")).await.unwrap();
    }
    println!("{HOLDING}");
    std::future::pending::<()>().await;
}

pub async fn killed_taker(setup: &impl BrokerSetup) {
    let taker = TakerProcess::start(setup, "a", 0);
    let asker = setup.transport().await;
    let reply = tokio::spawn({
        let asker = asker.clone();
        async move { ask(&asker, &Endpoint::AnyWorker, "echo done").await }
    });
    taker.kill_when_it_holds_a_request().await;
    let transport = setup.transport().await;
    let endpoint = Endpoint::AnyWorker;
    let _server = Answering::start(transport.serve(&endpoint, 1).await.unwrap(), &endpoint);
    assert_eq!(reply.await.unwrap().unwrap(), ["done"], "another one does it");
}

pub async fn taker_killed_in_the_middle_of_its_reply(setup: &impl BrokerSetup) {
    let taker = TakerProcess::start(setup, "a", 2);
    let asker = setup.transport().await;
    let mut pieces = asker.request(&Endpoint::AnyWorker, Bytes::from_static(b"count 3")).await.unwrap();
    taker.kill_when_it_holds_a_request().await;
    for _ in 0..2 {
        assert_eq!(pieces.next().await.unwrap().unwrap(), "half");
    }
    let transport = setup.transport().await;
    let endpoint = Endpoint::AnyWorker;
    let _server = Answering::start(transport.serve(&endpoint, 1).await.unwrap(), &endpoint);
    let error = pieces.next().await.expect("two replies are not made into one").unwrap_err();
    assert!(error.to_string().contains("lost in the middle"), "{error}");
    assert_eq!(ask(&asker, &Endpoint::AnyWorker, "count 3").await.unwrap().len(), 3);
}

pub async fn poisonous_request(setup: &impl BrokerSetup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let mut requests = transport.serve(&Endpoint::AnyWorker, 1).await.unwrap();
    let deliveries = AtomicUsize::new(0);
    let server = async {
        loop {
            let incoming = requests.next().await;
            if incoming.request == "poison" {
                deliveries.fetch_add(1, Ordering::SeqCst);
                drop(incoming);
            } else {
                answer(incoming, &AtomicUsize::new(0)).await.unwrap();
            }
        }
    };
    let asking = async {
        let reply = ask(&asker, &Endpoint::AnyWorker, "poison").await;
        assert!(matches!(&reply, Err(TransportError::Unreachable { .. })), "{reply:?}");
        assert_eq!(ask(&asker, &Endpoint::AnyWorker, "echo next").await.unwrap(), ["next"]);
    };
    tokio::select! {
        () = server => {}
        () = asking => {}
    }
    let deliveries = deliveries.load(Ordering::SeqCst);
    assert!((3..=4).contains(&deliveries), "the request was delivered {deliveries} times");
}

/// A request to any worker goes to one that is free, and none is lost between many workers.
pub async fn free_workers_share(setup: &impl BrokerSetup) {
    let (busy, free, asker) = (setup.transport().await, setup.transport().await, setup.transport().await);
    let mut requests = busy.serve(&Endpoint::AnyWorker, 1).await.unwrap();
    let any = Endpoint::AnyWorker;
    let first = async { ask(&asker, &any, "echo first").await.unwrap() };
    let rest = async {
        let held = requests.next().await;
        let endpoint = Endpoint::AnyWorker;
        let server = Answering::start(free.serve(&endpoint, 2).await.unwrap(), &endpoint);
        let texts: Vec<String> = (0..50).map(|number| format!("echo {number}")).collect();
        let replies = join_all(texts.iter().map(|text| ask(&asker, &any, text))).await;
        for (number, reply) in replies.into_iter().enumerate() {
            assert_eq!(reply.unwrap(), [number.to_string()]);
        }
        assert_eq!(server.refused.load(Ordering::SeqCst), 0);
        answer(held, &AtomicUsize::new(0)).await.unwrap();
    };
    let (first, ()) = tokio::join!(first, rest);
    assert_eq!(first, ["first"]);
}

pub async fn slow_reader_holds_up_nobody(setup: &impl BrokerSetup) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::AnyWorker;
    let server = Answering::start(transport.serve(&endpoint, 8).await.unwrap(), &endpoint);
    let slow = asker.request(&endpoint, Bytes::from_static(b"fill 100 1000000")).await.unwrap();
    until(|| server.sent.load(Ordering::SeqCst) >= 3, "the slow reply has come to a halt").await;
    for _ in 0..20 {
        assert_eq!(ask(&asker, &endpoint, "echo quick").await.unwrap(), ["quick"]);
    }
    assert!(server.sent.load(Ordering::SeqCst) < 40, "the slow reply waits for its reader");
    assert_eq!(collect(slow).await.unwrap().len(), 100);
}

/// A hundred requests, and a broker that is killed and started again while they are on their way. Each request is asked again when
/// it fails, or gets no answer in time.
pub async fn broker_is_killed_in_the_middle<S: Send + 'static>(
    setup: &impl BrokerSetup,
    restart: impl FnOnce() -> S + Send + 'static,
) -> (S, usize) {
    const REQUESTS: usize = 100;
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::AnyWorker;
    let mut requests = transport.serve(&endpoint, 4).await.unwrap();
    let answered = AtomicUsize::new(0);
    let (start_again, wait) = tokio::sync::oneshot::channel();
    let server = async {
        let mut start_again = Some(start_again);
        let mut held = Vec::new();
        loop {
            let incoming = requests.next().await;
            // Some requests are answered before the broker is killed, some are held meanwhile, and some have not been taken.
            if answered.load(Ordering::SeqCst) >= REQUESTS / 4 && start_again.is_some() {
                held.push(incoming);
                if held.len() == 3 {
                    start_again.take().unwrap().send(()).unwrap();
                }
                continue;
            }
            answered.fetch_add(1, Ordering::SeqCst);
            let (error, late) = (answer(incoming, &AtomicUsize::new(0)).await, held.pop());
            if let Some(late) = late {
                // Its asker may have given it up.
                let _ = answer(late, &AtomicUsize::new(0)).await;
            }
            drop(error);
        }
    };
    let restarting = async {
        wait.await.unwrap();
        tokio::task::spawn_blocking(restart).await.unwrap()
    };
    let again = AtomicUsize::new(0);
    let asking = async {
        let all = (0..REQUESTS).map(|number| until_answered(&asker, number, &again));
        join_all(all).await.into_iter().collect::<HashSet<usize>>()
    };
    let (numbers, restarted) = tokio::select! {
        () = server => unreachable!("a server never ends"),
        both = async { tokio::join!(asking, restarting) } => both,
    };
    assert_eq!(numbers.len(), REQUESTS);
    (restarted, again.load(Ordering::SeqCst))
}

async fn until_answered(asker: &SharedTransport, number: usize, again: &AtomicUsize) -> usize {
    let request = format!("echo {number}");
    loop {
        match timeout(Duration::from_secs(10), ask(asker, &Endpoint::AnyWorker, &request)).await {
            Ok(Ok(reply)) => {
                assert_eq!(reply, [number.to_string()]);
                return number;
            }
            Ok(Err(error)) => assert!(matches!(error, TransportError::Unreachable { .. }), "{error}"),
            Err(_) => {}
        }
        again.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(PAUSE).await;
    }
}

/// A reply of 200 MB, whose reader looks at the broker now and then.
pub async fn long_reply(setup: &impl BrokerSetup, mut look: impl FnMut()) {
    let (transport, asker) = (setup.transport().await, setup.transport().await);
    let endpoint = Endpoint::AnyWorker;
    let _server = Answering::start(transport.serve(&endpoint, 1).await.unwrap(), &endpoint);
    let mut pieces = asker.request(&endpoint, Bytes::from_static(b"fill 200 1000000")).await.unwrap();
    let mut received = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        assert_eq!((piece.len(), piece[999_999]), (1_000_000, received as u8));
        received += 1;
        if received % 60 == 0 {
            look();
        }
    }
    assert_eq!(received, 200);
}
