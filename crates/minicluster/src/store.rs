//! Runs a whole store inside one process: each part has a thread, and the sockets and files that it has as a program.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use datanode::DatanodeConfig;
use headnode::{HeadnodeConfig, Listening};
use journal::Disk;
use page::PageConfig;
use protocol::store::client_api::{NodeState, NodeStatus};
use service::net::{Interface, LocalGroup, Sockets};
use service::{Environment, Shutdown};
use store_client::headnode::HeadnodeClient;
use store_client::session::SessionOptions;

use crate::arguments::MiniclusterArguments;

/// Time between two checks of a datanode's records: the default of `datanode`.
const SCRUB_INTERVAL: Duration = Duration::from_secs(600);
/// The time that the datanodes have to become available.
const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// A running store. It ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    listening: Listening,
    parts: Vec<StorePart>,
    _group: LocalGroup,
}

#[derive(Debug)]
struct StorePart {
    name: String,
    shutdown: Shutdown,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Cluster {
    /// Starts the parts, and returns when clients can connect. Datanodes become available shortly after.
    ///
    /// # Errors
    /// If the headnode cannot start.
    pub fn start(config: &MiniclusterArguments) -> anyhow::Result<Self> {
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
                data_dir: config.data_dir.join(&name),
                scrub_interval: SCRUB_INTERVAL,
                keys: None,
                metrics: PageConfig::none(),
            };
            parts.push(StorePart::start(name, move |environment, shutdown| {
                datanode::run_in(environment, datanode, shutdown)
            })?);
        }
        let headnode = HeadnodeConfig {
            listen: config.listen,
            data_dir: config.data_dir.join("headnode"),
            group: group.address,
            interface,
            interval: config.interval,
            expected: config.datanodes,
            replicas: config.replicas,
            page: config.page.clone().config(headnode::PAGE_PORT),
            page_messages: true,
            ..HeadnodeConfig::default()
        };
        let (ready, listening) = mpsc::channel();
        let mut headnode = StorePart::start("headnode".to_owned(), move |environment, shutdown| {
            headnode::run_in(environment, headnode, shutdown, move |listening| {
                // The receiver is gone if the start was given up.
                let _ = ready.send(listening);
            })
        })?;
        let Ok(listening) = listening.recv() else { return Err(headnode.why()) };
        parts.push(headnode);
        Ok(Self { listening, parts, _group: group })
    }

    /// Returns the address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listening.clients
    }

    /// Returns the address of the page, if there is one.
    #[must_use]
    pub fn page(&self) -> Option<SocketAddr> {
        self.listening.page
    }

    /// Waits until the headnode is connected to `datanodes` datanodes.
    ///
    /// # Errors
    /// If a part has ended, or if that takes longer than 20 s.
    pub async fn wait_until_available(&self, datanodes: usize) -> anyhow::Result<()> {
        let options = SessionOptions { wait: READY_WITHIN, ..SessionOptions::default() };
        let mut headnode = HeadnodeClient::new(&self.listening.clients.to_string(), options);
        let started = Instant::now();
        loop {
            if let Some(part) = self.parts.iter().find(|part| part.has_ended()) {
                bail!("{} has ended: see what it logged", part.name);
            }
            let status = headnode.status().await?;
            // Not those that get new messages: that one is drained lasts longer than a run.
            let is_connected = |datanode: &&NodeStatus| datanode.state == NodeState::Available;
            if status.datanodes.iter().filter(is_connected).count() >= datanodes {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                bail!("the headnode is connected to fewer than {datanodes} datanodes after {READY_WITHIN:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends all parts, the headnode first, and releases their files.
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

impl StorePart {
    /// Runs a program on a thread of its own, as if it were a process.
    fn start<F, Fut>(name: String, program: F) -> anyhow::Result<Self>
    where
        F: FnOnce(Environment<Sockets, Disk>, Shutdown) -> Fut + Send + 'static,
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

    /// Returns why the part ended before it was ready.
    fn why(&mut self) -> anyhow::Error {
        self.join().err().unwrap_or_else(|| anyhow!("{} ended at its start", self.name))
    }
}
