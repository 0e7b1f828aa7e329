//! The figures, as JSON and as tables in Markdown.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::stats::Spread;

/// Everything that was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DataFrameReport {
    pub rows: u64,
    pub rounds: usize,
    /// One process and two workers beside other DataFrames.
    pub engines: Option<QueryTable>,
    /// Two workers over each middleware.
    pub over_middlewares: Option<QueryTable>,
    /// One process of one thread, and 1, 2 and 4 workers of one thread.
    pub scaling: Option<QueryTable>,
    pub middlewares: Vec<MiddlewareRow>,
    /// Of Dask's own cluster: milliseconds of an empty task, and tasks a second.
    pub dask_tasks: Option<(Spread, Spread)>,
}

/// The seconds of several sides for each query.
#[derive(Debug, Serialize, Deserialize)]
pub struct QueryTable {
    pub sides: Vec<String>,
    /// The place of the side that the ratios are to.
    pub reference: usize,
    pub rows: Vec<QueryRow>,
}

/// The seconds of all sides for one query.
#[derive(Debug, Serialize, Deserialize)]
pub struct QueryRow {
    pub title: String,
    pub seconds: Vec<Spread>,
    /// The seconds of each side divided by those of the reference, round by round.
    pub ratios: Vec<Spread>,
}

impl QueryRow {
    /// Returns the row for what each side took in each round.
    pub fn new(title: &str, seconds: &[Vec<f64>], reference: usize) -> Self {
        let ratio = |side: &Vec<f64>| {
            let ratios = side.iter().zip(&seconds[reference]).map(|(one, other)| one / other);
            Spread::of(&ratios.collect::<Vec<_>>())
        };
        let spreads = seconds.iter().map(|side| Spread::of(side)).collect();
        Self { title: title.to_owned(), seconds: spreads, ratios: seconds.iter().map(ratio).collect() }
    }
}

impl fmt::Display for QueryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: String = self.rows.iter().map(|query| format!(" {} |", query.title)).collect();
        writeln!(f, "\n| seconds; ratio to {} |{titles}", self.sides[self.reference])?;
        writeln!(f, "| --- |{}", " --- |".repeat(self.rows.len()))?;
        for (index, side) in self.sides.iter().enumerate() {
            let cell =
                |query: &QueryRow| format!(" {}; {:.2} |", query.seconds[index], query.ratios[index].median);
            writeln!(f, "| {side} |{}", self.rows.iter().map(cell).collect::<String>())?;
        }
        Ok(())
    }
}

/// What a task and a killed worker cost on one middleware.
#[derive(Debug, Serialize, Deserialize)]
pub struct MiddlewareRow {
    pub name: String,
    pub latency_ms: Spread,
    pub tasks_per_second: Spread,
    pub recovery_seconds: Spread,
    /// Resident memory of a worker that has not worked yet.
    pub worker_megabytes: f64,
}

impl fmt::Display for DataFrameReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows; median (min–max) of {} rounds", self.rows, self.rounds)?;
        for table in [&self.engines, &self.over_middlewares, &self.scaling].into_iter().flatten() {
            table.fmt(f)?;
        }
        self.write_middlewares(f)
    }
}

impl DataFrameReport {
    fn write_middlewares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.middlewares.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n| middleware | empty task, p50, ms | tasks a second | later after kill -9, s | worker at rest, MB |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        for row in &self.middlewares {
            let MiddlewareRow { name, latency_ms, tasks_per_second, recovery_seconds, worker_megabytes } =
                row;
            writeln!(
                f,
                "| {name} | {latency_ms} | {tasks_per_second} | {recovery_seconds} | {worker_megabytes:.0} |"
            )?;
        }
        if let Some((latency, rate)) = &self.dask_tasks {
            writeln!(f, "| Dask's own | {latency} | {rate} | | |")?;
        }
        Ok(())
    }
}
