//! Two sides in one run, alternating, so that a machine whose speed drifts is fair to both.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use service::net::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::echo;
use crate::load::{self, Load, Protocol};
use crate::peers::Peer;
use crate::stats::{Comparison, Pairing, Spread};
use crate::{CompareArguments, Target};

/// Connections and messages in flight on each.
const SHAPES: [(usize, usize); 4] = [(1, 1), (50, 1), (200, 1), (50, 16)];
/// Bytes of each write when the disk itself is measured.
const RAW_WRITE_BYTES: usize = 128;

/// One of our servers and Redis, each durable before every reply.
pub async fn with_redis(arguments: &CompareArguments) -> anyhow::Result<Comparison> {
    let flags = ["--log-level", &arguments.server_log_level];
    let (name_of_ours, protocol, server) = match arguments.target {
        Target::Server => ("server", Protocol::Server, Peer::server(&arguments.dir, &flags).await?),
        Target::Store => ("store", Protocol::Store, Peer::store(&arguments.dir, &flags).await?),
        Target::Echo => return echo_with_redis(arguments).await,
    };
    let redis = Peer::redis(&arguments.dir).await?;
    let mut raw = Vec::new();
    let mut pairings = Vec::new();
    for (connections, pipeline) in SHAPES {
        let ours = Side::new(arguments, protocol, &server, connections, pipeline).await?;
        let theirs = Side::new(arguments, Protocol::RedisRpush, &redis, connections, pipeline).await?;
        let mut rates = Vec::new();
        for round in 0..arguments.rounds {
            raw.push(raw_sync_rate(&arguments.dir, Duration::from_millis(200))?);
            flush(&redis).await?;
            let ours_first = round % 2 == 0;
            let first = if ours_first { ours.rate().await? } else { theirs.rate().await? };
            let second = if ours_first { theirs.rate().await? } else { ours.rate().await? };
            rates.push(if ours_first { (first, second) } else { (second, first) });
        }
        pairings.push(pairing(name(connections, pipeline), &rates));
    }
    let raw = Spread::of(&raw);
    let share = pairings.iter().map(|pairing| format!("{:.2}", pairing.ours.median / raw.median));
    let share = share.collect::<Vec<_>>().join(", ");
    Ok(Comparison {
        ours: name_of_ours,
        theirs: "Redis RPUSH, appendfsync always",
        rounds: arguments.rounds,
        pairings,
        notes: vec![format!(
            "{}-byte messages, on disk before each reply. Raw write + fdatasync of {RAW_WRITE_BYTES} bytes in this run: {raw} a second; \
             messages for each such sync, row by row: {share}.",
            arguments.size
        )],
    })
}

/// The echo server and Redis PING, where neither has anything to store.
async fn echo_with_redis(arguments: &CompareArguments) -> anyhow::Result<Comparison> {
    let (server, redis) = (Peer::echo(&arguments.dir, true).await?, Peer::redis(&arguments.dir).await?);
    let mut pairings = Vec::new();
    for (connections, pipeline) in SHAPES {
        let ours = Side::new(arguments, Protocol::Echo, &server, connections, pipeline).await?;
        let theirs = Side::new(arguments, Protocol::RedisPing, &redis, connections, pipeline).await?;
        let mut rates = Vec::new();
        for round in 0..arguments.rounds {
            let ours_first = round % 2 == 0;
            let first = if ours_first { ours.rate().await? } else { theirs.rate().await? };
            let second = if ours_first { theirs.rate().await? } else { ours.rate().await? };
            rates.push(if ours_first { (first, second) } else { (second, first) });
        }
        pairings.push(pairing(name(connections, pipeline), &rates));
    }
    let closing = Peer::echo(&arguments.dir, false).await?;
    let mut connections = Vec::new();
    for _ in 0..arguments.rounds {
        connections.push(echo::connections_per_second(closing.address, 5000).await?);
    }
    let connections = Spread::of(&connections);
    Ok(Comparison {
        ours: "echo-server, connections kept",
        theirs: "Redis PING",
        rounds: arguments.rounds,
        pairings,
        notes: vec![format!(
            "{}-byte lines, each logged, against PING. With a connection for each message, 50 clients at a time: {connections} a second.",
            arguments.size
        )],
    })
}

/// This load generator and `redis-benchmark` on one Redis.
pub async fn generators(arguments: &CompareArguments) -> anyhow::Result<Comparison> {
    let redis = Peer::redis(&arguments.dir).await?;
    let mut pairings = Vec::new();
    for (connections, pipeline) in SHAPES {
        let ours = Side::new(arguments, Protocol::RedisRpush, &redis, connections, pipeline).await?;
        let mut rates = Vec::new();
        for round in 0..arguments.rounds {
            flush(&redis).await?;
            let ours_first = round % 2 == 0;
            let early = if ours_first { Some(ours.rate().await?) } else { None };
            let theirs = redis_benchmark(&ours.load).await?;
            let ours = match early {
                Some(rate) => rate,
                None => ours.rate().await?,
            };
            rates.push((ours, theirs));
        }
        pairings.push(pairing(name(connections, pipeline), &rates));
    }
    let notes = vec![format!("RPUSH of {} bytes under appendfsync always.", arguments.size)];
    Ok(Comparison { ours: "bench", theirs: "redis-benchmark", rounds: arguments.rounds, pairings, notes })
}

/// One side of a comparison, with as many messages as take it the wanted time.
struct Side {
    load: Load,
}

impl Side {
    async fn new(
        arguments: &CompareArguments,
        protocol: Protocol,
        peer: &Peer,
        connections: usize,
        pipeline: usize,
    ) -> anyhow::Result<Self> {
        let messages = 200 * (connections * pipeline) as u64;
        let size = arguments.size;
        let mut load =
            Load { address: peer.address, protocol, connections, pipeline, messages, size, rate: None };
        // Also the warm-up.
        let trial = load::run(&load, false).await?;
        load.messages = (trial.per_second * arguments.length.as_secs_f64()) as u64 + 1;
        Ok(Self { load })
    }

    async fn rate(&self) -> anyhow::Result<f64> {
        Ok(load::run(&self.load, false).await?.per_second)
    }
}

fn name(connections: usize, pipeline: usize) -> String {
    let plural = if connections == 1 { "" } else { "s" };
    match pipeline {
        1 => format!("{connections} connection{plural}"),
        _ => format!("{connections} connection{plural}, {pipeline} in flight on each"),
    }
}

fn pairing(what: String, rates: &[(f64, f64)]) -> Pairing {
    let column = |pick: fn(&(f64, f64)) -> f64| Spread::of(&rates.iter().map(pick).collect::<Vec<_>>());
    Pairing {
        what,
        ours: column(|pair| pair.0),
        theirs: column(|pair| pair.1),
        ratio: column(|pair| pair.0 / pair.1),
    }
}

/// Empties Redis, so that it does not grow from round to round.
async fn flush(redis: &Peer) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(redis.address).await?;
    stream.write_all(b"FLUSHALL\r\n").await?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).await?;
    anyhow::ensure!(&reply == b"+OK\r\n", "Redis does not flush: {}", String::from_utf8_lossy(&reply));
    Ok(())
}

async fn redis_benchmark(load: &Load) -> anyhow::Result<f64> {
    let payload = "x".repeat(load.size);
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", &load.address.ip().to_string(), "-p", &load.address.port().to_string()]);
    command.args(["-c", &load.connections.to_string(), "-P", &load.pipeline.to_string()]);
    command.args(["-n", &load.messages.to_string(), "--csv", "RPUSH", "bench", &payload]);
    let output = command.output().await.context("cannot start redis-benchmark (Debian: redis-tools)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The last line: "the command","rate","latency",…
    let rate = text
        .lines()
        .last()
        .and_then(|line| line.split("\",\"").nth(1))
        .and_then(|rate| rate.trim_matches('"').parse().ok());
    rate.with_context(|| format!("cannot read what redis-benchmark printed: {text}"))
}

/// Writes and syncs one small record after the other: what the disk gives a lone writer.
fn raw_sync_rate(dir: &Path, length: Duration) -> anyhow::Result<f64> {
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(dir)?;
    let mut file = OpenOptions::new().create_new(true).append(true).open(folder.path().join("raw"))?;
    let started = Instant::now();
    let mut syncs = 0u32;
    while started.elapsed() < length {
        file.write_all(&[b'x'; RAW_WRITE_BYTES])?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / started.elapsed().as_secs_f64())
}
