//! Measures TP0's echo server with a connection for each message, as the course's clients make them.

use std::net::SocketAddr;
use std::time::Instant;

use service::net::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

/// The number of clients at the same time.
const CLIENTS: u64 = 50;
const MESSAGE: &[u8] = b"[CLIENT 1] Message N\xc2\xb01\n";

/// Sends `messages` messages on a connection each, and returns how many connections there were in a second.
pub async fn connections_per_second(address: SocketAddr, messages: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(one_by_one(address, messages / CLIENTS));
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok((messages / CLIENTS * CLIENTS) as f64 / started.elapsed().as_secs_f64())
}

async fn one_by_one(address: SocketAddr, messages: u64) -> anyhow::Result<()> {
    let mut echo = Vec::new();
    for _ in 0..messages {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(MESSAGE).await?;
        echo.clear();
        stream.read_to_end(&mut echo).await?;
        anyhow::ensure!(echo == MESSAGE, "unexpected echo: {}", String::from_utf8_lossy(&echo));
    }
    Ok(())
}
