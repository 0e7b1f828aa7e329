//! A cluster of real processes: what a task costs on each middleware, and what the end of a worker costs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::query_program::RunningBrokers;
use crate::programs::{READY_WITHIN, free_address, resident_bytes, sibling};

/// What `dataframe nodes probe` tells.
#[derive(Debug, Clone, Deserialize)]
pub struct ProbeFigures {
    pub p50_ms: f64,
    pub tasks_per_second: f64,
}

/// A master and two workers. They are killed when this is dropped.
pub struct ClusterProcesses {
    middleware: Vec<String>,
    address: SocketAddr,
    workers: Vec<Child>,
    _master: Child,
    folder: TempDir,
}

impl ClusterProcesses {
    /// Starts them, and waits until both workers are ready.
    pub async fn start(middleware: &str, brokers: &RunningBrokers) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let middleware = brokers.flags(middleware);
        let mut master = sibling("dataframe-master")?;
        master.args(&middleware).args([
            "--log-level",
            "warn",
            "--listen",
            &address.to_string(),
            "--data-dir",
        ]);
        let master = master.arg(folder.path().join("master")).spawn()?;
        let mut cluster = Self { middleware, address, workers: Vec::new(), _master: master, folder };
        for number in 1..=2 {
            cluster.start_worker(number)?;
        }
        cluster.ready(2).await?;
        Ok(cluster)
    }

    fn start_worker(&mut self, number: usize) -> anyhow::Result<()> {
        let mut worker = sibling("dataframe-worker")?;
        worker.args(&self.middleware).args(["--log-level", "error", "--listen", "127.0.0.1:0"]);
        worker.args([
            "--master",
            &self.address.to_string(),
            "--name",
            &format!("worker{number}"),
            "--data-dir",
        ]);
        self.workers.push(worker.arg(self.folder.path().join(format!("worker{number}"))).spawn()?);
        Ok(())
    }

    /// Returns `dataframe` with the flags of this cluster.
    pub fn client(&self) -> anyhow::Result<Command> {
        let mut client = sibling("dataframe")?;
        client.args(self.client_flags());
        Ok(client)
    }

    /// Returns the flags of a client of this cluster.
    pub fn client_flags(&self) -> Vec<String> {
        // Where there is a broker, its URL is the master's address.
        let broker = self.middleware.get(3).cloned();
        let mut flags = self.middleware[..2].to_vec();
        flags.extend(["--master".to_owned(), broker.unwrap_or_else(|| self.address.to_string())]);
        flags
    }

    async fn ready(&self, workers: usize) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let listed =
                self.client()?.args(["nodes", "list"]).stdout(std::process::Stdio::piped()).output().await?;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            if listed.lines().filter(|line| line.contains(" ready ")).count() == workers {
                return Ok(());
            }
            ensure!(started.elapsed() < READY_WITHIN, "{workers} workers do not become ready: {listed}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs empty tasks.
    pub async fn probe(&self, jobs: usize, tasks: usize) -> anyhow::Result<ProbeFigures> {
        let mut probe = self.client()?;
        probe.args([
            "nodes",
            "probe",
            "--output",
            "json",
            "--jobs",
            &jobs.to_string(),
            "--tasks",
            &tasks.to_string(),
        ]);
        let output = probe
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::inherit())
            .output()
            .await?;
        ensure!(output.status.success(), "the probe ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("the probe did not answer in JSON")
    }

    /// Returns the resident memory of each worker, in bytes.
    pub fn worker_memory(&self) -> anyhow::Result<Vec<u64>> {
        self.workers.iter().map(resident_bytes).collect()
    }

    /// Kills the first worker, as `kill -9` does.
    pub async fn kill_worker(&mut self) -> anyhow::Result<()> {
        let mut worker = self.workers.remove(0);
        if let Some(status) = worker.try_wait()? {
            bail!("the worker had ended before it was killed: {status}");
        }
        Ok(worker.kill().await?)
    }

    /// Starts the first worker again, and waits until it is ready.
    pub async fn restart_worker(&mut self) -> anyhow::Result<()> {
        self.start_worker(1)?;
        let newest = self.workers.pop().context("no worker")?;
        self.workers.insert(0, newest);
        self.ready(2).await
    }
}
