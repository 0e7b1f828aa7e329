//! Answers the queries of `bench dataframe` with DataFusion alone, as its own documentation uses it: the measure of what the
//! engine adds to it.
//!
//! Usage: `plain_datafusion H2O.csv STATIONS.csv`. Reads the name of a query from each line of standard input, and answers it with
//! one line of JSON: how many seconds it took until all rows were there, their number, and the sum of each column of
//! numbers. Files are read anew each time.

use std::io::BufRead as _;
use std::time::Instant;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::{cast, sum};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::{CsvReadOptions, SessionContext};
use serde_json::json;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [h2o, stations] = files.as_slice() else {
        return Err(DataFusionError::Execution("usage: plain_datafusion H2O.csv STATIONS.csv".to_owned()));
    };
    println!("{}", json!({ "ready": "datafusion" }));
    for line in std::io::stdin().lock().lines() {
        let query = line?;
        let started = Instant::now();
        let batches = runtime.block_on(run(&query, h2o, stations))?;
        let seconds = started.elapsed().as_secs_f64();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        println!("{}", json!({ "seconds": seconds, "rows": rows, "sums": sums(&batches)? }));
    }
    Ok(())
}

async fn run(query: &str, h2o: &str, stations: &str) -> Result<Vec<RecordBatch>> {
    let sql = match query {
        "groupby-few" => "select id1, sum(v1) from h2o group by id1",
        "groupby-many" => "select id3, sum(v1), avg(v3) from h2o group by id3",
        "max" => "select max(v3) from h2o",
        "isin" => "select count(*) from h2o where id1 in ('id001', 'id050')",
        "stations" => {
            "select station, min(temperature), avg(temperature), max(temperature) from stations group by station"
        }
        other => return Err(DataFusionError::Execution(format!("no query is named {other:?}"))),
    };
    let context = SessionContext::new();
    let (name, path) = if query == "stations" { ("stations", stations) } else { ("h2o", h2o) };
    context.register_csv(name, path, CsvReadOptions::new()).await?;
    context.sql(sql).await?.collect().await
}

fn sums(batches: &[RecordBatch]) -> Result<Vec<f64>> {
    let columns = batches.first().map_or(0, RecordBatch::num_columns);
    let mut sums = Vec::new();
    for column in 0..columns {
        let mut total = 0.0;
        for batch in batches.iter().filter(|batch| batch.column(column).data_type().is_numeric()) {
            let numbers = cast(batch.column(column), &DataType::Float64)?;
            total += sum(numbers.as_primitive::<Float64Type>()).unwrap_or_default();
        }
        if batches[0].column(column).data_type().is_numeric() {
            sums.push(total);
        }
    }
    Ok(sums)
}
