//! Deletes the disk of a datanode under load, and measures how long the store takes until each message has two copies
//! again, and what clients get meanwhile. Then another disk is deleted, and nothing may be lost.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use protocol::store::client_api::{ClientRequest, FsckPage, HeadnodeReply};
use serde::Serialize;
use service::net::LocalGroup;
use store_client::headnode::HeadnodeClient;
use store_client::session::SessionOptions;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::load::{self, Load, Protocol};
use crate::peers;
use crate::programs::{READY_WITHIN, free_address, listens, store_part};

/// A store that is not healthy after this time never will be.
const HEALTHY_WITHIN: Duration = Duration::from_secs(600);
/// Between two looks at a message that has too few copies.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Approximate length of each measurement of the clients' rate.
const MEASURED: f64 = 2.0;

/// The result.
#[derive(Debug, Serialize)]
pub struct RepairReport {
    messages: u64,
    connections: usize,
    /// The clients' rate before, and the mean and the lowest rate while messages are copied.
    before_per_second: f64,
    meanwhile_per_second: f64,
    lowest_per_second: f64,
    repair_after_seconds: f64,
    /// From the end of `--repair-after` until all messages have two copies.
    healthy_seconds: f64,
    /// Messages that are lost when another disk is deleted after that.
    lost: u64,
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |rate: f64| rate / self.before_per_second;
        writeln!(f, "{} messages of 100 bytes, two copies each, one of three disks deleted", self.messages)?;
        writeln!(
            f,
            "healthy {:.1} s after --repair-after ({:.0} s)",
            self.healthy_seconds, self.repair_after_seconds
        )?;
        writeln!(
            f,
            "{} connections: {:.0} a second before, {:.0} ({:.2}) meanwhile, {:.0} ({:.2}) at the lowest",
            self.connections,
            self.before_per_second,
            self.meanwhile_per_second,
            ratio(self.meanwhile_per_second),
            self.lowest_per_second,
            ratio(self.lowest_per_second)
        )?;
        write!(f, "lost when another disk is deleted: {}", self.lost)
    }
}

/// A headnode and three datanodes, each message on two of them.
struct TwofoldStore {
    address: SocketAddr,
    datanodes: Vec<Child>,
    _headnode: Child,
    _group: LocalGroup,
    folder: tempfile::TempDir,
}

impl TwofoldStore {
    async fn start(dir: &Path, repair_after: Duration) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(std::path::absolute(dir)?)?;
        let (group, address) = (LocalGroup::reserve()?, free_address()?);
        let mut headnode = store_part("headnode", &group, &folder.path().join("headnode"))?;
        headnode.args(["--listen", &address.to_string(), "--interval", "1s", "--replicas", "2"]);
        headnode.args(["--repair-after", &format!("{}ms", repair_after.as_millis()), "--log-level", "error"]);
        let mut headnode = headnode.spawn()?;
        listens(&mut headnode, address, READY_WITHIN).await?;
        let mut datanodes = Vec::new();
        for name in ["datanode1", "datanode2", "datanode3"] {
            let mut datanode = store_part("datanode", &group, &folder.path().join(name))?;
            datanode.args(["--listen", "127.0.0.1:0", "--name", name, "--log-level", "error"]);
            datanodes.push(datanode.spawn()?);
        }
        let started = Instant::now();
        while peers::status(address, None).await?.available < 3 {
            ensure!(started.elapsed() < READY_WITHIN, "the datanodes do not become available");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { address, datanodes, _headnode: headnode, _group: group, folder })
    }

    /// Kills a datanode, from 1, and deletes its folder.
    async fn delete(&mut self, number: usize) -> anyhow::Result<()> {
        self.datanodes[number - 1].kill().await?;
        Ok(std::fs::remove_dir_all(self.folder.path().join(format!("datanode{number}")))?)
    }

    async fn put(&self, messages: u64, connections: usize, pipeline: usize) -> anyhow::Result<f64> {
        let (address, protocol) = (self.address, Protocol::Store);
        let load =
            Load { address, protocol, connections, pipeline, messages, size: 100, rate: None, keys: None };
        Ok(load::run(&load, false).await?.per_second)
    }

    fn client(&self) -> HeadnodeClient {
        HeadnodeClient::new(&self.address.to_string(), SessionOptions::default())
    }

    /// Waits until no message has a problem. What was found healthy stays so, as nothing else is deleted meanwhile. So
    /// only the pages with a problem are read again, and what clients and repair have added.
    async fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let (mut headnode, mut problems, mut last) = (self.client(), VecDeque::new(), 0);
        loop {
            let mut next = Some(last);
            while let Some(from) = next {
                let page = fsck(&mut headnode, from).await?;
                if has_problem(&page) {
                    problems.push_back(from);
                }
                (last, next) = (from, page.next);
            }
            if problems.is_empty() {
                return Ok(());
            }
            while let Some(from) = problems.front() {
                if has_problem(&fsck(&mut headnode, *from).await?) {
                    break;
                }
                problems.pop_front();
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Declares a datanode lost, and returns how many messages exist nowhere else.
    async fn forget(&self, number: usize) -> anyhow::Result<u64> {
        let datanode = format!("datanode{number}").parse()?;
        match self.client().ask(ClientRequest::Forget { datanode, accept_loss: true }).await? {
            HeadnodeReply::Forgotten { lost, .. } => Ok(lost),
            other => bail!("another reply than that to forget: {other:?}"),
        }
    }
}

async fn fsck(headnode: &mut HeadnodeClient, from: u64) -> anyhow::Result<FsckPage> {
    match headnode.ask(ClientRequest::Fsck { deep: false, from }).await? {
        HeadnodeReply::Fsck(page) => Ok(page),
        other => bail!("another reply than that to fsck: {other:?}"),
    }
}

fn has_problem(page: &FsckPage) -> bool {
    page.others.iter().any(|one| one.verdict.is_problem())
}

/// Puts `messages` messages, and deletes a disk while `connections` clients put further ones.
pub async fn run(
    messages: u64,
    connections: usize,
    repair_after: Duration,
    dir: &Path,
) -> anyhow::Result<RepairReport> {
    let mut store = TwofoldStore::start(dir, repair_after).await?;
    store.put(messages, connections, 16).await?;
    let first = store.put(10_000, connections, 1).await?;
    let chunk = (first * MEASURED).ceil().max(1.0) as u64;
    let before_per_second = store.put(chunk, connections, 1).await?;
    store.delete(2).await?;
    let deleted = Instant::now();
    let mut rates = Vec::new();
    while deleted.elapsed() < repair_after {
        store.put(chunk, connections, 1).await?;
    }
    let storing = async {
        loop {
            rates.push(store.put(chunk, connections, 1).await?);
        }
    };
    let stored: anyhow::Result<()> = tokio::select! {
        healthy = timeout(HEALTHY_WITHIN, store.wait_until_healthy()) => {
            healthy.map_err(|_| anyhow!("not healthy after {HEALTHY_WITHIN:?}"))?
        }
        stored = storing => stored,
    };
    stored?;
    let healthy_seconds = deleted.elapsed().saturating_sub(repair_after).as_secs_f64();
    store.delete(1).await?;
    // The headnode notices that at the end of a round at the latest.
    while peers::status(store.address, None).await?.operative > 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lost = store.forget(2).await? + store.forget(1).await?;
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    Ok(RepairReport {
        messages,
        connections,
        before_per_second,
        meanwhile_per_second: mean,
        lowest_per_second: rates.iter().copied().fold(f64::INFINITY, f64::min),
        repair_after_seconds: repair_after.as_secs_f64(),
        healthy_seconds,
        lost,
    })
}
