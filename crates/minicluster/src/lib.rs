//! Actividad 2, a whole store inside one process: a headnode and its datanodes, each on a thread of its own, with the sockets and
//! files that they have as programs, on loopback.
//!
//! ```no_run
//! use minicluster::{Cluster, Config};
//!
//! # fn main() -> anyhow::Result<()> {
//! let cluster = Cluster::start(&Config::new("run"))?;
//! cluster.wait_until_available(3)?;
//! println!("clients connect to {}", cluster.address());
//! cluster.stop()
//! # }
//! ```

use std::future::Future;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use datanode::DatanodeConfig;
use headnode::HeadnodeConfig;
use protocol::store::client_api::{ClientRequest, HeadnodeReply, StoreStatus};
use protocol::store::json;
use service::net::{Interface, LocalGroup};
use service::{Common, Environment, Shutdown, cli};

/// How long the datanodes get to become available.
const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Starts a headnode and datanodes on this computer, then stores the lines that you type.
///
/// Other clients can connect meanwhile: store-client put "Hola", or nc.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "minicluster",
    version,
    // Between the lines that are typed, only what is wrong.
    mut_arg("log_level", |flag| flag.default_value("warn")),
    after_help = "Examples:\n  minicluster\n  seq 1000 | minicluster\n  minicluster --datanodes 5 --replicas 2 --data-dir /tmp/store\n\
                  Each flag can also be set in the environment: --data-dir as MINICLUSTER_DATA_DIR."
)]
pub struct Arguments {
    /// How many datanodes, 1 to 100
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = service::cli::count(1..=100))]
    pub datanodes: usize,
    /// Datanodes that must confirm a message before the client is told
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = service::cli::count(1..=100))]
    pub replicas: usize,
    /// From one round of the heartbeat to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = cli::duration)]
    pub interval: Duration,
    /// Address and port for clients; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Folder that gets a folder for each part of the store, and registro_cliente.txt
    #[arg(long, value_name = "DIR", default_value = "run")]
    pub data_dir: PathBuf,
    /// Flags that every program has
    #[command(flatten)]
    pub common: Common,
}

/// Runs the command: a store, and what is typed goes into it.
///
/// # Errors
/// If a part of the store cannot start or fails, or if a message is not saved.
pub async fn run(arguments: Arguments, shutdown: Shutdown) -> anyhow::Result<()> {
    let Arguments { datanodes, replicas, interval, listen, data_dir, .. } = arguments;
    let config = Config { datanodes, replicas, interval, listen, ..Config::new(&data_dir) };
    let cluster = Cluster::start(&config)?;
    cluster.wait_until_available(datanodes)?;
    println!(
        "{datanodes} datanodes disponibles; los clientes se conectan a {}. Los archivos están en {}.",
        cluster.address(),
        data_dir.display()
    );
    println!("Escriba mensajes, uno por línea; Ctrl-D termina.");
    let options = store_client::session::Options::default();
    let address = cluster.address().to_string();
    let session =
        store_client::put::interactive(&address, &data_dir.join("client"), options, &shutdown).await;
    let stopped = cluster.stop();
    session.and(stopped)
}

/// What a store looks like.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many datanodes.
    pub datanodes: usize,
    /// Datanodes that must confirm a message.
    pub replicas: usize,
    /// From one round of the heartbeat to the next.
    pub interval: Duration,
    /// Where clients connect to; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Gets a folder for each part.
    pub folder: PathBuf,
}

impl Config {
    /// Three datanodes, one replica, five seconds, a free port.
    #[must_use]
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self {
            datanodes: 3,
            replicas: 1,
            interval: Duration::from_secs(5),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            folder: folder.as_ref().to_owned(),
        }
    }
}

/// A store that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    address: SocketAddr,
    parts: Vec<Part>,
    _group: LocalGroup,
}

#[derive(Debug)]
struct Part {
    name: String,
    shutdown: Shutdown,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Cluster {
    /// Starts the parts, and returns when clients can connect. Datanodes become available shortly after.
    ///
    /// # Errors
    /// If the headnode cannot start.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let group = LocalGroup::reserve().context("cannot take a port for the heartbeat")?;
        let interface: Interface = "127.0.0.1".parse().map_err(anyhow::Error::msg)?;
        let mut parts = Vec::new();
        for number in 1..=config.datanodes {
            let name = format!("datanode{number}");
            let datanode = DatanodeConfig {
                name: name.parse()?,
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                advertise: None,
                group: group.address,
                interface: interface.clone(),
                data_dir: config.folder.join(&name),
            };
            parts.push(Part::start(name, move |environment, shutdown| {
                datanode::run_in(environment, datanode, shutdown)
            })?);
        }
        let headnode = HeadnodeConfig {
            listen: config.listen,
            data_dir: config.folder.join("headnode"),
            group: group.address,
            interface,
            interval: config.interval,
            expected: config.datanodes,
            replicas: config.replicas,
            ..HeadnodeConfig::default()
        };
        let (ready, address) = mpsc::channel();
        let mut headnode = Part::start("headnode".to_owned(), move |environment, shutdown| {
            headnode::run_in(environment, headnode, shutdown, move |address| {
                // Nobody waits any more if the start was given up.
                let _ = ready.send(address);
            })
        })?;
        let Ok(address) = address.recv() else { return Err(headnode.why()) };
        parts.push(headnode);
        Ok(Self { address, parts, _group: group })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until messages can be sent to so many datanodes.
    ///
    /// # Errors
    /// If a part has ended, or it takes longer than 20 s.
    pub fn wait_until_available(&self, datanodes: usize) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.status()?.available < datanodes {
            if let Some(part) = self.parts.iter().find(|part| part.has_ended()) {
                bail!("{} has ended: see what it logged", part.name);
            }
            if started.elapsed() > READY_WITHIN {
                bail!("fewer than {datanodes} datanodes are available after {READY_WITHIN:?}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// What the headnode says of itself.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> anyhow::Result<StoreStatus> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(READY_WITHIN))?;
        let mut request = Vec::new();
        ClientRequest::Status.encode(&mut request);
        (&stream).write_all(&request)?;
        let mut reply = String::new();
        BufReader::new(&stream).read_line(&mut reply)?;
        match json::decode(reply.as_bytes())? {
            HeadnodeReply::Status(status) => Ok(status),
            other => bail!("not a status: {other:?}"),
        }
    }

    /// Ends all parts, the headnode first, and gives their files back.
    ///
    /// # Errors
    /// If one of them failed.
    pub fn stop(mut self) -> anyhow::Result<()> {
        while let Some(mut part) = self.parts.pop() {
            part.shutdown.request();
            part.join()?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        while let Some(mut part) = self.parts.pop() {
            part.shutdown.request();
            // Nobody is left to be told.
            let _ = part.join();
        }
    }
}

impl Part {
    /// Runs a program on a thread of its own, as if it were a process.
    fn start<F, Fut>(name: String, program: F) -> anyhow::Result<Self>
    where
        F: FnOnce(Environment<service::net::Sockets>, Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let shutdown = Shutdown::new();
        let requested = shutdown.clone();
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &name);
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(program(Environment::real(seed), requested))
        })?;
        Ok(Self { name, shutdown, thread: Some(thread) })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let outcome = thread.join().map_err(|_| anyhow!("{} panicked", self.name))?;
        outcome.with_context(|| format!("{} failed", self.name))
    }

    /// Why it has ended before it was ready.
    fn why(&mut self) -> anyhow::Error {
        self.join().err().unwrap_or_else(|| anyhow!("{} ended at its start", self.name))
    }
}
