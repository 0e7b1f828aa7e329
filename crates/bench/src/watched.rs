//! Measures what looking at the store costs it: metrics that a monitor reads, one open page, and many.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use service::net::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::arguments::WatchedArguments;
use crate::load::{self, Load, Protocol};
use crate::peers::Peer;
use crate::programs::{free_address, program_in, sibling};
use crate::stats::Spread;

/// The time from one reading of the metrics to the next: a Prometheus that is in a hurry.
const SCRAPE_PERIOD: Duration = Duration::from_secs(1);
/// Length of each message in bytes.
const MESSAGE_BYTES: usize = 100;
/// The side that all are compared with.
const UNWATCHED: usize = 0;

/// Who looks at a store while it is measured.
#[derive(Debug, Clone, Copy)]
enum Watchers {
    /// A monitor that reads the metrics.
    Monitor,
    /// So many open pages, each of which reads all that it is sent.
    Pages(usize),
}

/// One side: a store, and who looks at it.
struct WatchedSide {
    name: String,
    store: Peer,
    /// Where the page is, and who looks at it; `None` for a store without a page.
    watched: Option<(SocketAddr, Watchers)>,
    load: Load,
    measured: Vec<Measured>,
}

/// The figures of one side in one round.
#[derive(Debug, Clone, Copy)]
struct Measured {
    per_second: f64,
    p99_us: f64,
    /// Processor time of headnode and datanodes together.
    processor_us: f64,
}

/// What each side reached, and its ratios to the first one, round by round.
#[derive(Debug, Serialize)]
pub struct WatchedReport {
    rounds: usize,
    connections: usize,
    rows: Vec<WatchedRow>,
    /// The number of bytes that pages and monitor were sent.
    bytes_watched: u64,
}

#[derive(Debug, Serialize)]
struct WatchedRow {
    side: String,
    per_second: Spread,
    p99_us: Spread,
    processor_us: Spread,
    per_second_ratio: Spread,
    p99_ratio: Spread,
    processor_ratio: Spread,
}

impl fmt::Display for WatchedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, connections, rows, bytes_watched } = self;
        writeln!(
            f,
            "| {connections} connections; median (min–max) of {rounds} | a second | ratio | p99 in µs | ratio | \
             processor of the store, µs a message | ratio |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- |")?;
        for row in rows {
            let WatchedRow { side, per_second, p99_us, processor_us, .. } = row;
            let WatchedRow { per_second_ratio, p99_ratio, processor_ratio, .. } = row;
            writeln!(
                f,
                "| {side} | {per_second} | {per_second_ratio} | {p99_us} | {p99_ratio} | {processor_us} | {processor_ratio} |"
            )?;
        }
        write!(f, "\nPages and monitor were sent {:.1} MB.", *bytes_watched as f64 / 1e6)
    }
}

/// Measures all sides in turn.
pub async fn run(arguments: &WatchedArguments) -> anyhow::Result<WatchedReport> {
    rlimit::increase_nofile_limit(arguments.pages as u64 * 2 + 1024)?;
    let many = format!("{} pages", arguments.pages);
    let mut sides = vec![
        WatchedSide::new("no page", None, None, arguments).await?,
        WatchedSide::new("metrics, read each second", Some(Watchers::Monitor), None, arguments).await?,
        WatchedSide::new("one page", Some(Watchers::Pages(1)), None, arguments).await?,
        WatchedSide::new(&many, Some(Watchers::Pages(arguments.pages)), None, arguments).await?,
    ];
    if let Some(programs) = &arguments.other {
        sides.push(WatchedSide::new("the other version, no page", None, Some(programs), arguments).await?);
    }
    // All stores get the same number of messages, because a store that has more of them is slower.
    let trial = load::run(&sides[UNWATCHED].load, false).await?;
    let messages = (trial.per_second * arguments.length.as_secs_f64()) as u64 + 1;
    sides.iter_mut().for_each(|side| side.load.messages = messages);
    let mut bytes_watched = 0;
    for round in 0..arguments.rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            bytes_watched += sides[at].measure().await?;
        }
    }
    let rows = sides.iter().map(|side| side.row(&sides[UNWATCHED])).collect();
    Ok(WatchedReport { rounds: arguments.rounds, connections: arguments.connections, rows, bytes_watched })
}

impl WatchedSide {
    /// Starts a store, of this version or of the one whose `programs` are in another folder, and warms it up.
    async fn new(
        name: &str,
        watchers: Option<Watchers>,
        programs: Option<&PathBuf>,
        arguments: &WatchedArguments,
    ) -> anyhow::Result<Self> {
        let watched = watchers.map(|watchers| free_address().map(|page| (page, watchers))).transpose()?;
        let serve = |command: &mut Command| {
            if let Some((page, _)) = watched {
                command.env("HEADNODE_PAGE", page.to_string()).env("DATANODE_METRICS", "127.0.0.1:0");
            }
        };
        let program = |name: &str| match programs {
            Some(programs) => program_in(programs, name),
            None => sibling(name),
        };
        let store = Peer::store_of(&arguments.dir, &["--log-level", "warn"], None, serve, program).await?;
        let connections = arguments.connections;
        let messages = 200 * connections as u64;
        let (address, protocol, size) = (store.address, Protocol::Store, MESSAGE_BYTES);
        let load =
            Load { address, protocol, connections, pipeline: 1, messages, size, rate: None, keys: None };
        load::run(&load, false).await?;
        Ok(Self { name: name.to_owned(), store, watched, load, measured: Vec::new() })
    }

    /// Measures once, and returns the number of bytes that those who looked were sent.
    async fn measure(&mut self) -> anyhow::Result<u64> {
        let watching = match self.watched {
            None => None,
            Some((page, watchers)) => Some(Watching::start(page, watchers).await?),
        };
        let before = self.store.processor_time()?;
        let report = load::run(&self.load, false).await?;
        let processor = self.store.processor_time()? - before;
        self.measured.push(Measured {
            per_second: report.per_second,
            p99_us: report.p99_us,
            processor_us: processor.as_secs_f64() * 1e6 / self.load.messages as f64,
        });
        watching.map_or(Ok(0), Watching::stop)
    }

    fn row(&self, unwatched: &Self) -> WatchedRow {
        let spread = |figure: &dyn Fn(&Measured) -> f64| {
            Spread::of(&self.measured.iter().map(figure).collect::<Vec<_>>())
        };
        let ratio = |figure: &dyn Fn(&Measured) -> f64| {
            let rounds = self.measured.iter().zip(&unwatched.measured);
            Spread::of(&rounds.map(|(ours, theirs)| figure(ours) / figure(theirs)).collect::<Vec<_>>())
        };
        WatchedRow {
            side: self.name.clone(),
            per_second: spread(&|measured| measured.per_second),
            p99_us: spread(&|measured| measured.p99_us),
            processor_us: spread(&|measured| measured.processor_us),
            per_second_ratio: ratio(&|measured| measured.per_second),
            p99_ratio: ratio(&|measured| measured.p99_us),
            processor_ratio: ratio(&|measured| measured.processor_us),
        }
    }
}

/// Those who look, on a thread of their own, so that the load generator has its thread to itself.
struct Watching {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<u64>>,
}

impl Watching {
    /// Returns when all look.
    async fn start(page: SocketAddr, watchers: Watchers) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, all_look) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(watch(page, watchers, ready, stopped))
        });
        if all_look.await.is_err() {
            let result = thread.join().map_err(|_| anyhow::anyhow!("the thread of the pages panicked"))?;
            bail!("the pages cannot be opened: {result:?}");
        }
        Ok(Self { stop, thread })
    }

    /// Stops looking, and returns the number of bytes that were read.
    fn stop(self) -> anyhow::Result<u64> {
        // If nobody takes this, the thread has failed, and says why below.
        self.stop.send(()).ok();
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread of the pages panicked"))?
    }
}

/// Looks until it is `stopped`, and returns the number of bytes that were read.
async fn watch(
    page: SocketAddr,
    watchers: Watchers,
    ready: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<u64> {
    let read = Arc::new(AtomicU64::new(0));
    let mut looking = JoinSet::new();
    match watchers {
        Watchers::Monitor => {
            looking.spawn(monitor(page, read.clone()));
        }
        Watchers::Pages(pages) => {
            for _ in 0..pages {
                let stream = open_page(page, &read).await?;
                looking.spawn(read_page(stream, read.clone()));
            }
        }
    }
    ensure!(ready.send(()).is_ok(), "nobody waits for the pages");
    tokio::select! {
        stopped = stopped => stopped.context("the measurement has failed")?,
        Some(ended) = looking.join_next() => bail!("a page or the monitor has ended: {ended:?}"),
    }
    Ok(read.load(Ordering::Relaxed))
}

/// Opens the stream of a page's frames, and waits for its first bytes.
async fn open_page(page: SocketAddr, read: &AtomicU64) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(page).await?;
    stream.write_all(request("/events", page).as_bytes()).await?;
    let mut bytes = [0; 1024];
    let length = stream.read(&mut bytes).await?;
    ensure!(bytes[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes[..length]));
    read.fetch_add(length as u64, Ordering::Relaxed);
    Ok(stream)
}

async fn read_page(mut stream: TcpStream, read: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut bytes).await?;
        ensure!(length > 0, "the headnode has closed the page");
        read.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Reads the metrics again and again.
async fn monitor(page: SocketAddr, read: Arc<AtomicU64>) -> anyhow::Result<()> {
    loop {
        let mut stream = TcpStream::connect(page).await?;
        stream.write_all(request("/metrics", page).as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        read.fetch_add(answer.len() as u64, Ordering::Relaxed);
        tokio::time::sleep(SCRAPE_PERIOD).await;
    }
}

fn request(path: &str, page: SocketAddr) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {page}\r\nConnection: close\r\n\r\n")
}
