//! Measures a middleware: `cargo test --release -p middleware --test all -- --ignored --nocapture load::direct`; with TLS and
//! without, `load::tls`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{FuturesUnordered, iter};
use middleware::connect::{Middleware, TransportSettings, connect};
use middleware::{Endpoint, SharedTransport};

use crate::answering::collect;
use crate::child::{ServerProcess, node};

const WARM_UP: usize = 500;
const ONE_BY_ONE: usize = 3_000;
const MANY: usize = 40_000;
const AT_ONCE: usize = 64;

async fn ask(transport: &SharedTransport, to: &Endpoint, request: &'static str) -> usize {
    let reply = transport.request(to, Bytes::from_static(request.as_bytes())).await.unwrap();
    collect(reply).await.unwrap().iter().map(Bytes::len).sum()
}

async fn one_by_one(transport: &SharedTransport, to: &Endpoint) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..WARM_UP + ONE_BY_ONE {
        let start = Instant::now();
        assert_eq!(ask(transport, to, "echo 12345678").await, 8);
        if number >= WARM_UP {
            times.push(start.elapsed());
        }
    }
    times.sort();
    times
}

async fn many(transport: &SharedTransport, to: &Endpoint, count: usize, at_once: usize) -> f64 {
    let start = Instant::now();
    let mut running = FuturesUnordered::new();
    for number in 0..count {
        if number >= at_once {
            running.next().await;
        }
        let (transport, to) = (SharedTransport::clone(transport), to.clone());
        running.push(async move { ask(&transport, &to, "echo 12345678").await });
    }
    while running.next().await.is_some() {}
    count as f64 / start.elapsed().as_secs_f64()
}

/// Measures one middleware between two processes, and prints what it saw.
pub async fn measure(middleware: Middleware, broker: Option<&str>) {
    let direct = matches!(middleware, Middleware::Grpc | Middleware::XmlRpc);
    let server = ServerProcess::start(middleware, broker, if direct { "127.0.0.1:0" } else { "load" });
    let settings = TransportSettings { broker_url: broker.map(str::to_owned), ..Default::default() };
    let transport = connect(middleware, settings).await.unwrap();
    let times = one_by_one(&transport, &server.endpoint).await;
    let a_second = many(&transport, &server.endpoint, MANY, AT_ONCE).await;
    let mut rates = Vec::new();
    for request in ["fill 512 1000000", "fill 64 8000000"] {
        let start = Instant::now();
        assert_eq!(ask_in_pieces(&transport, &server.endpoint, request).await, 512_000_000);
        rates.push(512.0 / start.elapsed().as_secs_f64());
    }
    println!(
        "{middleware}: p50 {:?}, p99 {:?}; {a_second:.0} requests a second, {AT_ONCE} at once; {:.0} MB/s in pieces of 1 MB, {:.0} MB/s of 8 MB",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        rates[0],
        rates[1],
    );
}

async fn ask_in_pieces(transport: &SharedTransport, to: &Endpoint, request: &'static str) -> usize {
    let pieces = transport.request(to, Bytes::from_static(request.as_bytes())).await.unwrap();
    pieces.map(|piece| piece.unwrap().len()).fold(0, |sum, length| async move { sum + length }).await
}

/// What [`tls`] compares: so many requests, so many at once; then megabytes a second in pieces of 1 MB.
const COMPARED: [(&str, usize, usize); 3] =
    [("requests a second, 1 at once", 4_000, 1), ("50 at once", 40_000, 50), ("200 at once", 40_000, 200)];

/// Plain and with TLS in turn, five rounds: the medians, and the ratio.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn tls() {
    let folder = tempfile::tempdir().unwrap();
    mutual_tls::certificates::make(folder.path(), &[]).unwrap();
    for middleware in [Middleware::Grpc, Middleware::XmlRpc] {
        let mut seen = [const { [const { Vec::new() }; 2] }; COMPARED.len() + 1];
        for _ in 0..5 {
            for (side, certificates) in [None, Some(folder.path())].into_iter().enumerate() {
                let server = ServerProcess::start_with(middleware, None, "127.0.0.1:0", certificates);
                let settings = TransportSettings { tls: certificates.map(node), ..Default::default() };
                let transport = connect(middleware, settings).await.unwrap();
                many(&transport, &server.endpoint, 2_000, 200).await;
                for (row, (_, count, at_once)) in COMPARED.into_iter().enumerate() {
                    seen[row][side].push(many(&transport, &server.endpoint, count, at_once).await);
                }
                let start = Instant::now();
                assert_eq!(
                    ask_in_pieces(&transport, &server.endpoint, "fill 512 1000000").await,
                    512_000_000
                );
                seen[COMPARED.len()][side].push(512.0 / start.elapsed().as_secs_f64());
            }
        }
        let names = COMPARED.map(|(name, ..)| name).into_iter().chain(["MB a second"]);
        for (name, sides) in names.zip(seen) {
            let [plain, tls] = sides.map(median);
            println!("{middleware}, {name}: plain {plain:.0}, TLS {tls:.0}, ratio {:.2}", tls / plain);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn direct() {
    let mut each = iter([Middleware::Grpc, Middleware::XmlRpc, Middleware::Grpc, Middleware::XmlRpc]);
    while let Some(middleware) = each.next().await {
        measure(middleware, None).await;
    }
}
