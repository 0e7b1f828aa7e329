//! How quick the brokers are. Run it with `--release`, `--ignored` and `--nocapture`, and without anything beside it.

use std::time::{Duration, Instant};

use ::brokers::{RabbitServer, RedisServer};
use futures_util::StreamExt;
use futures_util::future::join_all;
use middleware::connect::{Middleware, TransportSettings, connect};
use middleware::{Endpoint, SharedTransport};

use crate::child::ServerProcess;
use crate::conformance::ask;

const SEQUENTIAL: usize = 2000;
const IN_FLIGHT: usize = 64;
const FOR: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn redis_is_quick() {
    let Some(server) = RedisServer::start() else { return };
    measure(Middleware::Redis, &server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rabbitmq_is_quick() {
    let Some(server) = RabbitServer::start() else { return };
    measure(Middleware::RabbitMq, &server.url()).await;
}

async fn measure(middleware: Middleware, url: &str) {
    let server = ServerProcess::start(middleware, Some(url), "a");
    let settings = TransportSettings { broker_url: Some(url.to_owned()), ..Default::default() };
    let (kind, asker) = (middleware.name(), connect(middleware, settings).await.unwrap());
    let mut times = Vec::new();
    for _ in 0..SEQUENTIAL {
        let start = Instant::now();
        ask(&asker, &server.endpoint, "empty").await.unwrap();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (times[SEQUENTIAL / 2], times[SEQUENTIAL * 99 / 100]);
    println!("{kind}: an empty request p50 {p50:?}, p99 {p99:?}");
    println!(
        "{kind}: {:.0} requests a second with {IN_FLIGHT} in flight",
        rate(&asker, &server.endpoint).await
    );
    for bytes in [1 << 16, 1 << 18, 1 << 20] {
        let start = Instant::now();
        let request = format!("fill {} {bytes}", (200 << 20) / bytes);
        let mut pieces = asker.request(&server.endpoint, request.into()).await.unwrap();
        while let Some(piece) = pieces.next().await {
            assert_eq!(piece.unwrap().len(), bytes);
        }
        let rate = 200.0 / start.elapsed().as_secs_f64();
        println!("{kind}: a reply of 200 MiB in pieces of {bytes} bytes: {rate:.0} MiB a second");
    }
}

async fn rate(asker: &SharedTransport, endpoint: &Endpoint) -> f64 {
    let start = Instant::now();
    let counts = join_all((0..IN_FLIGHT).map(|_| async {
        let mut count = 0;
        while start.elapsed() < FOR {
            ask(asker, endpoint, "empty").await.unwrap();
            count += 1;
        }
        count
    }));
    f64::from(counts.await.into_iter().sum::<u32>()) / start.elapsed().as_secs_f64()
}
