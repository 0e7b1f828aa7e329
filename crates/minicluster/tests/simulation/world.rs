//! Runs one simulation: a store and two clients, trouble, and what has to hold afterwards.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use datanode::DatanodeConfig;
use headnode::HeadnodeConfig;
use protocol::store::types::{Id, ulid};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use records::Receipt;
use service::net::Interface;
use service::{Environment, Shutdown};
use store_client::session::{OutgoingMessage, PutOutcome, SessionOptions, put_all};
use turmoil::Builder;

use crate::common::StoreFiles;
use crate::network::Simulated;
use crate::schedule::{CLIENTS, DATANODES, HEADNODE, Schedule, TROUBLE};

const MESSAGES: u64 = 25;
const TICK: Duration = Duration::from_millis(10);
/// A time that lets every message be retried after the trouble.
const WAIT: Duration = Duration::from_secs(60);

/// Counts what happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SimulationTally {
    pub crashes: u64,
    pub cuts: u64,
    pub saved: u64,
    /// Messages on more datanodes than were wanted.
    pub twice: u64,
}

impl fmt::Display for SimulationTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crashes, cuts, saved, twice } = self;
        write!(f, "{crashes} {cuts} {saved} {twice}")
    }
}

impl FromStr for SimulationTally {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let counts: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
        match counts.as_deref() {
            Ok(&[crashes, cuts, saved, twice]) => Ok(Self { crashes, cuts, saved, twice }),
            _ => Err(format!("not a tally: {text}")),
        }
    }
}

impl SimulationTally {
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.saved += other.saved;
        self.twice += other.twice;
    }
}

/// Returns a folder on a file system in memory if there is one: the simulated disks need not be real.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Runs the simulation of `seed`.
///
/// # Panics
/// If anything acknowledged is lost, doubled or changed, or if the registry does not agree with the datanodes.
pub fn simulate(seed: u64) -> SimulationTally {
    let folder = folder();
    let mut rng = StdRng::seed_from_u64(seed);
    let replicas = rng.random_range(1..=2usize);
    let mut sim = Builder::new()
        .rng_seed(rng.random())
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(300))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(10))
        .tcp_capacity(4096)
        .udp_capacity(4096)
        .build();
    for name in DATANODES.into_iter().chain([HEADNODE]) {
        let address = sim.lookup(name);
        let host = Host {
            name,
            address,
            folder: folder.path().join(name),
            replicas,
            starts: RefCell::new(StdRng::seed_from_u64(rng.random())),
        };
        let host = Rc::new(host);
        sim.host(name, move || host.clone().run());
    }
    let headnode = sim.lookup(HEADNODE);
    let sent = Rc::new(RefCell::new(BTreeMap::new()));
    let saved = Rc::new(RefCell::new(Vec::new()));
    let done = Rc::new(RefCell::new(0));
    for (number, name) in CLIENTS.into_iter().enumerate() {
        let client = SimulatedClient {
            number,
            headnode: (headnode, 5000).into(),
            rng: StdRng::seed_from_u64(rng.random()),
            sent: sent.clone(),
            saved: saved.clone(),
        };
        let done = done.clone();
        sim.client(name, async move {
            client.run().await;
            *done.borrow_mut() += 1;
            // The trouble passes, connections are made again, and what they hold is reconciled.
            let quiet = TROUBLE + Duration::from_secs(4);
            tokio::time::sleep(quiet.saturating_sub(turmoil::sim_elapsed().unwrap())).await;
            tokio::time::sleep(Duration::from_secs(6)).await;
            Ok(())
        });
    }
    let mut schedule = Schedule::new(&mut rng);
    while !sim.step().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
        schedule.apply(&mut sim);
    }
    assert_eq!(*done.borrow(), CLIENTS.len());
    // The programs end here; their files stay.
    drop(sim);
    let (crashes, cuts) = schedule.count();
    let store = StoreFiles::read(folder.path());
    assert_eq!(saved.borrow().len(), sent.borrow().len(), "every message was acknowledged once");
    let twice = store.check(&sent.borrow(), &saved.borrow(), replicas);
    let saved = saved.borrow().len() as u64;
    SimulationTally { crashes, cuts, saved, twice }
}

struct Host {
    name: &'static str,
    address: std::net::IpAddr,
    folder: PathBuf,
    replicas: usize,
    /// Each start of the host has a seed of its own.
    starts: RefCell<StdRng>,
}

impl Host {
    async fn run(self: Rc<Self>) -> turmoil::Result {
        let environment =
            Environment { network: Simulated, seed: self.starts.borrow_mut().random(), simulated: true };
        let group = "239.255.50.10:5003".parse().unwrap();
        let outcome = if self.name == HEADNODE {
            let config = HeadnodeConfig {
                listen: "0.0.0.0:5000".parse().unwrap(),
                data_dir: self.folder.clone(),
                group,
                interval: Duration::from_secs(1),
                store_timeout: Duration::from_millis(500),
                replicas: self.replicas,
                ..HeadnodeConfig::default()
            };
            headnode::run_in(environment, config, Shutdown::new(), |_| {}).await
        } else {
            let config = DatanodeConfig {
                name: self.name.parse().unwrap(),
                listen: "0.0.0.0:5001".parse().unwrap(),
                advertise: Some((self.address, 5001).into()),
                group,
                interface: Interface::All,
                data_dir: self.folder.clone(),
            };
            datanode::run_in(environment, config, Shutdown::new()).await
        };
        outcome.map_err(Into::into)
    }
}

struct SimulatedClient {
    number: usize,
    headnode: std::net::SocketAddr,
    rng: StdRng,
    sent: Rc<RefCell<BTreeMap<Id, String>>>,
    saved: Rc<RefCell<Vec<Receipt>>>,
}

impl SimulatedClient {
    async fn run(mut self) {
        let mut remaining = MESSAGES;
        while remaining > 0 {
            let burst = self.rng.random_range(1..=5).min(remaining);
            remaining -= burst;
            let messages: Vec<_> = (0..burst).map(|i| self.message(remaining + i)).collect();
            self.sent.borrow_mut().extend(messages.iter().map(|message| (message.id, message.text.clone())));
            let options = SessionOptions { wait: WAIT, reply_timeout: Duration::from_secs(3), window: 16 };
            let headnode = self.headnode;
            let connect = move || turmoil::net::TcpStream::connect(headnode);
            let rng = StdRng::seed_from_u64(self.rng.random());
            let saved = self.saved.clone();
            let outcome = |outcome| match outcome {
                PutOutcome::Saved(message) => saved.borrow_mut().push(Receipt {
                    time: String::new(),
                    id: message.id,
                    places: message.places,
                    message_crc32c: message.message_crc32c,
                    text: Some(message.text),
                }),
                PutOutcome::Failed(failed) => panic!("not saved although the trouble has passed: {failed:?}"),
            };
            put_all(connect, &mut messages.into_iter(), options, rng, &Shutdown::new(), outcome)
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..700))).await;
        }
    }

    fn message(&mut self, number: u64) -> OutgoingMessage {
        let nasty = ["", "\n", "\"", "\0", "ñ", "\u{2028}"][self.rng.random_range(0..6)];
        let text = format!("{nasty}{}-{number}{nasty}", self.number);
        OutgoingMessage { id: ulid(number, self.rng.random()), text }
    }
}
