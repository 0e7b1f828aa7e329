//! Measures what `server` needs: memory for connections, and time to start.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use service::net::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::peers::Peer;
use crate::stats::Spread;

const MESSAGE: &[u8] = b"Hola\n";
const REPLY: &[u8] = b"OK mensaje recibido correctamente: Hola\n";

/// Resident memory of `server`, in bytes.
#[derive(Debug, Serialize)]
pub struct Idle {
    connections: usize,
    empty: u64,
    connected: u64,
    used: u64,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "resident memory of server in MB: {:.1} empty, {:.1} with {} idle connections, {:.1} when each had sent a message",
            megabytes(self.empty),
            megabytes(self.connected),
            self.connections,
            megabytes(self.used)
        )
    }
}

/// Measures a server with idle connections, at first without a message on any, then after one on each.
pub async fn idle(connections: usize) -> anyhow::Result<Idle> {
    rlimit::increase_nofile_limit(connections as u64 + 64)?;
    let limit = (connections + 1).to_string();
    let options = ["--max-connections", &limit, "--log-level", "warn", "--idle-timeout", "10m"];
    let server = Peer::server(Path::new("."), &options).await?;
    let empty = server.resident_bytes()?;
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(TcpStream::connect(server.address).await?);
    }
    // The server accepts in order, so a reply on the last connection means that all are open.
    converse(streams.last_mut()).await?;
    let connected = server.resident_bytes()?;
    for stream in &mut streams {
        converse(Some(stream)).await?;
    }
    let used = server.resident_bytes()?;
    Ok(Idle { connections, empty, connected, used })
}

/// The milliseconds from the start of the process to the first reply.
#[derive(Debug, Serialize)]
pub struct Start {
    rounds: usize,
    milliseconds: Spread,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "start of server to first reply in ms, median (min–max) of {}: {}",
            self.rounds, self.milliseconds
        )
    }
}

/// Measures the start of a server, `rounds` times.
pub async fn start(rounds: usize) -> anyhow::Result<Start> {
    let mut milliseconds = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        let server = Peer::server(Path::new("."), &["--log-level", "warn"]).await?;
        converse(Some(&mut TcpStream::connect(server.address).await?)).await?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(Start { rounds, milliseconds: Spread::of(&milliseconds) })
}

async fn converse(stream: Option<&mut TcpStream>) -> anyhow::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    stream.write_all(MESSAGE).await?;
    let mut reply = [0; REPLY.len()];
    stream.read_exact(&mut reply).await?;
    anyhow::ensure!(reply == REPLY, "unexpected reply: {}", String::from_utf8_lossy(&reply));
    Ok(())
}
