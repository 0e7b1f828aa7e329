//! Measures a real headnode with datanodes of which only the heartbeat and the greeting exist.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use protocol::store::heartbeat::{Datagram, MAX_DATAGRAM_BYTES, Probe, ProbeAnswer};
use protocol::store::json;
use protocol::store::node_api::{NodeReply, NodeRequest};
use protocol::store::types::ulid;
use rand::RngExt as _;
use serde::Serialize;
use service::net::{Datagrams as _, Interface, LocalGroup, MulticastSocket, TcpListener, TcpStream};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::task::LocalSet;

use crate::programs::{processor_time, store_part};

/// The number of datanodes that share a socket.
const PER_SOCKET: usize = 100;
const INTERVAL: Duration = Duration::from_secs(5);
/// Rounds before the measurement, in which all datanodes are found and connected.
const WARM_UP_ROUNDS: u64 = 3;

/// What the measured rounds took.
#[derive(Debug, Serialize)]
pub struct HeartbeatReport {
    datanodes: usize,
    rounds: u64,
    /// The number of datanodes that answered in each round.
    answered: Vec<usize>,
    answers_sent: f64,
    probes_received: f64,
    cpu_ms: f64,
    /// The number of datagrams that the headnode's socket had no room for.
    dropped: u64,
}

impl fmt::Display for HeartbeatReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fewest = self.answered.iter().min().copied().unwrap_or(0);
        write!(
            f,
            "{} datanodes, {} rounds: at least {fewest} answered in each; a round took {:.1} ms of the headnode's processor, \
             {:.0} answers sent and {:.0} probes received by datanodes; {} datagrams had no room in the headnode's socket",
            self.datanodes, self.rounds, self.cpu_ms, self.answers_sent, self.probes_received, self.dropped
        )
    }
}

/// Counts what the simulated datanodes do.
#[derive(Default)]
struct HeartbeatCounts {
    probes: Cell<u64>,
    answers: Cell<u64>,
    /// The address that the headnode's probes come from.
    headnode: Cell<Option<SocketAddr>>,
}

/// Runs a headnode with simulated datanodes, and measures `rounds` rounds.
pub async fn run(datanodes: usize, rounds: u64) -> anyhow::Result<HeartbeatReport> {
    rlimit::increase_nofile_limit(datanodes as u64 + 1024)?;
    let group = LocalGroup::reserve()?;
    let folder = tempfile::tempdir()?;
    let mut command = store_part("headnode", &group, folder.path())?;
    command.args(["--listen", "127.0.0.1:0", "--expected", &datanodes.to_string(), "--log-level", "error"]);
    let counts = Rc::new(HeartbeatCounts::default());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let listener = service::net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let address = listener.local_addr()?;
            tokio::task::spawn_local(greet_all(listener));
            let everyone: Vec<_> = (0..datanodes).collect();
            for numbers in everyone.chunks(PER_SOCKET) {
                let interface = Interface::Address(Ipv4Addr::LOCALHOST);
                let socket = MulticastSocket::member(group.address, interface.clone())?;
                let own = MulticastSocket::sender(interface)?;
                let simulated = SimulatedDatanodes {
                    socket,
                    own,
                    numbers: numbers.to_vec(),
                    address,
                    counts: counts.clone(),
                };
                tokio::task::spawn_local(simulated.run());
            }
            let headnode = command.spawn()?;
            let file = folder.path().join(records::HEARTBEAT_FILE);
            let report = || answered(&std::fs::read_to_string(&file).unwrap_or_default());
            while (report().len() as u64) < WARM_UP_ROUNDS {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let before = (processor_time(&headnode)?, counts.probes.get(), counts.answers.get());
            tokio::time::sleep(INTERVAL * u32::try_from(rounds)?).await;
            let after = (processor_time(&headnode)?, counts.probes.get(), counts.answers.get());
            let each = |before: u64, after: u64| (after - before) as f64 / rounds as f64;
            let port = counts.headnode.get().context("no probe came")?.port();
            Ok(HeartbeatReport {
                datanodes,
                rounds,
                answered: report().split_off(usize::try_from(WARM_UP_ROUNDS)?),
                answers_sent: each(before.2, after.2),
                probes_received: each(before.1, after.1),
                cpu_ms: (after.0 - before.0).as_secs_f64() * 1000.0 / rounds as f64,
                dropped: dropped(port)?,
            })
        })
        .await
}

/// Simulates the datanodes on one socket.
struct SimulatedDatanodes {
    socket: MulticastSocket,
    own: MulticastSocket,
    numbers: Vec<usize>,
    address: SocketAddr,
    counts: Rc<HeartbeatCounts>,
}

impl SimulatedDatanodes {
    async fn run(self) -> anyhow::Result<()> {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let due: RefCell<BinaryHeap<Reverse<(Instant, usize)>>> = RefCell::default();
        let mut probe = None;
        loop {
            let next = due.borrow().peek().map(|Reverse((due, _))| *due);
            tokio::select! {
                received = self.socket.receive(&mut buffer) => {
                    let (length, from) = received?;
                    if let Ok(Datagram::Probe(new)) = Datagram::decode(&buffer[..length]) {
                        self.counts.headnode.set(Some(from));
                        self.counts.probes.set(self.counts.probes.get() + self.numbers.len() as u64);
                        let spread = Duration::from_millis(new.spread_ms);
                        let delayed = self.numbers.iter().map(|number| {
                            Reverse((Instant::now() + spread.mul_f64(rand::random()), *number))
                        });
                        due.borrow_mut().extend(delayed);
                        probe = Some((new, from));
                    }
                }
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    let Some((probe, to)) = probe else { continue };
                    let now = Instant::now();
                    while due.borrow().peek().is_some_and(|Reverse((due, _))| *due <= now) {
                        let Some(Reverse((_, number))) = due.borrow_mut().pop() else { break };
                        self.own.send(&self.answer(probe, number), to).await?;
                        self.counts.answers.set(self.counts.answers.get() + 1);
                    }
                }
            }
        }
    }

    fn answer(&self, probe: Probe, number: usize) -> Vec<u8> {
        let name = format!("datanode{number}").parse().expect("it is a name");
        let Probe { round, token, attempt, .. } = probe;
        let incarnation = ulid(1, number as u128);
        let (records, free_bytes) = (rand::rng().random_range(0..1_000_000), 1 << 40);
        let address = self.address;
        Datagram::Answer(ProbeAnswer {
            round,
            token,
            attempt,
            name,
            incarnation,
            address,
            records,
            free_bytes,
            sync: None,
            leader: None,
            unreadable: 0,
        })
        .encode()
    }
}

/// Greets the headnode in the name of every simulated datanode.
async fn greet_all(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(greet(stream));
    }
}

async fn greet(stream: TcpStream) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let reply = match json::decode(line.as_bytes())? {
            NodeRequest::Hello { v, .. } => NodeReply::Welcome { v, records: 0, draining: false },
            _ => NodeReply::Holdings { records: Vec::new(), more: false },
        };
        let mut bytes = Vec::new();
        json::encode(&reply, &mut bytes);
        writer.write_all(&bytes).await?;
    }
    Ok(())
}

/// Returns how many datanodes answered in each round of the heartbeat file.
fn answered(file: &str) -> Vec<usize> {
    let count = |line: &str| line.split("operativos=").nth(1)?.split(' ').next()?.parse().ok();
    file.lines().filter_map(count).collect()
}

/// Returns how many datagrams a UDP port of this host had no room for: the last column of `/proc/net/udp`.
fn dropped(port: u16) -> anyhow::Result<u64> {
    let sockets = std::fs::read_to_string("/proc/net/udp")?;
    let port = format!(":{port:04X}");
    let of_port = sockets
        .lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)));
    of_port
        .map(|line| {
            line.split_whitespace().last().context("no column")?.parse::<u64>().context("not a number")
        })
        .sum()
}
