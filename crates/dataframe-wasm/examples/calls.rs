//! Measures how many rows a second functions of modules compute, by row and by batch, on one thread.
//!
//! ```sh
//! cargo run --release -p dataframe-wasm --example calls
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use dataframe_jobs::operation::Dtype;
use dataframe_wasm::{TaskBudget, WasmCall, WasmError, WasmLimits, WasmModule};

/// Rows of a batch, as the engine cuts them.
const ROWS: usize = 8192;
/// Measurements of each function.
const ROUNDS: usize = 9;
/// Time of a measurement, at least.
const ROUND: Duration = Duration::from_millis(300);

const NAMES: &[u8] = include_bytes!("../../../tasca1/wasm/names.wasm");
const SCORES: &str = include_str!("../../../tasca1/wasm/wat/scores.wat");

/// A function, and what it is called with.
struct Measured {
    what: &'static str,
    call: WasmCall,
    columns: Vec<ArrayRef>,
    /// How often a batch calls it.
    calls: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "| function | million rows a second, median of {ROUNDS} (range) | calls a second |\n| --- | --- | --- |"
    );
    for measured in functions()? {
        let mut speeds = (0..ROUNDS).map(|_| measured.speed()).collect::<Result<Vec<_>, _>>()?;
        speeds.sort_unstable_by(f64::total_cmp);
        let [lowest, median, highest] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| speeds[at] / 1e6);
        let calls = speeds[ROUNDS / 2] / ROWS as f64 * measured.calls as f64;
        println!("| {} | {median:.2} ({lowest:.2}–{highest:.2}) | {calls:.0} |", measured.what);
    }
    Ok(())
}

fn functions() -> Result<Vec<Measured>, Box<dyn std::error::Error>> {
    let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| row as f64)));
    let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("Ada Lovelace {row}"))));
    let names = Arc::new(WasmModule::new(NAMES.into())?);
    let scores = Arc::new(WasmModule::new(wat::parse_str(SCORES)?.into())?);
    let measured =
        |what, module: &Arc<WasmModule>, function: &str, given: &[(Dtype, &ArrayRef)], returns, calls| {
            let dtypes = given.iter().map(|(dtype, _)| *dtype).collect();
            let call = WasmCall::new(Arc::clone(module), function, dtypes, returns)?;
            let columns = given.iter().map(|(_, column)| Arc::clone(column)).collect();
            Ok::<_, WasmError>(Measured { what, call, columns, calls })
        };
    let (float, integer, text) = (Dtype::Float64, Dtype::Int64, Dtype::String);
    Ok(vec![
        measured("`celsius` by row, one `float64`", &names, "celsius", &[(float, &numbers)], float, ROWS)?,
        measured(
            "`score` by row, `float64` and `int64`",
            &scores,
            "score",
            &[(float, &numbers), (integer, &counts)],
            float,
            ROWS,
        )?,
        measured("`bytes` by batch, lengths of texts", &scores, "bytes", &[(text, &texts)], integer, 1)?,
        measured("`initials` by batch, texts from texts", &names, "initials", &[(text, &texts)], text, 1)?,
    ])
}

impl Measured {
    /// Rows a second.
    fn speed(&self) -> Result<f64, WasmError> {
        let (started, mut rows) = (Instant::now(), 0);
        while started.elapsed() < ROUND {
            // Each batch stands for a task, so that no limit of a task is reached.
            self.call.run(&self.columns, &TaskBudget::new(WasmLimits::default()), "")?;
            rows += ROWS;
        }
        Ok(rows as f64 / started.elapsed().as_secs_f64())
    }
}
