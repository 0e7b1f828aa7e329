//! Lists of operations from standard input, one a line, each answered by one line of JSON: for programs that send many.
//!
//! ```text
//! {"frame":{"columns":[["name","string"],["x","int64"]],"rows":[["Ada",1],[null,2]]}}
//! {"error":{"code":"bad-job","message":"…"}}
//! ```
//!
//! A missing value is null, and so is NaN. Infinity is the string `inf` or `-inf`, as JSON has no number for it. Dates and
//! times are strings in ISO 8601.
//!
//! With `--summary` a frame is answered by its size, the sums of its numbers, and how long it took until all rows were there:
//!
//! ```text
//! {"summary":{"seconds":0.81,"rows":100,"sums":{"v1":59998311}}}
//! ```

use std::io::Write as _;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, sum};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use dataframe_engine::{Frame, FrameError, dtype_of};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::operation::{self, BadOperations};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::place::ComputePlace;

/// Answers each line of standard input until its end.
///
/// # Errors
/// Fails if standard input cannot be read or standard output cannot be written. A list that fails is answered.
pub async fn answer_lines(place: &ComputePlace, summarize: bool) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = if summarize { summary(place, &line).await } else { answer(place, &line).await };
        let answer = answer.unwrap_or_else(|error| json!({ "error": failure(error) }));
        let mut output = std::io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

async fn answer(place: &ComputePlace, line: &str) -> anyhow::Result<Value> {
    let frame = place.compute(&operation::parse(line)?).await?;
    Ok(json!({ "frame": frame_as_json(&frame)? }))
}

async fn summary(place: &ComputePlace, line: &str) -> anyhow::Result<Value> {
    let started = Instant::now();
    let frame = place.compute(&operation::parse(line)?).await?;
    let seconds = started.elapsed().as_secs_f64();
    let mut sums = serde_json::Map::new();
    for (name, column) in frame.items().filter(|(_, column)| column.schema.field(0).data_type().is_numeric())
    {
        let mut total = 0.0;
        for batch in &column.batches {
            let numbers = cast(batch.column(0), &DataType::Float64)?;
            total += sum(numbers.as_primitive::<Float64Type>()).unwrap_or_default();
        }
        sums.insert(name, total.into());
    }
    Ok(json!({ "summary": { "seconds": seconds, "rows": frame.rows(), "sums": sums } }))
}

fn failure(error: anyhow::Error) -> Failure {
    let error = match error.downcast::<FrameError>() {
        Ok(error) => return error.into(),
        Err(error) => error,
    };
    let bad_job = error.is::<BadOperations>();
    error.downcast::<Failure>().unwrap_or_else(|error| Failure {
        code: if bad_job { FailureCode::BadJob } else { FailureCode::Internal },
        message: format!("{error:#}"),
        worker: None,
    })
}

fn frame_as_json(frame: &Frame) -> anyhow::Result<Value> {
    let columns: Vec<_> = frame
        .schema
        .fields()
        .iter()
        .map(|field| json!([field.name(), dtype_of(field.data_type())]))
        .collect();
    let mut rows = Vec::with_capacity(frame.rows());
    for batch in &frame.batches {
        rows.extend(rows_as_json(batch)?);
    }
    Ok(json!({ "columns": columns, "rows": rows }))
}

fn rows_as_json(batch: &RecordBatch) -> anyhow::Result<Vec<Value>> {
    let columns = batch.columns().iter().map(comparable).collect::<anyhow::Result<Vec<_>>>()?;
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| value(column, row)).collect::<anyhow::Result<Value>>())
        .collect()
}

/// All whole numbers as 64 bits, all others as doubles.
fn comparable(column: &ArrayRef) -> anyhow::Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::UInt64 => column.clone(),
        number if number.is_integer() => cast(column, &DataType::Int64)?,
        number if number.is_numeric() => cast(column, &DataType::Float64)?,
        _ => column.clone(),
    })
}

fn value(column: &ArrayRef, row: usize) -> anyhow::Result<Value> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => match column.as_primitive::<Float64Type>().value(row) {
            number if number.is_infinite() => if number > 0.0 { "inf" } else { "-inf" }.into(),
            // NaN has no number in JSON either, and becomes null.
            number => number.into(),
        },
        DataType::UInt64 => array_value_to_string(column, row)?.parse::<u64>()?.into(),
        _ => array_value_to_string(column, row)?.into(),
    })
}
