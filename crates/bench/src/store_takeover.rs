//! What the end of a leading headnode costs: the time until the next message is saved.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use protocol::store::client_api::{ClientRequest, HeadnodeReply};
use protocol::store::types::ulid;
use serde::Serialize;
use service::net::{LocalGroup, TcpStream};
use store_client::request::request;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::arguments::StoreTakeoverArguments;
use crate::dataframe::takeover::Percentiles;
use crate::programs::{free_address, store_part};

/// A headnode that has not answered within this time hangs.
const REPLY: Duration = Duration::from_secs(1);
/// The pause between two rounds over both headnodes.
const PAUSE: Duration = Duration::from_millis(10);
/// A store in which nothing is saved for this time has failed.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// Times in milliseconds after the end of a leading headnode.
#[derive(Debug, Serialize)]
pub struct StoreTakeoverReport {
    rounds: usize,
    interval_ms: u128,
    silent: bool,
    /// The next message is saved.
    saved: Percentiles,
}

impl fmt::Display for StoreTakeoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, interval_ms, silent, saved: Percentiles { p50, p99, max } } = self;
        let end = if *silent { "SIGSTOP" } else { "kill -9" };
        writeln!(
            f,
            "| ms after {end} of the leader, a round each {interval_ms} ms, {rounds} times | p50 | p99 | max |"
        )?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        write!(f, "| the next message is saved | {p50:.0} | {p99:.0} | {max:.0} |")
    }
}

/// Two headnodes with `--standby`, and three datanodes.
struct HeadnodePair {
    group: LocalGroup,
    folder: TempDir,
    addresses: [SocketAddr; 2],
    headnodes: [Child; 2],
    _datanodes: Vec<Child>,
    interval: Duration,
    messages: u64,
}

/// Ends the leading one of two headnodes again and again.
pub async fn run(arguments: &StoreTakeoverArguments) -> anyhow::Result<StoreTakeoverReport> {
    let StoreTakeoverArguments { rounds, silent, interval, .. } = *arguments;
    let mut pair = HeadnodePair::start(interval).await?;
    let mut saved = Vec::new();
    let bar = ProgressBar::new(rounds as u64);
    for round in 1..=rounds {
        let took = pair.take_over(silent).await.with_context(|| format!("round {round}"))?;
        saved.push(took.as_secs_f64() * 1e3);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let interval_ms = interval.as_millis();
    Ok(StoreTakeoverReport { rounds, interval_ms, silent, saved: Percentiles::of(saved) })
}

impl HeadnodePair {
    async fn start(interval: Duration) -> anyhow::Result<Self> {
        let (group, folder) = (LocalGroup::reserve()?, tempfile::tempdir()?);
        let start_datanode = |number: usize| {
            let name = format!("datanode{number}");
            let mut datanode = store_part("datanode", &group, &folder.path().join(&name))?;
            Ok(datanode.args(["--name", &name, "--listen", "127.0.0.1:0"]).spawn()?)
        };
        let _datanodes = (1..=3).map(start_datanode).collect::<anyhow::Result<Vec<_>>>()?;
        let addresses = [free_address()?, free_address()?];
        let headnodes = [0, 1].map(|number| start_headnode(&group, &folder, addresses, interval, number));
        let [first, second] = headnodes;
        let headnodes = [first?, second?];
        let mut pair = Self { group, folder, addresses, headnodes, _datanodes, interval, messages: 0 };
        pair.put_until_saved().await?;
        Ok(pair)
    }

    /// Ends the leader, and returns how long it takes until a message is saved. The leader is then started again.
    async fn take_over(&mut self, silent: bool) -> anyhow::Result<Duration> {
        let leader = self.put_until_saved().await?;
        // Ends come at any moment of a round.
        let part = if silent { 1.0 } else { 0.2 };
        sleep(self.interval.mul_f64(rand::random_range(0.0..part))).await;
        let ended = Instant::now();
        if silent {
            let process = self.headnodes[leader].id().context("the leader has ended")?;
            let stopped = tokio::process::Command::new("kill").args(["-STOP", &process.to_string()]).status();
            ensure!(stopped.await?.success(), "the leader cannot be stopped");
        } else {
            self.headnodes[leader].start_kill()?;
        }
        let other = self.put_until_saved().await?;
        let took = ended.elapsed();
        ensure!(other != leader, "the leader has saved a message after its end");
        self.headnodes[leader].kill().await?;
        self.headnodes[leader] =
            start_headnode(&self.group, &self.folder, self.addresses, self.interval, leader)?;
        Ok(took)
    }

    /// Sends a message to both headnodes in turn until one saves it, and returns which one.
    async fn put_until_saved(&mut self) -> anyhow::Result<usize> {
        self.messages += 1;
        let id = ulid(self.messages, rand::random());
        let started = Instant::now();
        loop {
            for (number, address) in self.addresses.into_iter().enumerate() {
                let put = ClientRequest::Put { id: Some(id), is_new: false, message: "x".repeat(100) };
                let Ok(Ok(mut stream)) = timeout(REPLY, TcpStream::connect(address)).await else { continue };
                if let Ok(HeadnodeReply::Saved { .. }) = request(&mut stream, put, REPLY).await {
                    return Ok(number);
                }
            }
            ensure!(started.elapsed() < GIVEN_UP, "no message is saved for {GIVEN_UP:?}");
            sleep(PAUSE).await;
        }
    }
}

fn start_headnode(
    group: &LocalGroup,
    folder: &TempDir,
    addresses: [SocketAddr; 2],
    interval: Duration,
    number: usize,
) -> anyhow::Result<Child> {
    let mut headnode = store_part("headnode", group, &folder.path().join(format!("headnode{number}")))?;
    headnode.args(["--standby", "--listen", &addresses[number].to_string()]);
    Ok(headnode.args(["--interval", &format!("{}ms", interval.as_millis())]).spawn()?)
}
