//! Modules and columns for tests.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use dataframe_jobs::operation::Dtype;
use dataframe_wasm::{TaskBudget, WasmCall, WasmError, WasmLimits, WasmModule};

/// The example of the documentation.
pub const SCORES: &str = include_str!("../../../../tasca1/wasm/wat/scores.wat");

/// Limits that a module reaches soon.
pub const LIMITS: WasmLimits =
    WasmLimits { memory_bytes: 1 << 20, fuel_per_row: 100_000, fuel_per_task: 1_000_000_000 };

/// A module from its text.
pub fn module(text: &str) -> Result<Arc<WasmModule>, WasmError> {
    WasmModule::new(wat::parse_str(text).unwrap().into()).map(Arc::new)
}

/// What a function gives for columns.
pub fn run(
    text: &str,
    function: &str,
    columns: &[(Dtype, ArrayRef)],
    returns: Dtype,
) -> Result<ArrayRef, WasmError> {
    run_within(text, function, columns, returns, &TaskBudget::new(LIMITS))
}

/// What a function gives for columns, within a budget.
pub fn run_within(
    text: &str,
    function: &str,
    columns: &[(Dtype, ArrayRef)],
    returns: Dtype,
    budget: &TaskBudget,
) -> Result<ArrayRef, WasmError> {
    let dtypes = columns.iter().map(|(dtype, _)| *dtype).collect();
    let columns: Vec<_> = columns.iter().map(|(_, column)| column.clone()).collect();
    WasmCall::new(module(text)?, function, dtypes, returns)?.run(&columns, budget, "")
}

pub fn integers(values: &[Option<i64>]) -> (Dtype, ArrayRef) {
    (Dtype::Int64, Arc::new(Int64Array::from(values.to_vec())))
}

pub fn floats(values: &[Option<f64>]) -> (Dtype, ArrayRef) {
    (Dtype::Float64, Arc::new(Float64Array::from(values.to_vec())))
}

pub fn texts(values: &[Option<&str>]) -> (Dtype, ArrayRef) {
    (Dtype::String, Arc::new(StringArray::from(values.to_vec())))
}
