//! The methods of a worker that has a CSV file of its own: `columns()`, `head(n)`, `max(label)`, `min(label)`,
//! `isin(value, …, label)`, `items(label)`, `groupby(label, "mean"|"sum")`, `apply(expression, label)`.
//!
//! A client calls each worker itself and puts the results together, as in the assignment's public solution. A worker that
//! does not answer fails the call: this is the weakness of that design, which the master's jobs do not have.

use std::sync::Arc;

use dataframe_engine::{Engine, EngineConfig, Frame, OutputFormat};
use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::operation::{Apply, CsvOptions, Operation, ReadCsv, Reduction};
use middleware::xmlrpc::{MethodFault, Methods, Value, method};

use super::values::{fault, json, number, text, value, wrong_call};
use crate::threads::ComputeThreads;

/// The file of a worker, and what computes on it.
struct OwnFile {
    path: String,
    engine: Engine,
    threads: ComputeThreads,
}

/// Makes the methods for a file.
///
/// # Errors
/// Fails if there is no memory or no thread for computing.
pub(crate) fn worker_methods(
    path: String,
    threads: usize,
    memory_bytes: Option<u64>,
) -> anyhow::Result<Methods> {
    let engine = Engine::new(EngineConfig { threads, memory_bytes, spill_folder: None, wasm: None })?;
    let file = Arc::new(OwnFile { path, engine, threads: ComputeThreads::start(threads)? });
    let mut methods = Methods::new();
    for name in ["columns", "head", "max", "min", "isin", "items", "groupby", "apply"] {
        let file = Arc::clone(&file);
        let answer = method(move |parameters| answer(Arc::clone(&file), name, parameters));
        methods.insert(name.to_owned(), answer);
    }
    Ok(methods)
}

async fn answer(
    file: Arc<OwnFile>,
    name: &'static str,
    parameters: Vec<Value>,
) -> Result<Value, MethodFault> {
    match name {
        "columns" => Ok(column(&file.compute(Operation::Columns {}).await?, 0)),
        "head" => {
            let n = number(&parameters, 0, 5, "head(n)")?;
            file.csv_text(Operation::Head { n, partitions: 1 }).await
        }
        "max" => file.reduced(Operation::Max, &parameters, "max(label)").await,
        "min" => file.reduced(Operation::Min, &parameters, "min(label)").await,
        "isin" => {
            const USAGE: &str = "isin(value, value, label)";
            let (_, values) = parameters
                .split_last()
                .filter(|(_, values)| !values.is_empty())
                .ok_or_else(|| wrong_call(USAGE))?;
            let label = text(&parameters, parameters.len() - 1, USAGE)?;
            let values = values.iter().map(|value| json(value, USAGE)).collect::<Result<_, _>>()?;
            Ok(column(&file.compute(Operation::Isin { values, column: Some(label.to_owned()) }).await?, 0))
        }
        "items" => {
            let label = text(&parameters, 0, "items(label)")?;
            let frame = file.compute(Operation::Select { columns: vec![label.to_owned()] }).await?;
            Ok(Value::Array(vec![Value::String(label.to_owned()), column(&frame, 0)]))
        }
        "groupby" => {
            const USAGE: &str = "groupby(label, \"mean\") or groupby(label, \"sum\")";
            let (label, function) = (text(&parameters, 0, USAGE)?, text(&parameters, 1, USAGE)?);
            file.groups(label, function, USAGE).await
        }
        _ => file.apply(&parameters).await,
    }
}

impl OwnFile {
    async fn compute(&self, operation: Operation) -> Result<Frame, MethodFault> {
        let read = ReadCsv { paths: vec![self.path.clone()], options: CsvOptions::default() };
        let (engine, operations) = (self.engine.clone(), vec![Operation::ReadCsv(read), operation]);
        let computed = self.threads.spawn(async move { engine.compute(&operations).await });
        let broken = |message: String| Failure { code: FailureCode::Internal, message, worker: None };
        let frame = computed.await.map_err(|error| fault(&broken(error.to_string())))?;
        frame.map_err(|error| fault(&error.into()))
    }

    async fn csv_text(&self, operation: Operation) -> Result<Value, MethodFault> {
        let frame = self.compute(operation).await?;
        let mut output = Vec::new();
        frame.write(OutputFormat::Csv, &mut output).map_err(|error| fault(&error.into()))?;
        Ok(Value::String(String::from_utf8_lossy(&output).into_owned()))
    }

    async fn reduced(
        &self,
        operation: fn(Reduction) -> Operation,
        parameters: &[Value],
        usage: &str,
    ) -> Result<Value, MethodFault> {
        let label = text(parameters, 0, usage)?;
        let frame = self.compute(operation(Reduction { columns: vec![label.to_owned()] })).await?;
        match column(&frame, 0) {
            Value::Array(values) => Ok(values.into_iter().next().unwrap_or(Value::Nil)),
            other => Ok(other),
        }
    }

    /// Aggregates each column of numbers by the label, as pandas' `df.groupby(label).mean()` does.
    async fn groups(&self, label: &str, function: &str, usage: &str) -> Result<Value, MethodFault> {
        if !matches!(function, "mean" | "sum") {
            return Err(wrong_call(usage));
        }
        let head = self.compute(Operation::Head { n: 1, partitions: 1 }).await?;
        let numbers = head
            .schema
            .fields()
            .iter()
            .filter(|field| field.data_type().is_numeric() && field.name() != label);
        let agg = numbers.map(|field| format!("{function}({0}) as {0}", quoted(field.name()))).collect();
        self.csv_text(Operation::Groupby { by: vec![label.to_owned()], agg }).await
    }

    async fn apply(&self, parameters: &[Value]) -> Result<Value, MethodFault> {
        const USAGE: &str = "apply(\"x * 2\", label), where the expression is SQL, or the name of a function";
        let (function, label) = (text(parameters, 0, USAGE)?, text(parameters, 1, USAGE)?);
        if let Some(body) = function.trim_start().strip_prefix("lambda") {
            let expression = body.split_once(':').map_or("", |(_, expression)| expression).trim();
            let message = format!(
                "a worker does not run code that the network sends: in place of {function:?} give the expression {expression:?} in SQL, on the columns' names"
            );
            return Err(fault(&Failure { code: FailureCode::BadJob, message, worker: None }));
        }
        let apply = match self.engine.function_names().iter().any(|name| name == function) {
            true => Apply {
                function: Some(function.to_owned()),
                column: Some(label.to_owned()),
                ..Apply::default()
            },
            false => Apply { expression: Some(function.to_owned()), ..Apply::default() },
        };
        Ok(column(&self.compute(Operation::Apply(apply)).await?, 0))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All values of a column.
fn column(frame: &Frame, index: usize) -> Value {
    let values = frame.batches.iter().flat_map(|batch| {
        let column = batch.column(index);
        (0..batch.num_rows()).map(move |row| value(column, row))
    });
    Value::Array(values.collect())
}
