//! The programs that are measured, started on free ports with their data in temporary folders.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cluster_key::{ClusterKey, Keyring};
use protocol::store::client_api::StoreStatus;
use service::net::{LocalGroup, TcpStream};
use store_client::headnode::HeadnodeClient;
use store_client::session::SessionOptions;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::programs::{
    READY_WITHIN, command, free_address, listens, local_store_part, processor_time, resident_bytes, sibling,
};

/// A running program. Dropping the peer kills it and removes its data.
#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The process that listens at `address`.
    process: Child,
    others: Vec<Child>,
    /// The Redis servers that a proxy stands in front of.
    behind: Vec<Self>,
    is_redis: bool,
    /// What a client of a store with a key shows.
    pub keys: Option<Keyring>,
    /// The reservation lasts for as long as the store runs.
    group: Option<LocalGroup>,
    data: TempDir,
}

impl Peer {
    /// Starts Actividad 1's server.
    pub async fn server(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start(dir, |address, data| {
            let mut server = sibling("server")?;
            server.arg("--listen").arg(address.to_string()).arg("--data-dir").arg(data).args(arguments);
            Ok(server)
        })
        .await
    }

    /// Starts Actividad 2's headnode and three datanodes, and waits until all are available.
    pub async fn store(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::store_of(dir, arguments, None, |_| {}, sibling).await
    }

    /// Does what [`store`](Self::store) does, with a key.
    pub async fn keyed_store(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::store_of(dir, arguments, Some(ClusterKey::generate()?), |_| {}, sibling).await
    }

    /// Does as [`store`](Self::store) with the commands of `program` (of a headnode, then of datanodes), to each of which
    /// `adapt` adds what it wants, and with `key` if there is one.
    pub async fn store_of(
        dir: &Path,
        arguments: &[&str],
        key: Option<ClusterKey>,
        adapt: impl Fn(&mut Command),
        program: impl Fn(&str) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Self> {
        let group = LocalGroup::reserve()?;
        let part = |name: &str, data: &Path| {
            let mut command = local_store_part(program(name)?, &group, data)?;
            adapt(&mut command);
            anyhow::Ok(command)
        };
        let key_file = |data: &Path| data.join("cluster.key");
        let mut peer = Self::start(dir, |address, data| {
            let mut headnode = part("headnode", &data.join("headnode"))?;
            headnode.arg("--listen").arg(address.to_string()).args(["--interval", "1s"]).args(arguments);
            if let Some(key) = &key {
                cluster_key::file::create(&key_file(data), &cluster_key::file::cluster_line(key))?;
                headnode.arg("--key-file").arg(key_file(data));
            }
            Ok(headnode)
        })
        .await?;
        peer.keys = key.map(|key| Keyring::of_cluster(vec![key]));
        let data = std::path::absolute(peer.data.path())?;
        for name in ["datanode1", "datanode2", "datanode3"] {
            let mut datanode = part("datanode", &data.join(name))?;
            datanode.args(["--listen", "127.0.0.1:0", "--name", name]).args(arguments);
            if peer.keys.is_some() {
                datanode.arg("--key-file").arg(key_file(&data));
            }
            peer.others.push(datanode.spawn()?);
        }
        peer.group = Some(group);
        let started = Instant::now();
        while status(peer.address, peer.keys.clone()).await?.available < 3 {
            anyhow::ensure!(started.elapsed() < READY_WITHIN, "the datanodes do not become available");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(peer)
    }

    /// Starts TP0's echo server, which keeps its connections or closes each after its echo.
    pub async fn echo(dir: &Path, keep: bool) -> anyhow::Result<Self> {
        Self::start(dir, |address, data| {
            let mut server = sibling("echo-server")?;
            server.env("SERVER_IP", address.ip().to_string()).env("SERVER_PORT", address.port().to_string());
            // A line for each message is part of what the course asks for, and of what is measured.
            server.current_dir(data).args(keep.then_some("--keep-connections"));
            Ok(server)
        })
        .await
    }

    /// Starts Redis with a synced append-only file. It does not rewrite that file: it would fork in the middle of a
    /// measurement.
    pub async fn redis(dir: &Path) -> anyhow::Result<Self> {
        let mut redis = Self::start(dir, |address, data| {
            let mut redis = command("redis-server");
            redis.arg("--bind").arg(address.ip().to_string()).arg("--port").arg(address.port().to_string());
            redis.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
            redis.args(["--auto-aof-rewrite-percentage", "0", "--dir"]).arg(data);
            Ok(redis)
        })
        .await?;
        redis.is_redis = true;
        Ok(redis)
    }

    /// Starts three such Redis behind `nutcracker` (twemproxy), which spreads the lists over them: as in the store, a
    /// client speaks to one program, which passes each message on to one of three disks.
    pub async fn nutcracker(dir: &Path) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Self::redis(dir).await?);
        }
        let listed: String = servers.iter().map(|server| format!("    - {}:1\n", server.address)).collect();
        // nutcracker needs a port for its figures, whether somebody wants them or not.
        let stats = free_address()?;
        let mut proxy = Self::start(dir, |address, data| {
            let configuration = format!(
                "pool:\n  listen: {address}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  servers:\n{listed}"
            );
            let path = data.join("nutcracker.yml");
            std::fs::write(&path, configuration)?;
            let mut nutcracker = command("nutcracker");
            nutcracker.arg("--conf-file").arg(path).args(["--stats-addr", "127.0.0.1", "--stats-port"]);
            nutcracker.arg(stats.port().to_string());
            Ok(nutcracker)
        })
        .await?;
        proxy.behind = servers;
        Ok(proxy)
    }

    /// Empties each Redis, so that it does not grow from round to round; does nothing to other programs.
    pub async fn flush(&self) -> anyhow::Result<()> {
        let servers = self.behind.iter().map(|server| server.address);
        for address in servers.chain(self.is_redis.then_some(self.address)) {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"FLUSHALL\r\n").await?;
            let mut reply = [0; 5];
            stream.read_exact(&mut reply).await?;
            anyhow::ensure!(
                &reply == b"+OK\r\n",
                "Redis does not flush: {}",
                String::from_utf8_lossy(&reply)
            );
        }
        Ok(())
    }

    /// Starts the program whose command `configure` makes for an address and a folder, and waits until it listens.
    async fn start(
        dir: &Path,
        configure: impl FnOnce(SocketAddr, &Path) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("bench-").tempdir_in(dir)?;
        let address = free_address()?;
        let mut command = configure(address, &std::path::absolute(data.path())?)?;
        let mut process = command.spawn().with_context(|| {
            format!(
                "cannot start {}: is it installed (Debian: redis-server, redis-tools, nutcracker)?",
                command.as_std().get_program().display()
            )
        })?;
        listens(&mut process, address, READY_WITHIN).await?;
        let (others, behind) = (Vec::new(), Vec::new());
        Ok(Self { address, process, others, behind, is_redis: false, keys: None, group: None, data })
    }

    /// Returns the multicast group of a store.
    pub fn group(&self) -> Option<SocketAddrV4> {
        self.group.as_ref().map(|group| group.address)
    }

    /// Returns the folder of the data.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Returns the processes, the one that listens first.
    pub fn processes(&self) -> impl Iterator<Item = &Child> {
        std::iter::once(&self.process).chain(&self.others)
    }

    /// Returns the resident memory in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(&self.process)
    }

    /// Returns the processor time that all processes have used.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        std::iter::once(&self.process).chain(&self.others).map(processor_time).sum()
    }

    /// Kills all processes at once and returns their folder.
    pub async fn kill(mut self) -> anyhow::Result<TempDir> {
        for process in std::iter::once(&mut self.process).chain(&mut self.others) {
            process.kill().await?;
        }
        Ok(self.data)
    }
}

/// Returns what a headnode says of itself.
pub async fn status(headnode: SocketAddr, keys: Option<Keyring>) -> anyhow::Result<StoreStatus> {
    let options = SessionOptions { wait: READY_WITHIN, ..SessionOptions::default() };
    HeadnodeClient::new(&headnode.to_string(), options).with_keys(keys).status().await
}
