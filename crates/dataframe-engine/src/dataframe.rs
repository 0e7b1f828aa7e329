//! The lazy DataFrame, with Dask's names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use dataframe_jobs::operation::{
    Apply, CsvOptions, Join, Missing, Operation, ReadCsv, Reduction, WasmFunction,
};
use serde_json::Value;

use crate::compute::Compute;
use crate::error::FrameError;
use crate::frame::{Frame, OutputFormat};

/// A lazy frame: a list of operations, and whoever computes it. Nothing is read before [`DataFrame::compute`] or one of the other
/// `async` functions.
///
/// ```no_run
/// use std::sync::Arc;
/// use dataframe_engine::{DataFrame, Engine, EngineConfig};
///
/// # async fn run() -> Result<(), dataframe_engine::FrameError> {
/// let engine = Arc::new(Engine::new(EngineConfig::default())?);
/// let df = DataFrame::read_csv(engine, ["data/*.csv"]);
/// let means = df.query("x > 3").groupby(["name"]).agg(["mean(x)", "size as rows"]);
/// let frame = means.compute().await?;
/// println!("{} groups of {} rows", frame.rows(), df.len().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DataFrame {
    operations: Vec<Operation>,
    compute: Arc<dyn Compute>,
    /// What [`DataFrame::persist`] has computed.
    kept: Option<Arc<Frame>>,
}

/// Rows put together by keys: the first half of `groupby(...).agg(...)`.
#[derive(Clone)]
pub struct Groups {
    frame: DataFrame,
    by: Vec<String>,
}

impl Groups {
    /// One row for each group, ordered by the keys. See [`Operation::Groupby`] for the aggregates.
    #[must_use]
    pub fn agg<S: Into<String>>(self, agg: impl IntoIterator<Item = S>) -> DataFrame {
        let agg = strings(agg);
        self.frame.then(Operation::Groupby { by: self.by, agg })
    }
}

fn strings<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

impl DataFrame {
    /// A frame that a list of operations describes.
    pub fn new(compute: Arc<dyn Compute>, operations: Vec<Operation>) -> Self {
        Self { operations, compute, kept: None }
    }

    /// The rows of CSV files: files, folders, patterns. `,` between fields, a header, types inferred.
    pub fn read_csv<S: Into<String>>(compute: Arc<dyn Compute>, paths: impl IntoIterator<Item = S>) -> Self {
        Self::read_csv_with(compute, paths, CsvOptions::default())
    }

    /// The rows of CSV files that are written in another way, or whose types are told.
    pub fn read_csv_with<S: Into<String>>(
        compute: Arc<dyn Compute>,
        paths: impl IntoIterator<Item = S>,
        options: CsvOptions,
    ) -> Self {
        Self::new(compute, vec![Operation::ReadCsv(ReadCsv { paths: strings(paths), options })])
    }

    /// The operations so far.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The frame after one more operation.
    #[must_use]
    pub fn then(&self, operation: Operation) -> Self {
        let mut operations = self.operations.clone();
        operations.push(operation);
        Self::new(self.compute.clone(), operations)
    }

    /// One column `apply`, computed by an expression in SQL such as `x * 2 + length(name)`.
    #[must_use]
    pub fn apply(&self, expression: impl Into<String>) -> Self {
        self.then(Operation::Apply(Apply { expression: Some(expression.into()), ..Apply::default() }))
    }

    /// One column `apply`, computed from a column by a function such as `upper`.
    #[must_use]
    pub fn apply_function(&self, function: impl Into<String>, column: impl Into<String>) -> Self {
        let (function, column) = (Some(function.into()), Some(column.into()));
        self.then(Operation::Apply(Apply { function, column, ..Apply::default() }))
    }

    /// One column `apply`, computed by a function of a WebAssembly module that the engine or the cluster has.
    #[must_use]
    pub fn apply_wasm(&self, wasm: WasmFunction) -> Self {
        self.then(Operation::Apply(Apply { wasm: Some(Box::new(wasm)), ..Apply::default() }))
    }

    /// Columns added or replaced by expressions in SQL, one after the other.
    #[must_use]
    pub fn assign<N: Into<String>, E: Into<String>>(
        &self,
        columns: impl IntoIterator<Item = (N, E)>,
    ) -> Self {
        let columns = columns.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        self.then(Operation::Assign { columns })
    }

    /// The rows for which a predicate in SQL is true.
    #[must_use]
    pub fn query(&self, predicate: impl Into<String>) -> Self {
        self.then(Operation::Query { predicate: predicate.into() })
    }

    /// Whether each value of a column, or of all columns, is among `values`.
    #[must_use]
    pub fn isin<V: Into<Value>>(&self, values: impl IntoIterator<Item = V>, column: Option<&str>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.then(Operation::Isin { values, column: column.map(Into::into) })
    }

    /// Rows put together by keys.
    pub fn groupby<S: Into<String>>(&self, by: impl IntoIterator<Item = S>) -> Groups {
        Groups { frame: self.clone(), by: strings(by) }
    }

    /// The first rows of the first partition.
    #[must_use]
    pub fn head(&self, n: u64) -> Self {
        self.head_of(n, 1)
    }

    /// The first rows of the first partitions; −1 for all.
    #[must_use]
    pub fn head_of(&self, n: u64, partitions: i64) -> Self {
        self.then(Operation::Head { n, partitions })
    }

    /// The last rows of the last partition.
    #[must_use]
    pub fn tail(&self, n: u64) -> Self {
        self.then(Operation::Tail { n })
    }

    /// These columns, in this order.
    #[must_use]
    pub fn select<S: Into<String>>(&self, columns: impl IntoIterator<Item = S>) -> Self {
        self.then(Operation::Select { columns: strings(columns) })
    }

    /// Without these columns.
    #[must_use]
    pub fn drop<S: Into<String>>(&self, columns: impl IntoIterator<Item = S>) -> Self {
        self.then(Operation::Drop { columns: strings(columns) })
    }

    /// Columns under other names: pairs of the old and the new one.
    #[must_use]
    pub fn rename<O: Into<String>, N: Into<String>>(
        &self,
        columns: impl IntoIterator<Item = (O, N)>,
    ) -> Self {
        let columns: BTreeMap<String, String> =
            columns.into_iter().map(|(old, new)| (old.into(), new.into())).collect();
        self.then(Operation::Rename { columns })
    }

    /// A value in place of nulls, in the columns whose type can hold it.
    #[must_use]
    pub fn fillna(&self, value: impl Into<Value>) -> Self {
        self.then(Operation::Fillna { value: value.into(), columns: Vec::new() })
    }

    /// Without the rows that have a null, or nulls alone.
    #[must_use]
    pub fn dropna(&self, how: Missing) -> Self {
        self.then(Operation::Dropna { how, subset: Vec::new() })
    }

    /// The largest value of each column.
    #[must_use]
    pub fn max(&self) -> Self {
        self.then(Operation::Max(Reduction::default()))
    }

    /// The smallest value of each column.
    #[must_use]
    pub fn min(&self) -> Self {
        self.then(Operation::Min(Reduction::default()))
    }

    /// The sum of each column of numbers.
    #[must_use]
    pub fn sum(&self) -> Self {
        self.then(Operation::Sum(Reduction::default()))
    }

    /// The mean of each column of numbers.
    #[must_use]
    pub fn mean(&self) -> Self {
        self.then(Operation::Mean(Reduction::default()))
    }

    /// How many values of each column are not null.
    #[must_use]
    pub fn count(&self) -> Self {
        self.then(Operation::Count(Reduction::default()))
    }

    /// The standard deviation of each column of numbers, with n − 1.
    #[must_use]
    pub fn std(&self) -> Self {
        self.then(Operation::Std(Reduction::default()))
    }

    /// The variance of each column of numbers, with n − 1.
    #[must_use]
    pub fn var(&self) -> Self {
        self.then(Operation::Var(Reduction::default()))
    }

    /// How many distinct values each column has.
    #[must_use]
    pub fn nunique(&self) -> Self {
        self.then(Operation::Nunique(Reduction::default()))
    }

    /// count, mean, std, min, quartiles and max of each column of numbers.
    #[must_use]
    pub fn describe(&self) -> Self {
        self.then(Operation::Describe(Reduction::default()))
    }

    /// How often each value of a column occurs, most frequent first.
    #[must_use]
    pub fn value_counts(&self, column: impl Into<String>) -> Self {
        self.then(Operation::ValueCounts { column: column.into() })
    }

    /// The distinct values of a column, in the order of their first appearance.
    #[must_use]
    pub fn unique(&self, column: impl Into<String>) -> Self {
        self.then(Operation::Unique { column: column.into() })
    }

    /// The rows in order, null last. Rows with equal keys keep their order.
    #[must_use]
    pub fn sort_values<S: Into<String>>(&self, by: impl IntoIterator<Item = S>, ascending: bool) -> Self {
        self.then(Operation::SortValues { by: strings(by), ascending: vec![ascending] })
    }

    /// The rows of both frames that match on keys of the same names.
    #[must_use]
    pub fn merge<S: Into<String>>(&self, right: &Self, how: Join, on: impl IntoIterator<Item = S>) -> Self {
        let left_on = strings(on);
        let right_on = left_on.clone();
        self.then(Operation::Merge { right: right.operations.clone(), how, left_on, right_on })
    }

    /// The result of a query in SQL on the table `df`.
    #[must_use]
    pub fn sql(&self, query: impl Into<String>) -> Self {
        self.then(Operation::sql(query))
    }

    /// Computes the frame.
    ///
    /// # Errors
    /// Fails if the operations are wrong, or if the data cannot be read with them.
    pub async fn compute(&self) -> Result<Frame, FrameError> {
        match &self.kept {
            Some(frame) => Ok(frame.as_ref().clone()),
            None => self.compute.compute(&self.operations).await,
        }
    }

    /// Tells how the frame would be computed.
    ///
    /// # Errors
    /// Fails if the operations are wrong.
    pub async fn explain(&self) -> Result<String, FrameError> {
        self.compute.explain(&self.operations).await
    }

    /// Computes the frame once, and keeps it: [`DataFrame::compute`], `to_csv` and `to_parquet` of what this gives read nothing
    /// again. Operations on it are computed from the files.
    ///
    /// # Errors
    /// As those of [`DataFrame::compute`].
    pub async fn persist(&self) -> Result<Self, FrameError> {
        let frame = self.compute().await?;
        Ok(Self { kept: Some(Arc::new(frame)), ..self.clone() })
    }

    /// The names of the columns.
    ///
    /// # Errors
    /// Fails if the operations are wrong, or if the files cannot be looked at.
    pub async fn columns(&self) -> Result<Vec<String>, FrameError> {
        let frame = self.then(Operation::Columns {}).compute().await?;
        Ok(texts(&frame, 0))
    }

    /// Names and types of the columns.
    ///
    /// # Errors
    /// As those of [`DataFrame::columns`].
    pub async fn dtypes(&self) -> Result<Vec<(String, String)>, FrameError> {
        let frame = self.then(Operation::Dtypes {}).compute().await?;
        Ok(texts(&frame, 0).into_iter().zip(texts(&frame, 1)).collect())
    }

    /// The columns one after the other: a name, and a frame of this column alone.
    ///
    /// # Errors
    /// As those of [`DataFrame::compute`].
    pub async fn items(&self) -> Result<Vec<(String, Frame)>, FrameError> {
        Ok(self.compute().await?.items().collect())
    }

    /// The number of rows.
    ///
    /// # Errors
    /// As those of [`DataFrame::compute`].
    #[expect(clippy::len_without_is_empty, reason = "Dask's name; the answer costs reading all files")]
    pub async fn len(&self) -> Result<u64, FrameError> {
        let frame = self.then(Operation::Len {}).compute().await?;
        let count = frame.batches.first().map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0));
        Ok(count.map_or(0, i64::unsigned_abs))
    }

    /// Computes the frame and writes it as CSV.
    ///
    /// # Errors
    /// As those of [`DataFrame::compute`], or if the file cannot be written.
    pub async fn to_csv(&self, path: impl AsRef<Path>) -> Result<(), FrameError> {
        self.to_file(path.as_ref(), OutputFormat::Csv).await
    }

    /// Computes the frame and writes it as Parquet.
    ///
    /// # Errors
    /// As those of [`DataFrame::compute`], or if the file cannot be written.
    pub async fn to_parquet(&self, path: impl AsRef<Path>) -> Result<(), FrameError> {
        self.to_file(path.as_ref(), OutputFormat::Parquet).await
    }

    async fn to_file(&self, path: &Path, format: OutputFormat) -> Result<(), FrameError> {
        let frame = self.compute().await?;
        let shown = path.display();
        let wrong =
            |error: std::io::Error| FrameError::File(format!("{shown}: the file cannot be written: {error}"));
        let mut file = BufWriter::new(File::create(path).map_err(wrong)?);
        frame.write(format, &mut file)?;
        file.flush().map_err(wrong)
    }
}

/// The texts of a column of `columns` or `dtypes`.
fn texts(frame: &Frame, column: usize) -> Vec<String> {
    let batches = frame.batches.iter();
    batches
        .flat_map(|batch| batch.column(column).as_string::<i32>().iter().flatten().map(str::to_owned))
        .collect()
}
