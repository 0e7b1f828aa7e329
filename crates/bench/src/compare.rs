//! Measures several programs in one run, in turn, so that a machine whose speed drifts is fair to all.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::Command;

use crate::arguments::{CompareArguments, ComparisonTarget};
use crate::echo;
use crate::load::{self, Load, Protocol};
use crate::peers::Peer;
use crate::stats::{ComparisonTable, Pairing, Spread};

/// The shapes of load: connections, and messages in flight on each.
const SHAPES: [(usize, usize); 4] = [(1, 1), (50, 1), (200, 1), (50, 16)];
/// Length of each write when the disk itself is measured, in bytes.
const RAW_WRITE_BYTES: usize = 128;

/// One of the programs that are measured in turn.
struct Contestant {
    name: &'static str,
    protocol: Protocol,
    peer: Peer,
}

/// Compares one of our servers with its peers. What is stored is on disk before every reply.
pub async fn with_peers(arguments: &CompareArguments) -> anyhow::Result<ComparisonTable> {
    let flags = ["--log-level", &arguments.server_log_level];
    let dir = &arguments.dir;
    let ours = match arguments.target {
        ComparisonTarget::Server => {
            Contestant { name: "server", protocol: Protocol::Server, peer: Peer::server(dir, &flags).await? }
        }
        ComparisonTarget::Store => {
            Contestant { name: "store", protocol: Protocol::Store, peer: Peer::store(dir, &flags).await? }
        }
        ComparisonTarget::Echo => return echo_with_redis(arguments).await,
        ComparisonTarget::Key => return key_with_plain(arguments, &flags).await,
    };
    let mut contestants = vec![ours, redis(dir, Protocol::RedisRpush).await?];
    if arguments.target == ComparisonTarget::Store {
        contestants.push(Contestant {
            name: "nutcracker in front of three such Redis",
            protocol: Protocol::RedisRpushSpread,
            peer: Peer::nutcracker(dir).await?,
        });
    }
    let mut raw = Vec::new();
    let pairings = in_turn(arguments, &contestants, &mut || {
        raw.push(raw_sync_rate(dir, Duration::from_millis(200))?);
        Ok(())
    })
    .await?;
    let raw = Spread::of(&raw);
    let share = pairings.iter().map(|pairing| format!("{:.2}", pairing.ours.median / raw.median));
    let share = share.collect::<Vec<_>>().join(", ");
    let note = format!(
        "{}-byte messages, on disk before each reply. Raw write + fdatasync of {RAW_WRITE_BYTES} bytes in this run: {raw} a second; \
         messages for each such sync, row by row: {share}.",
        arguments.size
    );
    Ok(comparison(&contestants, arguments, pairings, note))
}

/// Compares the store with a key and without one.
async fn key_with_plain(arguments: &CompareArguments, flags: &[&str]) -> anyhow::Result<ComparisonTable> {
    let store = |name, peer| Contestant { name, protocol: Protocol::Store, peer };
    let contestants = [
        store("store with a key", Peer::keyed_store(&arguments.dir, flags).await?),
        store("store without one", Peer::store(&arguments.dir, flags).await?),
    ];
    let pairings = in_turn(arguments, &contestants, &mut || Ok(())).await?;
    let note = format!("{}-byte messages, on disk before each reply.", arguments.size);
    Ok(comparison(&contestants, arguments, pairings, note))
}

/// Compares the echo server with Redis PING: neither has anything to store.
async fn echo_with_redis(arguments: &CompareArguments) -> anyhow::Result<ComparisonTable> {
    let contestants = [
        Contestant {
            name: "echo-server, connections kept",
            protocol: Protocol::Echo,
            peer: Peer::echo(&arguments.dir, true).await?,
        },
        redis(&arguments.dir, Protocol::RedisPing).await?,
    ];
    let pairings = in_turn(arguments, &contestants, &mut || Ok(())).await?;
    let closing = Peer::echo(&arguments.dir, false).await?;
    let mut connections = Vec::new();
    for _ in 0..arguments.rounds {
        connections.push(echo::connections_per_second(closing.address, 5000).await?);
    }
    let connections = Spread::of(&connections);
    let note = format!(
        "{}-byte lines, each logged, against PING. With a connection for each message, 50 clients at a time: {connections} a second.",
        arguments.size
    );
    Ok(comparison(&contestants, arguments, pairings, note))
}

async fn redis(dir: &Path, protocol: Protocol) -> anyhow::Result<Contestant> {
    let pings = protocol == Protocol::RedisPing;
    let name = if pings { "Redis PING" } else { "Redis RPUSH, appendfsync always" };
    Ok(Contestant { name, protocol, peer: Peer::redis(dir).await? })
}

/// Measures each shape of load: in each round every contestant once, in an order that rotates. `before_round` measures
/// what belongs to none of them.
async fn in_turn(
    arguments: &CompareArguments,
    contestants: &[Contestant],
    before_round: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Pairing>> {
    let mut pairings = Vec::new();
    for (connections, pipeline) in SHAPES {
        let mut sides = Vec::new();
        for Contestant { protocol, peer, .. } in contestants {
            sides.push(Side::new(arguments, *protocol, peer, connections, pipeline).await?);
        }
        let mut rounds = Vec::new();
        for round in 0..arguments.rounds {
            before_round()?;
            let mut rates = vec![0.0; sides.len()];
            for turn in 0..sides.len() {
                let at = (round + turn) % sides.len();
                contestants[at].peer.flush().await?;
                rates[at] = sides[at].rate().await?;
            }
            rounds.push(rates);
        }
        pairings.push(Pairing::of(name(connections, pipeline), &rounds));
    }
    Ok(pairings)
}

fn comparison(
    contestants: &[Contestant],
    arguments: &CompareArguments,
    pairings: Vec<Pairing>,
    note: String,
) -> ComparisonTable {
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
    let (ours, theirs) = (names[0], names[1..].to_vec());
    ComparisonTable { ours, theirs, rounds: arguments.rounds, pairings, notes: vec![note] }
}

/// Compares this load generator with `redis-benchmark` on one Redis.
pub async fn generators(arguments: &CompareArguments) -> anyhow::Result<ComparisonTable> {
    let redis = Peer::redis(&arguments.dir).await?;
    let mut pairings = Vec::new();
    for (connections, pipeline) in SHAPES {
        let ours = Side::new(arguments, Protocol::RedisRpush, &redis, connections, pipeline).await?;
        let mut rates = Vec::new();
        for round in 0..arguments.rounds {
            redis.flush().await?;
            let ours_first = round % 2 == 0;
            let early = if ours_first { Some(ours.rate().await?) } else { None };
            let theirs = redis_benchmark(&ours.load).await?;
            let ours = match early {
                Some(rate) => rate,
                None => ours.rate().await?,
            };
            rates.push(vec![ours, theirs]);
        }
        pairings.push(Pairing::of(name(connections, pipeline), &rates));
    }
    let notes = vec![format!("RPUSH of {} bytes under appendfsync always.", arguments.size)];
    Ok(ComparisonTable {
        ours: "bench",
        theirs: vec!["redis-benchmark"],
        rounds: arguments.rounds,
        pairings,
        notes,
    })
}

/// One side of a comparison, with as many messages as it handles in the wanted time.
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
        let mut load = Load {
            address: peer.address,
            protocol,
            connections,
            pipeline,
            messages,
            size,
            rate: None,
            keys: peer.keys.clone(),
        };
        // The trial is also the warm-up.
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

/// Writes and syncs one small record after the other, and returns how many the disk takes from a lone writer each second.
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
