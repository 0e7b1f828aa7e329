//! Files that are read as a whole: cut, converted, widened, and sent over the wire.

mod cuts;
mod errors;
mod readers;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use dataframe_jobs::operation::{CsvOptions, ReadCsv};
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};

use super::*;
use crate::error::{FrameError, Widening, Widenings};

/// A folder with files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self(folder)
    }

    fn one(text: impl AsRef<[u8]>) -> Self {
        Self::new(&[("a.csv", text.as_ref())])
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn read(&self, options: CsvOptions) -> ReadCsv {
        ReadCsv { paths: vec![self.path().to_str().unwrap().to_owned()], options }
    }

    async fn inspect(&self) -> Inspection {
        inspect(&self.read(CsvOptions::default())).await.unwrap()
    }
}

/// A frame as text: rows of fields, `null` where a value is missing.
type Rows = Vec<Vec<String>>;

fn to_rows(batches: &[RecordBatch]) -> Rows {
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>()),
        );
    }
    rows
}

/// Runs each partition of a scan after a journey over the wire.
async fn run(plan: &dyn ExecutionPlan) -> Result<Vec<RecordBatch>, FrameError> {
    let context = SessionContext::new();
    let mut batches = Vec::new();
    for partition in 0..scan_partitions(plan).unwrap().len() {
        let task = scan_of_partition(plan, partition).unwrap();
        let bytes = physical_plan_to_bytes_with_extension_codec(task, &CsvScanCodec).unwrap();
        let task = physical_plan_from_bytes_with_extension_codec(&bytes, &context.task_ctx(), &CsvScanCodec)
            .unwrap();
        let found = collect(task, context.task_ctx()).await.map_err(|error| explain_scan_error(&error))?;
        batches.extend(found);
    }
    Ok(batches)
}

async fn scan(
    inspection: &Inspection,
    widenings: &Widenings,
    cut: FileCut,
    projection: Option<&Vec<usize>>,
) -> Result<Vec<RecordBatch>, FrameError> {
    let table = CsvTable::new(inspection, widenings, cut)?;
    let state = SessionContext::new().state();
    let plan = table.scan(&state, projection, &[], None).await.unwrap();
    run(plan.as_ref()).await
}

/// What a read gives in the end, and the widenings on the way.
struct Outcome {
    rows: Rows,
    types: Vec<String>,
    widenings: Vec<Widening>,
}

/// Reads, and begins again with each widening, as a driver does.
async fn read_widening(read: &ReadCsv, cut: FileCut) -> Result<Outcome, FrameError> {
    let inspection = inspect(read).await?;
    read_inspected(&inspection, cut).await
}

async fn read_inspected(inspection: &Inspection, cut: FileCut) -> Result<Outcome, FrameError> {
    let mut widenings = Widenings::default();
    loop {
        match scan(inspection, &widenings, cut, None).await {
            Ok(batches) => {
                let schema = CsvTable::new(inspection, &widenings, cut)?.schema();
                let types = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
                let widenings = widenings.iter().cloned().collect();
                return Ok(Outcome { rows: to_rows(&batches), types, widenings });
            }
            Err(FrameError::Widen(widening)) => assert!(widenings.add(widening.clone()), "again: {widening}"),
            Err(error) => return Err(error),
        }
    }
}

const WHOLE: FileCut = FileCut::Even { partitions: 1, min_bytes: 1, max_bytes: u64::MAX };

fn pieces(partitions: usize) -> FileCut {
    FileCut::Even { partitions, min_bytes: 1, max_bytes: u64::MAX }
}

fn row(fields: &[&str]) -> Vec<String> {
    fields.iter().map(ToString::to_string).collect()
}
