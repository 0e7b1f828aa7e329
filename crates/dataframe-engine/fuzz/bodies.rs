//! What must hold for any file and any way of reading it. The fuzz target and a property test of the crate run this. Both of them give
//! the crate the name `engine`.

use std::path::Path;
use std::time::UNIX_EPOCH;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use dataframe_jobs::operation::{CsvOptions, Dtype, ReadCsv};
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::engine::csv::{
    CsvTable, FileCut, Inspection, KeptBlocks, explain_scan_error, inspect, scan_by_engine,
    scan_of_partition, scan_partitions,
};
use super::engine::error::{FrameError, Widenings};

/// The types of columns.
pub const DTYPES: [Dtype; 6] =
    [Dtype::Int64, Dtype::Float64, Dtype::String, Dtype::Bool, Dtype::Date, Dtype::Datetime];

/// A file, and how it is read.
#[derive(Debug, Clone)]
pub struct Case {
    pub text: Vec<u8>,
    pub dtypes: Vec<Dtype>,
    /// Columns that are read as text first, by a bit each.
    pub careful: u8,
    pub fixed: bool,
    pub header: bool,
    /// Quotes are expected.
    pub quotes: bool,
    /// The size of a partition.
    pub block_bytes: u64,
    pub batch_size: usize,
    /// The columns that are read, by a bit each.
    pub projection: u8,
}

impl Case {
    /// Takes the settings from the first bytes, and the text from the others.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([columns, types @ .., careful, flags, block, batch, projection], text) =
            bytes.split_first_chunk::<10>()?;
        let dtypes = types.iter().take(usize::from(columns % 4) + 1);
        Some(Self {
            text: text.to_vec(),
            dtypes: dtypes.map(|dtype| DTYPES[usize::from(*dtype) % DTYPES.len()]).collect(),
            careful: *careful,
            fixed: flags & 1 != 0,
            header: flags & 2 != 0,
            quotes: flags & 4 != 0,
            block_bytes: u64::from(*block) * 8 + 1,
            batch_size: usize::from(*batch) + 1,
            projection: *projection,
        })
    }
}

/// Both readers give the same batches to the bit, or the same error. Tells whether there was something to compare.
pub fn both_readers_give_the_same(folder: &Path, case: &Case) -> bool {
    let path = folder.join("a.csv");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let inspection = inspected(&path, case).await;
        let cut = FileCut::Blocks { bytes: case.block_bytes, keep: KeptBlocks::All };
        // A quote that stays open may be found before anything is read.
        let Ok(table) = CsvTable::new(&inspection, &Widenings::default(), cut) else { return false };
        let columns = (0..case.dtypes.len()).filter(|column| case.projection >> column & 1 == 1).collect();
        let state = SessionContext::new().state();
        let plan = table.scan(&state, Some(&columns), &[], None).await.expect("a plan");
        let theirs = read_all(plan.as_ref(), true, case.batch_size).await;
        let ours = read_all(plan.as_ref(), false, case.batch_size).await;
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
            (Err(ours), Err(theirs)) => assert_eq!(ours.to_string(), theirs.to_string()),
            _ => panic!("ours: {ours:?}\nDataFusion's: {theirs:?}"),
        }
        true
    })
}

/// The inspection of a file that looks harmless, with the file's own text put in after it.
async fn inspected(path: &Path, case: &Case) -> Inspection {
    let columns = 0..case.dtypes.len();
    let names: Vec<_> =
        columns.map(|column| if case.header { format!("c{column}") } else { column.to_string() }).collect();
    let first_line = if case.header { names.join(",") } else { vec!["\"\""; names.len()].join(",") };
    std::fs::write(path, first_line + "\n").expect("the file is written");
    let options = CsvOptions {
        dtypes: names.into_iter().zip(case.dtypes.iter().copied()).collect(),
        header: case.header,
        ..CsvOptions::default()
    };
    let read = ReadCsv { paths: vec![path.to_str().expect("a path in UTF-8").to_owned()], options };
    let mut inspection = inspect(&read).await.expect("a file without faults");
    for (number, column) in inspection.columns.iter_mut().enumerate() {
        column.careful = case.careful >> number & 1 == 1;
        column.fixed = case.fixed;
    }
    std::fs::write(path, &case.text).expect("the file is written");
    let modified =
        std::fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time of change");
    let since_1970 = modified.duration_since(UNIX_EPOCH).expect("a time after 1970");
    inspection.files[0].size = case.text.len() as u64;
    inspection.files[0].modified_ns = i64::try_from(since_1970.as_nanos()).expect("a time before 2262");
    inspection.quotes = case.quotes;
    inspection
}

/// Batches with the number of their partition, and the bits of their floats: `==` takes both zeros for the same.
type Bits = Vec<(usize, RecordBatch, Vec<Vec<u64>>)>;

fn bits(batch: &RecordBatch) -> Vec<Vec<u64>> {
    let floats = batch.columns().iter().filter(|column| *column.data_type() == DataType::Float64);
    floats
        .map(|column| column.as_primitive::<Float64Type>().iter().flatten().map(f64::to_bits).collect())
        .collect()
}

async fn read_all(plan: &dyn ExecutionPlan, by_engine: bool, batch_size: usize) -> Result<Bits, FrameError> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_batch_size(batch_size));
    let mut all = Vec::new();
    for partition in 0..scan_partitions(plan).expect("a scan").len() {
        let mut task = scan_of_partition(plan, partition).expect("a scan");
        if by_engine {
            task = scan_by_engine(task.as_ref()).expect("a scan");
        }
        let batches = collect(task, context.task_ctx()).await.map_err(|error| explain_scan_error(&error))?;
        all.extend(batches.into_iter().map(|batch| (partition, batch.clone(), bits(&batch))));
    }
    Ok(all)
}
