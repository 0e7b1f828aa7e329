//! Lists of operations from standard input, one a line, each answered by one line of JSON: for programs that send many.
//!
//! ```text
//! {"frame":{"columns":[["name","string"],["x","int64"]],"rows":[["Ada",1],[null,2]]}}
//! {"error":{"code":"bad-job","message":"…"}}
//! ```
//!
//! A missing value is null, and so is NaN. Infinity is the string `inf` or `-inf`, as JSON has no number for it. Dates and
//! times are strings in ISO 8601.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
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
pub async fn answer_lines(place: &ComputePlace) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match answer(place, &line).await {
            Ok(frame) => json!({ "frame": frame }),
            Err(error) => json!({ "error": failure(error) }),
        };
        let mut output = std::io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

async fn answer(place: &ComputePlace, line: &str) -> anyhow::Result<Value> {
    frame_as_json(&place.compute(&operation::parse(line)?).await?)
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
