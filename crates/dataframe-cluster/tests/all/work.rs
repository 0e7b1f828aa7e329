//! Jobs for tests, and what they give on one machine.

use std::path::{Path, PathBuf};

use dataframe_engine::{Engine, EngineConfig, Frame, OutputFormat};
use dataframe_jobs::operation::{self, Operation};

/// Writes a CSV file with the columns `name`, `x`, `y`.
pub fn write_csv(folder: &Path, name: &str, rows: usize) -> PathBuf {
    let path = folder.join(name);
    let mut text = String::from("name,x,y\n");
    for row in 0..rows {
        text.push_str(&format!("{},{},{}.5\n", ["Ana", "Bea", "Çelik"][row % 3], row * 7 % 1000, row % 17));
    }
    std::fs::write(&path, text).unwrap();
    path
}

/// A list of operations on these files. `{paths}` stands for the source's paths.
pub fn operations(paths: &[PathBuf], rest: &str) -> Vec<Operation> {
    let paths = serde_json::to_string(paths).unwrap();
    let rest = if rest.is_empty() { String::new() } else { format!(", {rest}") };
    operation::parse(&format!(r#"[{{"read_csv": {{"paths": {paths}}}}}{rest}]"#)).unwrap()
}

/// A job that keeps a worker busy for about a second, and is decided by every row.
pub fn long_work(folder: &Path) -> Vec<Operation> {
    let path = write_csv(folder, "long.csv", 30_000);
    operations(
        &[path],
        r#"{"query": {"predicate": "length(repeat(name, 3000)) > 0"}}, {"groupby": {"by": ["name"], "agg": ["sum(x)", "mean(y)", "count(x)"]}}"#,
    )
}

/// What one machine gives, as CSV.
pub async fn on_one_machine(operations: &[Operation]) -> String {
    let engine =
        Engine::new(EngineConfig { threads: 2, memory_bytes: None, spill_folder: None, wasm: None }).unwrap();
    csv(&engine.compute(operations).await.unwrap())
}

/// A frame as CSV.
pub fn csv(frame: &Frame) -> String {
    let mut bytes = Vec::new();
    frame.write(OutputFormat::Csv, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}
