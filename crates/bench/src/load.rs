//! Puts load on a target. The loop is the same for every target, so that only the target differs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::{Buf, BytesMut};
use clap::ValueEnum;
use cluster_key::{KeyPurpose, KeyedStream, Keyring};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use service::frames::FrameReader;
use service::net::{self, TcpStream};
use tokio::io::AsyncWriteExt as _;
use tokio::task::LocalSet;
use tokio_util::codec::Decoder;

/// The longest latency that the histogram tells apart, in nanoseconds.
const MAX_LATENCY: u64 = 60_000_000_000;
/// The number of lists that [`Protocol::RedisRpushSpread`] fills.
const SPREAD_LISTS: usize = 1000;
/// A target that gives no connection or no reply for this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const CLOSED: &str = "the target closed the connection";

/// The protocols of targets. Each reply is one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Actividad 1's server: a line, acknowledged once it is on disk
    Server,
    /// Actividad 2's headnode: a put, acknowledged once it is on a datanode's disk
    Store,
    /// TP0's echo server that keeps its connections: a line and its echo
    Echo,
    /// Redis: RPUSH onto one list
    RedisRpush,
    /// Redis: RPUSH onto 1,000 lists in turn, which a proxy spreads over several servers
    RedisRpushSpread,
    /// Redis: PING
    RedisPing,
}

impl Protocol {
    /// Returns how many different requests there are. They are sent in turn.
    fn variants(self) -> usize {
        if self == Self::RedisRpushSpread { SPREAD_LISTS } else { 1 }
    }

    /// Returns a request. All requests of one protocol and size are equally long.
    fn request(self, size: usize, variant: usize) -> Vec<u8> {
        let payload = "x".repeat(size);
        let rpush = |list: &str| {
            format!("*3\r\n$5\r\nRPUSH\r\n${}\r\n{list}\r\n${size}\r\n{payload}\r\n", list.len())
        };
        match self {
            Self::Server | Self::Echo => format!("{payload}\n"),
            Self::Store => format!("{{\"put\":{{\"message\":\"{payload}\"}}}}\n"),
            Self::RedisRpush => rpush("bench"),
            Self::RedisRpushSpread => rpush(&format!("bench{variant:04}")),
            Self::RedisPing => "*1\r\n$4\r\nPING\r\n".to_owned(),
        }
        .into_bytes()
    }

    /// Returns the beginning of a reply that says "done".
    fn done(self) -> &'static [u8] {
        match self {
            Self::Server => b"OK ",
            Self::Store => br#"{"saved":"#,
            Self::Echo => b"x",
            Self::RedisRpush | Self::RedisRpushSpread => b":",
            Self::RedisPing => b"+PONG",
        }
    }
}

/// Says how much load goes where.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub connections: usize,
    pub pipeline: usize,
    pub messages: u64,
    pub size: usize,
    /// The number of messages a second in an open loop; `None` in a closed loop.
    pub rate: Option<f64>,
    /// A client's keys, for a store with a key.
    #[serde(skip)]
    pub keys: Option<Keyring>,
}

/// The result. Latencies are in microseconds; in an open loop they count from the moment each message was due.
#[derive(Debug, Serialize)]
pub struct LoadReport {
    pub load: Load,
    pub seconds: f64,
    pub per_second: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { connections, pipeline, messages, size, rate, .. } = &self.load;
        let mode =
            rate.map_or(format!("{pipeline} in flight on each"), |rate| format!("{rate} a second due"));
        writeln!(f, "{messages} messages of {size} bytes, {connections} connections, {mode}")?;
        writeln!(f, "{:.0} a second, {:.2} s in all", self.per_second, self.seconds)?;
        write!(
            f,
            "latency in µs: mean {:.0}, p50 {:.0}, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
            self.mean_us, self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us
        )
    }
}

/// Runs `load` to its end.
///
/// # Errors
/// If the target cannot be reached, fails, or refuses a message.
pub async fn run(load: &Load, show_progress: bool) -> anyhow::Result<LoadReport> {
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        let connecting = net::connect(load.address, PATIENCE);
        let stream = cluster_key::connect(connecting, load.keys.as_ref(), KeyPurpose::Client).await;
        streams.push(stream.with_context(|| format!("cannot connect to {}", load.address))?);
    }
    let shared = Rc::new(LoadProgress {
        started: Instant::now(),
        unsent: Cell::new(load.messages),
        sent: Cell::new(0),
        answered: Cell::new(0),
        latencies: RefCell::new(Histogram::new_with_bounds(1, MAX_LATENCY, 3)?),
    });
    let requests = RequestMaker::new(load);
    let tasks = LocalSet::new();
    let bar = (show_progress && std::io::stderr().is_terminal()).then(|| progress_bar(load.messages));
    let workers: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(number, stream)| {
            let requests = requests.starting_at(number);
            let connection = LoadConnection::new(stream, load, requests, shared.clone());
            tasks.spawn_local(connection.run(load.rate))
        })
        .collect();
    let finished = tasks.run_until(async {
        for worker in workers {
            worker.await??;
        }
        anyhow::Ok(())
    });
    tokio::select! {
        finished = finished => finished?,
        () = show(bar.as_ref(), &shared) => {}
    }
    let seconds = shared.started.elapsed().as_secs_f64();
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(report(load, seconds, &shared.latencies.borrow()))
}

fn report(load: &Load, seconds: f64, latencies: &Histogram<u64>) -> LoadReport {
    let quantile = |q| latencies.value_at_quantile(q) as f64 / 1000.0;
    LoadReport {
        load: load.clone(),
        seconds,
        per_second: load.messages as f64 / seconds,
        mean_us: latencies.mean() / 1000.0,
        p50_us: quantile(0.5),
        p90_us: quantile(0.9),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        max_us: latencies.max() as f64 / 1000.0,
    }
}

fn progress_bar(messages: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(messages).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

async fn show(bar: Option<&ProgressBar>, shared: &LoadProgress) {
    let Some(bar) = bar else { return std::future::pending().await };
    loop {
        bar.set_position(shared.answered.get());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Counts for all connections, which run on one thread.
struct LoadProgress {
    started: Instant,
    unsent: Cell<u64>,
    sent: Cell<u64>,
    answered: Cell<u64>,
    latencies: RefCell<Histogram<u64>>,
}

impl LoadProgress {
    /// Claims up to `wanted` of the messages that are still to be sent, and returns how many it got.
    fn claim(&self, wanted: u64) -> u64 {
        let claimed = self.unsent.get().min(wanted);
        self.unsent.set(self.unsent.get() - claimed);
        self.sent.set(self.sent.get() + claimed);
        claimed
    }

    fn record(&self, since: Instant, count: u64) {
        let nanoseconds =
            u64::try_from(since.elapsed().as_nanos()).unwrap_or(MAX_LATENCY).clamp(1, MAX_LATENCY);
        self.latencies.borrow_mut().saturating_record_n(nanoseconds, count);
        self.answered.set(self.answered.get() + count);
    }
}

/// Gives all variants of the request, in turn.
#[derive(Clone)]
struct RequestMaker {
    /// All variants once, and the first ones again as far as the pipeline is deep, so that any requests in a row are one slice.
    bytes: Rc<[u8]>,
    request_bytes: usize,
    variants: usize,
    next: usize,
}

impl RequestMaker {
    fn new(load: &Load) -> Self {
        let variants = load.protocol.variants();
        let requests =
            (0..variants + load.pipeline).map(|number| load.protocol.request(load.size, number % variants));
        let bytes: Rc<[u8]> = requests.flatten().collect();
        Self { request_bytes: bytes.len() / (variants + load.pipeline), bytes, variants, next: 0 }
    }

    /// Returns the requests for connection `number`. Each connection begins with another variant.
    fn starting_at(&self, number: usize) -> Self {
        Self { next: (number * 7) % self.variants, ..self.clone() }
    }

    /// Returns the next `count` requests, at most as many as the pipeline is deep.
    fn next(&mut self, count: usize) -> &[u8] {
        let start = self.next * self.request_bytes;
        self.next = (self.next + count) % self.variants;
        &self.bytes[start..start + count * self.request_bytes]
    }
}

struct LoadConnection {
    frames: FrameReader<KeyedStream<TcpStream>, ReplyCounter>,
    shared: Rc<LoadProgress>,
    requests: RequestMaker,
    pipeline: u64,
}

impl LoadConnection {
    fn new(
        stream: KeyedStream<TcpStream>,
        load: &Load,
        requests: RequestMaker,
        shared: Rc<LoadProgress>,
    ) -> Self {
        let frames = FrameReader::new(stream, ReplyCounter { done: load.protocol.done() });
        Self { frames, shared, requests, pipeline: load.pipeline as u64 }
    }

    async fn run(mut self, rate: Option<f64>) -> anyhow::Result<()> {
        match rate {
            None => self.closed_loop().await,
            Some(rate) => self.open_loop(rate).await,
        }
    }

    /// Sends as many requests as the pipeline is deep, waits for all their replies, and repeats, as `redis-benchmark` does.
    async fn closed_loop(&mut self) -> anyhow::Result<()> {
        loop {
            let count = self.shared.claim(self.pipeline);
            if count == 0 {
                return Ok(());
            }
            let started = Instant::now();
            self.frames.stream_mut().write_all(self.requests.next(usize::try_from(count)?)).await?;
            let mut open = count;
            while open > 0 {
                let answered = self.frames.next().await?.context(CLOSED)?;
                ensure!(answered <= open, "more replies than requests");
                open -= answered;
            }
            self.shared.record(started, count);
        }
    }

    /// Sends each message when it is due, whatever has come back.
    async fn open_loop(&mut self, rate: f64) -> anyhow::Result<()> {
        let mut open = VecDeque::new();
        let mut next = self.next_due(rate);
        while next.is_some() || !open.is_empty() {
            let due = async {
                match next {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {
                    // The timer may fire late, so all that is due by now is sent.
                    let mut bytes = Vec::new();
                    while let Some(due) = next.filter(|due| *due <= Instant::now()) {
                        bytes.extend_from_slice(self.requests.next(1));
                        open.push_back(due);
                        next = self.next_due(rate);
                    }
                    self.frames.stream_mut().write_all(&bytes).await?;
                }
                answered = self.frames.next() => {
                    for _ in 0..answered?.context(CLOSED)? {
                        let due = open.pop_front().context("more replies than requests")?;
                        self.shared.record(due, 1);
                    }
                }
                () = tokio::time::sleep(PATIENCE) => anyhow::bail!("no reply for {PATIENCE:?}"),
            }
        }
        Ok(())
    }

    /// Claims the next message of the whole load for this connection, and returns when it is due.
    fn next_due(&self, rate: f64) -> Option<Instant> {
        let number = self.shared.sent.get();
        (self.shared.claim(1) == 1)
            .then(|| self.shared.started + Duration::from_secs_f64(number as f64 / rate))
    }
}

/// Counts the whole replies that have come. Each must say "done".
struct ReplyCounter {
    done: &'static [u8],
}

impl Decoder for ReplyCounter {
    type Item = u64;
    type Error = io::Error;

    fn decode(&mut self, received: &mut BytesMut) -> io::Result<Option<u64>> {
        let (mut replies, mut start) = (0, 0);
        for end in memchr::memchr_iter(b'\n', received) {
            let reply = &received[start..end];
            if !reply.starts_with(self.done) {
                return Err(io::Error::other(format!("refused: {}", String::from_utf8_lossy(reply))));
            }
            replies += 1;
            start = end + 1;
        }
        received.advance(start);
        Ok((replies > 0).then_some(replies))
    }

    fn decode_eof(&mut self, received: &mut BytesMut) -> io::Result<Option<u64>> {
        self.decode(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_filled_in_turn_whatever_is_sent_at_a_time() {
        let load = Load {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            protocol: Protocol::RedisRpushSpread,
            connections: 1,
            pipeline: 16,
            messages: 1,
            size: 3,
            rate: None,
            keys: None,
        };
        let mut requests = RequestMaker::new(&load).starting_at(150);
        let mut sent = Vec::new();
        for count in [16, 1, 7, 16].into_iter().cycle().take(200) {
            sent.extend_from_slice(requests.next(count));
        }
        let sent = String::from_utf8(sent).unwrap();
        let lists: Vec<_> = sent.split("\r\n").skip(4).step_by(7).collect();
        assert_eq!(lists.len(), 2000);
        assert!((0..2000).all(|i| lists[i] == format!("bench{:04}", (1050 + i) % 1000)), "{lists:?}");
    }
}
