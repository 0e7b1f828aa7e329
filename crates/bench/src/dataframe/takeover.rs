//! What the end of a leading master costs: the time until the other one leads, and until its client has the next answer.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc;

use super::query_program::{QueryProgram, RunningBrokers};
use crate::arguments::TakeoverArguments;
use crate::programs::{READY_WITHIN, free_address, sibling};

/// Rows of the file of each job: few, so that a job is short.
const ROWS: usize = 5_000;
/// Jobs that tell how long one takes undisturbed.
const UNDISTURBED: usize = 20;

/// Times in milliseconds after the end of a leading master.
#[derive(Debug, Serialize)]
pub struct TakeoverReport {
    middleware: String,
    rounds: usize,
    undisturbed_ms: f64,
    /// The other master leads.
    leads: Percentiles,
    /// The client has its next answer.
    answered: Percentiles,
}

/// How times spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of at least one time.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for TakeoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { middleware, rounds, undisturbed_ms, .. } = self;
        writeln!(f, "| ms after kill -9 of the leader, {middleware}, {rounds} times | p50 | p99 | max |")?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        for (what, Percentiles { p50, p99, max }) in
            [("the other master leads", self.leads), ("the client has its next answer", self.answered)]
        {
            writeln!(f, "| {what} | {p50:.0} | {p99:.0} | {max:.0} |")?;
        }
        write!(f, "\nAn undisturbed job takes {undisturbed_ms:.0} ms.")
    }
}

/// Kills the leader of a pair again and again, each time in the middle of a job.
pub async fn run(arguments: &TakeoverArguments) -> anyhow::Result<TakeoverReport> {
    let (mut leads, mut answered) = (Vec::new(), Vec::new());
    let mut pair = MasterPair::start(&arguments.middleware).await?;
    let bar = ProgressBar::new(arguments.rounds as u64);
    for round in 1..=arguments.rounds {
        let times = pair.take_over().await.with_context(|| format!("round {round}"))?;
        leads.push(times.leads.as_secs_f64() * 1e3);
        answered.push(times.answered.as_secs_f64() * 1e3);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(TakeoverReport {
        middleware: arguments.middleware.clone(),
        rounds: arguments.rounds,
        undisturbed_ms: pair.undisturbed.as_secs_f64() * 1e3,
        leads: Percentiles::of(leads),
        answered: Percentiles::of(answered),
    })
}

/// How long after the end of the leader something happened.
struct TakeoverTimes {
    leads: Duration,
    answered: Duration,
}

/// What a master says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MasterRole {
    Leads,
    StandsBy,
}

/// One master of a pair.
struct PairedMaster {
    process: Child,
    roles: mpsc::UnboundedReceiver<(MasterRole, Instant)>,
}

impl PairedMaster {
    fn start(flags: &[String], address: SocketAddr, peer: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        let mut master = sibling("dataframe-master")?;
        master.args(flags).args(["--standby", "--listen", &address.to_string(), "--data-dir"]);
        master.arg(folder.join(address.to_string()));
        if is_called_directly(flags) {
            master.args(["--peer", &peer.to_string()]);
        }
        let mut process = master.stderr(std::process::Stdio::piped()).spawn()?;
        let log = process.stderr.take().context("no log")?;
        let (sender, roles) = mpsc::unbounded_channel();
        tokio::spawn(follow(log, sender));
        Ok(Self { process, roles })
    }

    /// Waits until the master says so, and returns when it did.
    async fn until(&mut self, wanted: MasterRole) -> anyhow::Result<Instant> {
        let said = async {
            while let Some((role, when)) = self.roles.recv().await {
                if role == wanted {
                    return Ok(when);
                }
            }
            bail!("a master has ended")
        };
        tokio::time::timeout(READY_WITHIN, said)
            .await
            .with_context(|| format!("not within {READY_WITHIN:?}: {wanted:?}"))?
    }
}

/// Reads a master's log to its end.
async fn follow(log: ChildStderr, roles: mpsc::UnboundedSender<(MasterRole, Instant)>) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let role = if line.contains(" listening ") {
            MasterRole::Leads
        } else if line.contains(" standing by ") {
            MasterRole::StandsBy
        } else {
            continue;
        };
        // The receiver is gone only when the master is.
        let _ = roles.send((role, Instant::now()));
    }
}

fn is_called_directly(flags: &[String]) -> bool {
    !flags.iter().any(|flag| flag == "--broker")
}

/// Two masters, two workers of one thread, and a client. They are killed when this is dropped.
struct MasterPair {
    flags: Vec<String>,
    /// The addresses of the leader and of the other master.
    addresses: [SocketAddr; 2],
    leader: PairedMaster,
    standby: PairedMaster,
    client: QueryProgram,
    job: String,
    answer: Value,
    undisturbed: Duration,
    folder: TempDir,
    _workers: Vec<Child>,
    _brokers: Option<RunningBrokers>,
}

impl MasterPair {
    async fn start(middleware: &str) -> anyhow::Result<Self> {
        let brokers = match middleware {
            "grpc" | "xmlrpc" => None,
            _ => Some(RunningBrokers::start()?),
        };
        let flags = match &brokers {
            Some(brokers) => brokers.flags(middleware),
            None => vec!["--middleware".to_owned(), middleware.to_owned()],
        };
        let folder = tempfile::tempdir()?;
        let addresses = [free_address()?, free_address()?];
        let mut leader = PairedMaster::start(&flags, addresses[0], addresses[1], folder.path())?;
        leader.until(MasterRole::Leads).await?;
        let mut standby = PairedMaster::start(&flags, addresses[1], addresses[0], folder.path())?;
        standby.until(MasterRole::StandsBy).await?;
        let masters = addresses.map(|address| address.to_string()).join(",");
        let workers = (1..=2)
            .map(|number| start_worker(&flags, &masters, folder.path(), number))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut client_flags = flags[..2].to_vec();
        // Where there is a broker, its URL is the master's address.
        client_flags.extend(["--master".to_owned(), flags.get(3).unwrap_or(&masters).clone()]);
        let client = QueryProgram::ours("client", &client_flags)?;
        let job = short_job(folder.path())?;
        let mut pair = Self {
            flags,
            addresses,
            leader,
            standby,
            client,
            job,
            answer: Value::Null,
            undisturbed: Duration::ZERO,
            folder,
            _workers: workers,
            _brokers: brokers,
        };
        pair.warm_up().await?;
        Ok(pair)
    }

    /// Finds out what the answer is, and how long it takes.
    async fn warm_up(&mut self) -> anyhow::Result<()> {
        self.answer = rows(self.client.ask_line(&self.job).await?)?;
        let begun = Instant::now();
        for _ in 0..UNDISTURBED {
            self.ask().await?;
        }
        self.undisturbed = begun.elapsed() / u32::try_from(UNDISTURBED)?;
        Ok(())
    }

    /// Asks for the job, and returns when the answer was there.
    async fn ask(&mut self) -> anyhow::Result<Instant> {
        let answer = rows(self.client.ask_line(&self.job).await?)?;
        let when = Instant::now();
        ensure!(answer == self.answer, "the answer was {}, and is {answer}", self.answer);
        Ok(when)
    }

    /// Kills the leader at some moment of a job, and starts it again when the other one leads.
    async fn take_over(&mut self) -> anyhow::Result<TakeoverTimes> {
        let moment = self.undisturbed.mul_f64(rand::random_range(0.0..1.0));
        let (answer, process) = (self.client.ask_line(&self.job), &mut self.leader.process);
        let (answer, killed) = tokio::join!(async { (answer.await, Instant::now()) }, async {
            tokio::time::sleep(moment).await;
            let now = Instant::now();
            process.start_kill().map(|()| now)
        });
        let (killed, mut answered) = (killed?, answer.1);
        let said = rows(answer.0?)?;
        ensure!(said == self.answer, "the answer was {}, and is {said}", self.answer);
        let leads = self.standby.until(MasterRole::Leads).await?;
        if answered < leads {
            // The job had ended before the leader did.
            answered = self.ask().await?;
        }
        self.leader.process.wait().await?;
        self.addresses.reverse();
        let [leader, standby] = self.addresses;
        let again = PairedMaster::start(&self.flags, standby, leader, self.folder.path())?;
        self.leader = std::mem::replace(&mut self.standby, again);
        self.standby.until(MasterRole::StandsBy).await?;
        Ok(TakeoverTimes { leads: leads - killed, answered: answered - killed })
    }
}

fn start_worker(flags: &[String], masters: &str, folder: &Path, number: usize) -> anyhow::Result<Child> {
    let mut worker = sibling("dataframe-worker")?;
    worker.args(flags).args(["--log-level", "error", "--listen", "127.0.0.1:0", "--threads", "1"]);
    worker.args(["--master", masters, "--name", &format!("worker{number}"), "--data-dir"]);
    Ok(worker.arg(folder.join(format!("worker{number}"))).spawn()?)
}

/// Writes the file of the job, and returns its list of operations.
fn short_job(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("rows.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    writeln!(file, "name,x")?;
    for row in 0..ROWS {
        writeln!(file, "name{},{}", row % 100, row * 7919 % 100_003)?;
    }
    file.flush()?;
    let read = serde_json::json!({"read_csv": {"paths": [path]}});
    Ok(serde_json::json!([read, {"groupby": {"by": ["name"], "agg": ["sum(x)"]}}]).to_string())
}

/// The rows of an answer, without its time.
fn rows(mut answer: Value) -> anyhow::Result<Value> {
    let mut summary =
        answer.get_mut("summary").map(Value::take).with_context(|| format!("no rows: {answer}"))?;
    if let Some(summary) = summary.as_object_mut() {
        summary.remove("seconds");
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let hundred = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Percentiles::of(hundred), Percentiles { p50: 50.0, p99: 99.0, max: 100.0 });
        assert_eq!(Percentiles::of(vec![7.0]), Percentiles { p50: 7.0, p99: 7.0, max: 7.0 });
    }
}
