//! Files, and both ways of computing.

use std::sync::Arc;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use dataframe_engine::csv::FileCut;
use dataframe_engine::{
    Engine, EngineConfig, Frame, FrameError, OutputFormat, ShuffleSettings, WasmLimits, Widenings,
};
use dataframe_jobs::operation::Operation;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::{TryStreamExt, stream};
use tempfile::TempDir;

/// A folder with files, and an engine.
pub struct Data {
    pub folder: TempDir,
    pub engine: Engine,
}

pub fn engine() -> Engine {
    let wasm = Some(WasmLimits { fuel_per_row: 100_000, ..WasmLimits::default() });
    Engine::new(EngineConfig { threads: 3, wasm, ..EngineConfig::default() }).unwrap()
}

impl Data {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder, engine: engine() }
    }

    /// The operations of a JSON list; `FOLDER` in it is the folder.
    pub fn operations(&self, json: &str) -> Vec<Operation> {
        let json = json.replace("FOLDER", self.folder.path().to_str().unwrap());
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
    }

    /// `read_csv` of all files, and then these operations.
    pub fn after_read(&self, rest: &str) -> Vec<Operation> {
        let comma = if rest.is_empty() { "" } else { "," };
        self.operations(&format!(r#"[{{"read_csv": {{"paths": ["FOLDER/*.csv"]}}}}{comma}{rest}]"#))
    }

    /// The frame as CSV, computed in one process, and through tasks cut in several ways, with and without shuffles.
    pub async fn csv(&self, rest: &str) -> Result<String, FrameError> {
        self.csv_of(&self.after_read(rest)).await
    }

    pub async fn csv_of(&self, operations: &[Operation]) -> Result<String, FrameError> {
        let here = self.engine.compute(operations).await;
        for partitions in [1, 4, 13] {
            let cut = FileCut::Even { partitions, min_bytes: 1, max_bytes: u64::MAX };
            let through_tasks = compute_in_tasks(&self.engine, operations, cut).await;
            match (&here, &through_tasks) {
                (Ok(here), Ok(there)) => assert_eq!(
                    (written(here, OutputFormat::Arrow), written(here, OutputFormat::Csv)),
                    (written(there, OutputFormat::Arrow), written(there, OutputFormat::Csv)),
                    "{partitions} partitions\nhere:\n{}\nthere:\n{}",
                    text(here),
                    text(there)
                ),
                (Err(here), Err(there)) => assert_eq!(here.to_string(), there.to_string()),
                (here, there) => panic!("{partitions} partitions: {here:?} and {there:?}"),
            }
        }
        for hashed_side in [0, u64::MAX] {
            let settings = ShuffleSettings { above: 0, hashed_side };
            let engine = self.engine.clone().with_shuffles(settings);
            let cut = FileCut::Even { partitions: 5, min_bytes: 1, max_bytes: u64::MAX };
            let shuffled = crate::shuffled::compute(&engine, operations, cut).await;
            match (&here, &shuffled) {
                (Ok(here), Ok((there, _))) => assert_eq!(
                    (written(here, OutputFormat::Arrow), written(here, OutputFormat::Csv)),
                    (written(there, OutputFormat::Arrow), written(there, OutputFormat::Csv)),
                    "shuffled\nhere:\n{}\nthere:\n{}",
                    text(here),
                    text(there)
                ),
                (Err(here), Err(there)) => assert_eq!(here.to_string(), there.to_string()),
                (here, there) => panic!("shuffled: {here:?} and {there:?}"),
            }
        }
        here.map(|frame| text(&frame))
    }
}

pub fn written(frame: &Frame, format: OutputFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(format, &mut bytes).unwrap();
    bytes
}

pub fn text(frame: &Frame) -> String {
    String::from_utf8(written(frame, OutputFormat::Csv)).unwrap()
}

/// Plans, runs each task as a worker would, carries its rows as Arrow IPC, and finishes.
pub async fn compute_in_tasks(
    engine: &Engine,
    operations: &[Operation],
    cut: FileCut,
) -> Result<Frame, FrameError> {
    let mut widenings = Widenings::default();
    loop {
        match compute_once(engine, operations, &widenings, cut).await {
            Err(FrameError::Widen(widening)) => assert!(widenings.add(widening), "widened twice"),
            computed => return computed,
        }
    }
}

async fn compute_once(
    engine: &Engine,
    operations: &[Operation],
    widenings: &Widenings,
    cut: FileCut,
) -> Result<Frame, FrameError> {
    let plan = engine.plan_cut(operations, engine, widenings, cut).await?;
    let schema = plan.schema();
    let worker = self::engine();
    let mut results = Vec::new();
    for task in plan.tasks() {
        for module in &task.modules {
            worker.modules().insert_as(module.hash(), module.bytes().clone()).unwrap();
        }
        let rows = worker.run_task(&task.plan, &task.files, worker.task_budget().as_ref())?;
        results.push(carried(rows).await.map_err(|error| engine.explain_error(&error, &[]))?);
    }
    let rows = plan.finish(results).await?;
    let batches = rows.try_collect().await.map_err(|error| engine.explain_error(&error, &[]))?;
    Ok(Frame { schema, batches })
}

async fn carried(
    rows: SendableRecordBatchStream,
) -> Result<SendableRecordBatchStream, datafusion::error::DataFusionError> {
    let schema = rows.schema();
    let batches: Vec<_> = rows.try_collect().await?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    for batch in &batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    let reader = StreamReader::try_new(std::io::Cursor::new(bytes), None)?;
    let read = reader.map(|batch| Ok(batch?)).collect::<Vec<_>>();
    Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::iter(read))))
}
