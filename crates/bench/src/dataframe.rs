//! Measures DataFrames: the engine beside DataFusion, Polars, DuckDB and Dask, the middlewares beside each other, and what a
//! killed worker costs.
//!
//! All sides of a table take turns within one run, and the order rotates from round to round. Every side has to find the
//! same result.

mod cluster;
mod data;
mod plots;
mod queries;
mod query_program;
mod report;
pub mod takeover;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;

use crate::arguments::DataFrameArguments;
use crate::stats::Spread;
use cluster::ClusterProcesses;
use data::DataFiles;
use queries::QUERIES;
use query_program::{QueryProgram, RunningBrokers};
pub use report::DataFrameReport;
use report::{MiddlewareRow, QueryRow, QueryTable};

/// The middlewares, as `--middleware` names them.
const MIDDLEWARES: [&str; 7] =
    ["grpc", "xmlrpc", "redis", "rabbitmq", "objectstore", "hybrid-grpc", "hybrid-xmlrpc"];
/// Numbers of worker processes of one thread.
const WORKERS: [usize; 3] = [1, 2, 4];
const SEED: u64 = 42;

/// Measures what the arguments ask for, or reads what was measured, and draws it.
pub async fn run(arguments: &DataFrameArguments) -> anyhow::Result<DataFrameReport> {
    let report = match &arguments.from {
        None => measure(arguments).await?,
        Some(path) => {
            let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_slice(&json).with_context(|| format!("{} has no figures", path.display()))?
        }
    };
    if let Some(folder) = &arguments.plots {
        plots::draw(&report, folder)?;
    }
    Ok(report)
}

async fn measure(arguments: &DataFrameArguments) -> anyhow::Result<DataFrameReport> {
    let files = DataFiles::make(&arguments.dir, arguments.rows, SEED)?;
    let mut report =
        DataFrameReport { rows: arguments.rows, rounds: arguments.rounds, ..DataFrameReport::default() };
    if !arguments.skip_queries {
        let mut sides = engines(arguments, &files).await?;
        report.engines = Some(in_turn(&mut sides, 1, arguments.rounds, &files).await?);
        report.dask_tasks = dask_tasks(&mut sides, arguments.rounds).await?;
        // No side of a table is there while another table is measured: some are never quite idle.
        drop(sides);
        report.over_middlewares = Some(over_middlewares(arguments.rounds, &files).await?);
    }
    if !arguments.skip_scaling {
        report.scaling = Some(scaling(arguments.rounds, &files).await?);
    }
    if !arguments.skip_middlewares {
        report.middlewares = middlewares(arguments, &files, &RunningBrokers::start()?).await?;
    }
    Ok(report)
}

/// One process, two workers, and the others.
async fn engines(arguments: &DataFrameArguments, files: &DataFiles) -> anyhow::Result<Vec<QueryProgram>> {
    let mut sides =
        vec![QueryProgram::ours("one process", &[])?, QueryProgram::plain_datafusion(files).await?];
    if let Some(python) = &arguments.python {
        for engine in ["polars", "duckdb", "dask"] {
            sides.push(QueryProgram::python(engine, python, files).await?);
        }
    }
    sides
        .push(QueryProgram::ours("2 workers", &workers(2, &["--middleware".to_owned(), "grpc".to_owned()]))?);
    Ok(sides)
}

/// Returns the flags for so many workers of one thread.
fn workers(count: usize, middleware: &[String]) -> Vec<String> {
    let mut flags = middleware.to_vec();
    flags.extend(["--workers", &count.to_string(), "--threads", "1"].map(str::to_owned));
    flags
}

async fn over_middlewares(rounds: usize, files: &DataFiles) -> anyhow::Result<QueryTable> {
    let brokers = RunningBrokers::start()?;
    let side = |middleware: &&str| QueryProgram::ours(middleware, &workers(2, &brokers.flags(middleware)));
    let mut sides = MIDDLEWARES.iter().map(side).collect::<anyhow::Result<Vec<_>>>()?;
    in_turn(&mut sides, 0, rounds, files).await
}

/// Asks every side every query in each round. One round before them is not counted: it warms the page cache.
async fn in_turn(
    sides: &mut [QueryProgram],
    reference: usize,
    rounds: usize,
    files: &DataFiles,
) -> anyhow::Result<QueryTable> {
    let bar = ProgressBar::new((QUERIES.len() * (rounds + 1) * sides.len()) as u64);
    let mut rows = Vec::new();
    for query in &QUERIES {
        let mut seconds = vec![Vec::new(); sides.len()];
        for round in 0..=rounds {
            let mut first = None;
            for turn in 0..sides.len() {
                let index = (turn + round) % sides.len();
                bar.set_message(sides[index].name.clone());
                let answer = sides[index].ask(query, files).await?;
                let first = first.get_or_insert_with(|| answer.clone());
                let same = || {
                    format!("{}, {} and {}", query.name, sides[round % sides.len()].name, sides[index].name)
                };
                first.ensure_same(&answer).with_context(same)?;
                if round > 0 {
                    seconds[index].push(answer.seconds);
                }
                bar.inc(1);
            }
        }
        rows.push(QueryRow::new(query.title, &seconds, reference));
    }
    bar.finish_and_clear();
    Ok(QueryTable { sides: sides.iter().map(|side| side.name.clone()).collect(), reference, rows })
}

/// Returns the time of an empty task in milliseconds and the tasks a second of Dask's own cluster, if it takes part.
async fn dask_tasks(sides: &mut [QueryProgram], rounds: usize) -> anyhow::Result<Option<(Spread, Spread)>> {
    let Some(dask) = sides.iter_mut().find(|side| side.name == "dask") else { return Ok(None) };
    let mut seconds = async |tasks: usize| -> anyhow::Result<f64> {
        let answer = dask.ask_line(&format!("probe {tasks}")).await?;
        answer["seconds"].as_f64().context("dask did not tell how long its tasks took")
    };
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut single = Vec::new();
        for _ in 0..50 {
            single.push(seconds(1).await? * 1e3);
        }
        one.push(Spread::of(&single).median);
        many.push(2000.0 / seconds(2000).await?);
    }
    Ok(Some((Spread::of(&one), Spread::of(&many))))
}

/// The same queries in one process of one thread, and on workers of one thread each.
async fn scaling(rounds: usize, files: &DataFiles) -> anyhow::Result<QueryTable> {
    let mut sides =
        vec![QueryProgram::ours("one process, one thread", &["--threads".to_owned(), "1".to_owned()])?];
    for count in WORKERS {
        let name = if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") };
        sides.push(QueryProgram::ours(
            &name,
            &workers(count, &["--middleware".to_owned(), "grpc".to_owned()]),
        )?);
    }
    in_turn(&mut sides, 1, rounds, files).await
}

async fn middlewares(
    arguments: &DataFrameArguments,
    files: &DataFiles,
    brokers: &RunningBrokers,
) -> anyhow::Result<Vec<MiddlewareRow>> {
    let mut clusters = Vec::new();
    for middleware in MIDDLEWARES {
        clusters
            .push(ClusterProcesses::start(middleware, brokers).await.with_context(|| middleware.to_owned())?);
    }
    let memory = clusters.iter().map(ClusterProcesses::worker_memory).collect::<anyhow::Result<Vec<_>>>()?;
    let mut measured = vec![<[Vec<f64>; 3]>::default(); clusters.len()];
    for round in 0..arguments.rounds {
        for turn in 0..clusters.len() {
            let index = (turn + round) % clusters.len();
            let [latency, rate, recovery] = &mut measured[index];
            // Over an object store each task is a process, of which so many would take minutes.
            let (jobs, tasks) = if MIDDLEWARES[index] == "objectstore" { (50, 200) } else { (1000, 20_000) };
            let probe = clusters[index].probe(jobs, tasks).await?;
            latency.push(probe.p50_ms);
            rate.push(probe.tasks_per_second);
            recovery.push(recovery_seconds(&mut clusters[index], files).await.context(MIDDLEWARES[index])?);
        }
    }
    let rows =
        MIDDLEWARES.iter().zip(measured).zip(memory).map(|((name, [latency, rate, recovery]), memory)| {
            MiddlewareRow {
                name: (*name).to_owned(),
                latency_ms: Spread::of(&latency),
                tasks_per_second: Spread::of(&rate),
                recovery_seconds: Spread::of(&recovery),
                worker_megabytes: memory.into_iter().max().unwrap_or_default() as f64 / 1e6,
            }
        });
    Ok(rows.collect())
}

/// How many seconds later a query ends when one of its two workers is killed in the middle.
async fn recovery_seconds(cluster: &mut ClusterProcesses, files: &DataFiles) -> anyhow::Result<f64> {
    let [query, ..] = &QUERIES;
    let mut side = QueryProgram::ours("client", &cluster.client_flags())?;
    side.ask(query, files).await?;
    let undisturbed = side.ask(query, files).await?;
    let half = Duration::from_secs_f64(undisturbed.seconds / 2.0);
    let killed_at_half = async {
        tokio::time::sleep(half).await;
        cluster.kill_worker().await
    };
    let (answer, killed) = tokio::join!(side.ask(query, files), killed_at_half);
    killed?;
    let answer = answer?;
    answer.ensure_same(&undisturbed)?;
    ensure!(answer.seconds > half.as_secs_f64(), "the query had ended before its worker was killed");
    cluster.restart_worker().await?;
    Ok(answer.seconds - undisturbed.seconds)
}
