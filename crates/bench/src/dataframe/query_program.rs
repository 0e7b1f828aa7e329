//! One of the programs that answer queries in turn. It stays running, so that no start is part of a measurement.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use brokers::{RabbitServer, RedisServer};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::data::DataFiles;
use super::queries::DataFrameQuery;
use crate::programs::sibling;

/// A broker for each middleware that needs one. There is one master at a broker, so clusters do not share any.
pub struct RunningBrokers {
    redis: HashMap<&'static str, RedisServer>,
    rabbitmq: RabbitServer,
    bucket: TempDir,
}

impl RunningBrokers {
    /// Starts all of them.
    pub fn start() -> anyhow::Result<Self> {
        let missing = "is not installed (Debian: redis-server, rabbitmq-server)";
        let mut redis = HashMap::new();
        for middleware in ["redis", "hybrid-grpc", "hybrid-xmlrpc"] {
            redis
                .insert(middleware, RedisServer::start().with_context(|| format!("redis-server {missing}"))?);
        }
        let rabbitmq = RabbitServer::start().with_context(|| format!("rabbitmq-server {missing}"))?;
        Ok(Self { redis, rabbitmq, bucket: tempfile::tempdir()? })
    }

    /// Returns the flags that choose a middleware, with its broker where it has one.
    pub fn flags(&self, middleware: &str) -> Vec<String> {
        let mut flags = vec!["--middleware".to_owned(), middleware.to_owned()];
        match middleware {
            "objectstore" => {
                flags.extend(["--broker".to_owned(), format!("file://{}", self.bucket.path().display())]);
            }
            "rabbitmq" => flags.extend(["--broker".to_owned(), self.rabbitmq.url()]),
            _ => {
                let broker = self.redis.get(middleware);
                flags.extend(broker.into_iter().flat_map(|redis| ["--broker".to_owned(), redis.url()]));
            }
        }
        flags
    }
}

/// What a side says of a query.
#[derive(Debug, Clone, Deserialize)]
pub struct QueryAnswer {
    /// Time until all rows were there.
    pub seconds: f64,
    /// Number of rows.
    pub rows: u64,
    /// The sum of each column of numbers.
    sums: Value,
}

impl QueryAnswer {
    fn sorted_sums(&self) -> Vec<f64> {
        let mut sums: Vec<f64> = match &self.sums {
            Value::Object(by_name) => by_name.values().filter_map(Value::as_f64).collect(),
            Value::Array(sums) => sums.iter().filter_map(Value::as_f64).collect(),
            _ => Vec::new(),
        };
        sums.sort_by(f64::total_cmp);
        sums
    }

    /// Fails unless another side has found the same.
    pub fn ensure_same(&self, other: &Self) -> anyhow::Result<()> {
        ensure!(self.rows == other.rows, "one side has {} rows and the other {}", self.rows, other.rows);
        let (ours, theirs) = (self.sorted_sums(), other.sorted_sums());
        ensure!(ours.len() == theirs.len(), "one side has the sums {ours:?} and the other {theirs:?}");
        for (one, other) in ours.iter().zip(&theirs) {
            let difference = (one - other).abs();
            ensure!(
                difference <= 1e-9 * one.abs().max(other.abs()),
                "one side has the sums {ours:?} and the other {theirs:?}"
            );
        }
        Ok(())
    }
}

/// How a side is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskedIn {
    Operations,
    Names,
}

/// A running side. It ends when it is dropped.
pub struct QueryProgram {
    /// What a reader sees.
    pub name: String,
    asked_in: AskedIn,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl QueryProgram {
    /// Starts `dataframe` with further flags.
    pub fn ours(name: &str, flags: &[String]) -> anyhow::Result<Self> {
        let mut command = sibling("dataframe")?;
        command.args(["run", "--lines", "--summary"]).args(flags);
        Self::start(name, command, AskedIn::Operations)
    }

    /// Starts DataFusion alone.
    pub async fn plain_datafusion(files: &DataFiles) -> anyhow::Result<Self> {
        let command = sibling("examples/plain_datafusion")
            .context("DataFusion alone is an example: run `cargo build --release -p dataframe --examples`")?;
        Self::peer("DataFusion", command, files).await
    }

    /// Starts dask, polars or duckdb with a Python that has them.
    pub async fn python(engine: &str, python: &Path, files: &DataFiles) -> anyhow::Result<Self> {
        let mut command = crate::programs::command(python);
        command.arg("-c").arg(include_str!("../../peers/dataframes.py")).arg(engine);
        Self::peer(engine, command, files).await
    }

    async fn peer(name: &str, mut command: Command, files: &DataFiles) -> anyhow::Result<Self> {
        command.arg(&files.h2o).arg(&files.stations);
        let mut side = Self::start(name, command, AskedIn::Names)?;
        side.next_line().await.with_context(|| format!("{name} does not start"))?;
        Ok(side)
    }

    fn start(name: &str, mut command: Command, asked_in: AskedIn) -> anyhow::Result<Self> {
        use std::process::Stdio;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let input = process.stdin.take().context("no standard input")?;
        let output = BufReader::new(process.stdout.take().context("no standard output")?).lines();
        Ok(Self { name: name.to_owned(), asked_in, input, output, _process: process })
    }

    /// Asks a query and waits for its answer.
    pub async fn ask(&mut self, query: &DataFrameQuery, files: &DataFiles) -> anyhow::Result<QueryAnswer> {
        let question = match self.asked_in {
            AskedIn::Operations => query.operations(files),
            AskedIn::Names => query.name.to_owned(),
        };
        let mut answer = self.ask_line(&question).await?;
        if let Some(summary) = answer.get_mut("summary") {
            answer = summary.take();
        }
        serde_json::from_value(answer.clone())
            .with_context(|| format!("{} answered {}: {answer}", self.name, query.name))
    }

    /// Sends a line and returns the line of JSON that comes back.
    pub async fn ask_line(&mut self, line: &str) -> anyhow::Result<Value> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        self.next_line().await
    }

    async fn next_line(&mut self) -> anyhow::Result<Value> {
        let Some(line) = self.output.next_line().await? else { bail!("{} has ended", self.name) };
        serde_json::from_str(&line).with_context(|| format!("{} answered {line}", self.name))
    }
}
