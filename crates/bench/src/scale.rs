//! Puts many messages into the store, and measures the memory that they take and the time until all is back in service.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use service::net::LocalGroup;

use crate::load::{self, Load, Protocol};
use crate::peers::{self, Peer};
use crate::programs::{free_address, listens, resident_bytes, store_part};

const WITHIN: Duration = Duration::from_secs(60);

/// The result: memory in bytes, times in milliseconds.
#[derive(Debug, Serialize)]
pub struct Scale {
    messages: u64,
    per_second: f64,
    headnode_empty: u64,
    headnode_full: u64,
    datanode_records: u64,
    datanode_ms: f64,
    headnode_ms: f64,
    operative_ms: f64,
    headnode_again: u64,
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let each = |bytes: u64| (bytes - self.headnode_empty) as f64 / self.messages as f64;
        writeln!(f, "{} messages of 100 bytes at {:.0} a second", self.messages, self.per_second)?;
        writeln!(
            f,
            "resident memory of the headnode: {:.1} MB empty, {:.1} MB full ({:.1} bytes a message), {:.1} MB after a restart ({:.1})",
            megabytes(self.headnode_empty),
            megabytes(self.headnode_full),
            each(self.headnode_full),
            megabytes(self.headnode_again),
            each(self.headnode_again)
        )?;
        write!(
            f,
            "after kill -9: a datanode with {} records listens after {:.0} ms, the headnode with {} after {:.0} ms; \
             the datanode is operative {:.0} ms after the headnode's start",
            self.datanode_records, self.datanode_ms, self.messages, self.headnode_ms, self.operative_ms
        )
    }
}

/// Puts `messages` messages into a store of three datanodes, kills it, and starts its headnode and one datanode again.
pub async fn run(messages: u64, dir: &Path) -> anyhow::Result<Scale> {
    let store = Peer::store(dir, &["--log-level", "error"]).await?;
    let headnode_empty = store.resident_bytes()?;
    let (connections, pipeline) = (50, 16);
    let address = store.address;
    let load = Load {
        address,
        protocol: Protocol::Store,
        connections,
        pipeline,
        messages,
        size: 100,
        rate: None,
        keys: None,
    };
    let per_second = load::run(&load, true).await?.per_second;
    let headnode_full = store.resident_bytes()?;
    let records = peers::status(address, None).await?.datanodes.iter().map(|node| node.records).max();
    let folder = store.kill().await?;

    let group = LocalGroup::reserve()?;
    let start = |name: &str, data: &str, address: SocketAddr, flags: &[&str]| {
        let mut command = store_part(name, &group, &folder.path().join(data))?;
        command.args(["--listen", &address.to_string(), "--log-level", "error"]).args(flags);
        anyhow::Ok(command.spawn()?)
    };
    let (datanode, headnode) = (free_address()?, free_address()?);
    let started = Instant::now();
    let mut datanode_process = start("datanode", "datanode1", datanode, &["--name", "datanode1"])?;
    listens(&mut datanode_process, datanode, WITHIN).await?;
    let datanode_ms = started.elapsed().as_secs_f64() * 1000.0;
    let started = Instant::now();
    let mut headnode_process = start("headnode", "headnode", headnode, &["--expected", "1"])?;
    listens(&mut headnode_process, headnode, WITHIN).await?;
    let headnode_ms = started.elapsed().as_secs_f64() * 1000.0;
    while peers::status(headnode, None).await?.available < 1 {
        anyhow::ensure!(started.elapsed() < WITHIN, "the datanode does not become available");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let operative_ms = started.elapsed().as_secs_f64() * 1000.0;
    Ok(Scale {
        messages,
        per_second,
        headnode_empty,
        headnode_full,
        datanode_records: records.context("no datanode")?,
        datanode_ms,
        headnode_ms,
        operative_ms,
        headnode_again: resident_bytes(&headnode_process)?,
    })
}
