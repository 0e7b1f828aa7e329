//! The programs that are measured, started on free ports with their data in temporary folders.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use protocol::store::client_api::{ClientRequest, HeadnodeReply, StoreStatus};
use protocol::store::json;
use service::net::{LocalGroup, TcpStream};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A program that is running; it ends when this is dropped, and its data with it.
#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The one that listens at `address`.
    process: Child,
    others: Vec<Child>,
    /// The Redis servers that a proxy stands in front of.
    behind: Vec<Self>,
    is_redis: bool,
    /// Kept for as long as the store runs.
    group: Option<LocalGroup>,
    data: TempDir,
}

impl Peer {
    /// Actividad 1's server, as `cargo build` left it beside this program.
    pub async fn server(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let program = sibling("server")?;
        Self::start(dir, &program, |command, address, data| {
            command.arg("--listen").arg(address.to_string()).arg("--data-dir").arg(data).args(arguments);
        })
        .await
    }

    /// Actividad 2's headnode and three datanodes, all available.
    pub async fn store(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let (headnode, datanode) = (sibling("headnode")?, sibling("datanode")?);
        let group = LocalGroup::reserve()?;
        let heartbeat = [
            "--interface".to_owned(),
            "127.0.0.1".to_owned(),
            "--group".to_owned(),
            group.address.to_string(),
        ];
        let mut peer = Self::start(dir, &headnode, |command, address, data| {
            command.arg("--listen").arg(address.to_string()).arg("--data-dir").arg(data.join("headnode"));
            command.args(&heartbeat).args(["--interval", "1s"]).args(arguments);
        })
        .await?;
        for number in 1..=3 {
            let name = format!("datanode{number}");
            let mut command = Command::new(&datanode);
            command.args(["--listen", "127.0.0.1:0", "--name", &name, "--data-dir"]);
            command.arg(std::path::absolute(peer.data.path())?.join(&name)).args(&heartbeat).args(arguments);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            peer.others.push(command.spawn()?);
        }
        peer.group = Some(group);
        let started = Instant::now();
        while status(peer.address).await?.available < 3 {
            anyhow::ensure!(started.elapsed() < READY_WITHIN, "the datanodes do not become available");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(peer)
    }

    /// TP0's echo server, keeping its connections or closing each after its echo.
    pub async fn echo(dir: &Path, keep: bool) -> anyhow::Result<Self> {
        let program = sibling("echo-server")?;
        Self::start(dir, &program, |command, address, data| {
            command.env("SERVER_IP", address.ip().to_string()).env("SERVER_PORT", address.port().to_string());
            // A line for each message is part of what the course asks for, and of what is measured.
            command.current_dir(data).args(keep.then_some("--keep-connections"));
        })
        .await
    }

    /// Redis with a synced append-only file. Rewriting it is off: it would fork in the middle of a measurement.
    pub async fn redis(dir: &Path) -> anyhow::Result<Self> {
        let mut redis = Self::start(dir, Path::new("redis-server"), |command, address, data| {
            command.arg("--bind").arg(address.ip().to_string()).arg("--port").arg(address.port().to_string());
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
            command.args(["--auto-aof-rewrite-percentage", "0", "--dir"]).arg(data);
        })
        .await?;
        redis.is_redis = true;
        Ok(redis)
    }

    /// Three such Redis behind `nutcracker` (twemproxy), which spreads the lists over them: as in the store, a client
    /// speaks to one program, which passes each message on to one of three disks.
    pub async fn nutcracker(dir: &Path) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Self::redis(dir).await?);
        }
        let listed: String = servers.iter().map(|server| format!("    - {}:1\n", server.address)).collect();
        // It serves its figures, whether somebody wants them or not.
        let stats = free_address()?;
        let mut proxy = Self::start(dir, Path::new("nutcracker"), |command, address, data| {
            let configuration = format!(
                "pool:\n  listen: {address}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  servers:\n{listed}"
            );
            let path = data.join("nutcracker.yml");
            // Without it nutcracker ends at once, which is noticed.
            let _ = std::fs::write(&path, configuration);
            command.arg("--conf-file").arg(path).args(["--stats-addr", "127.0.0.1", "--stats-port"]);
            command.arg(stats.port().to_string());
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

    async fn start(
        dir: &Path,
        program: &Path,
        configure: impl FnOnce(&mut Command, SocketAddr, &Path),
    ) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("bench-").tempdir_in(dir)?;
        let address = free_address()?;
        let mut command = Command::new(program);
        configure(&mut command, address, &std::path::absolute(data.path())?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().with_context(|| {
            format!(
                "cannot start {}: is it installed (Debian: redis-server, redis-tools, nutcracker)?",
                program.display()
            )
        })?;
        let mut peer = Self {
            address,
            process,
            others: Vec::new(),
            behind: Vec::new(),
            is_redis: false,
            group: None,
            data,
        };
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = peer.process.try_wait()? {
                bail!("{} ended at once: {status}", program.display());
            }
            anyhow::ensure!(started.elapsed() < READY_WITHIN, "{} does not listen", program.display());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(peer)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(&self.process)
    }

    /// Kills all programs at once and gives their folder back.
    pub async fn kill(mut self) -> anyhow::Result<TempDir> {
        for process in std::iter::once(&mut self.process).chain(&mut self.others) {
            process.kill().await?;
        }
        Ok(self.data)
    }
}

/// Resident memory of a program, in bytes.
pub fn resident_bytes(process: &Child) -> anyhow::Result<u64> {
    memory(process, "VmRSS:")
}

/// The most resident memory that a program had, in bytes.
pub fn peak_resident_bytes(process: &Child) -> anyhow::Result<u64> {
    memory(process, "VmHWM:")
}

fn memory(process: &Child, name: &str) -> anyhow::Result<u64> {
    let id = process.id().context("the program has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such figure")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// What a headnode says of itself.
pub async fn status(headnode: SocketAddr) -> anyhow::Result<StoreStatus> {
    let stream = TcpStream::connect(headnode).await?;
    let (reader, mut writer) = stream.into_split();
    let mut request = Vec::new();
    ClientRequest::Status.encode(&mut request);
    writer.write_all(&request).await?;
    let mut reply = String::new();
    BufReader::new(reader).read_line(&mut reply).await?;
    match json::decode(reply.as_bytes())? {
        HeadnodeReply::Status(status) => Ok(status),
        other => bail!("not a status: {other:?}"),
    }
}

pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is missing: run `cargo build --release` first", path.display());
    Ok(path)
}

pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
