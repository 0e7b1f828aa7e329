//! A `read_csv` as a plan that any cluster of DataFusion runs: stock scans of whole files, and expressions for what this crate's own scan
//! does elsewhere.
//!
//! Fields are read as text. An expression for each column makes null of the words for missing values and casts the rest, as pandas
//! would. A cast that fails ends the job, and `misfits` asks which column it was. The hidden column that tells the place of a row is
//! the number of its file together with the number of its row there, so that one task reads a file from its start to its end.

mod kept;
mod misfits;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use dataframe_jobs::operation::{Compression, Dtype};
use datafusion::common::config::CsvOptions as EngineCsvOptions;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::functions::expr_fn as stock;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Union, cast, lit, when};

use self::kept::{KeptRows, kept_rows};
use super::dialect::Dialect;
use super::files::CsvFile;
use super::inspection::{CsvColumn, Inspection};
use super::layout::frame_type;
use super::null_words::NullWords;
use super::partitions::FileCut;
use crate::error::{FrameError, Widenings};

/// Each file is a task, and a stage where the order of rows matters. Schedulers take long for many of them.
const MAX_FILES: usize = 100;
/// The number of a row within its file takes so many bits of its position.
const ROWS_BITS: u32 = 40;
/// The number of a row within its file, counted from 1.
const ROW: &str = "__dataframe_row_of_file";

/// The files of a `read_csv`, or the parts of them that are read.
#[derive(Debug)]
pub struct StockSource {
    inspection: Inspection,
    dialect: Dialect,
    kept: Vec<KeptRows>,
}

impl StockSource {
    /// Looks for the rows that are read. Where a cut goes through a file, its records are counted, which reads the file up to there.
    ///
    /// # Errors
    /// Fails as [`CsvTable::new`](super::CsvTable::new) does, if there are too many files, or if one is compressed: a physical plan of
    /// DataFusion loses that when it travels.
    pub fn new(inspection: &Inspection, widenings: &Widenings, cut: FileCut) -> Result<Self, FrameError> {
        let inspection = inspection.widened(widenings);
        if let Some(file) = inspection.files.iter().find(|file| file.compression != Compression::None) {
            return Err(FrameError::BadJob(format!(
                "read_csv: {} is compressed, which a plan for another engine cannot say: decompress it",
                file.path
            )));
        }
        let kept = kept_rows(&inspection, cut)?;
        if kept.len() > MAX_FILES {
            return Err(FrameError::BadJob(format!(
                "read_csv: there are {} files, and a plan for another engine names at most {MAX_FILES}: join small files",
                kept.len()
            )));
        }
        Ok(Self { dialect: Dialect::new(&inspection.options)?, inspection, kept })
    }

    /// The names of the columns.
    pub(crate) fn names(&self) -> Vec<String> {
        self.inspection.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// The rows with the types of the frame, and the hidden column `position`.
    pub(crate) fn rows(&self, position: &str) -> Result<LogicalPlan, DataFusionError> {
        let columns = &self.inspection.columns;
        let words = NullWords::new(self.inspection.options.null_words.as_deref());
        let typed = columns
            .iter()
            .map(|column| Ok(value_of(column, present_text(&column.name, &words))?.alias(&column.name)));
        let mut exprs = typed.collect::<Result<Vec<_>, DataFusionError>>()?;
        exprs.push(named(position));
        LogicalPlanBuilder::from(self.texts(Some(position))?).project(exprs)?.alias("df")?.build()
    }

    /// The fields of all rows as they are written, and their positions if a name is given for those.
    fn texts(&self, position: Option<&str>) -> Result<LogicalPlan, DataFusionError> {
        let files = self.kept.iter().enumerate();
        let files = files.map(|(number, kept)| self.file_texts(number, kept, position));
        let mut files = files.collect::<Result<Vec<_>, _>>()?;
        match (files.pop(), files.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                files.push(last);
                Ok(LogicalPlan::Union(Union::try_new(files.into_iter().map(Arc::new).collect())?))
            }
            (None, _) => internal_err!("a source has no file"),
        }
    }

    /// The fields of one file, in the order of the frame's columns.
    fn file_texts(
        &self,
        number: usize,
        kept: &KeptRows,
        position: Option<&str>,
    ) -> Result<LogicalPlan, DataFusionError> {
        let mut rows = self.scan(&kept.file)?.window([row_number().alias(ROW)])?;
        if let Some(first) = kept.first {
            rows = rows.filter(named(ROW).lt_eq(lit(first)))?;
        }
        if kept.skipped > 0 {
            rows = rows.filter(named(ROW).gt(lit(kept.skipped)))?;
        }
        let fields = self.field_columns(&kept.file);
        let mut exprs = Vec::new();
        for (at, column) in self.inspection.columns.iter().enumerate() {
            exprs.push(if fields.contains(&at) {
                named(&column.name)
            } else {
                // A file without a header may have fewer columns than the first one.
                lit(ScalarValue::Utf8(None)).alias(&column.name)
            });
        }
        if let Some(position) = position {
            let before = (number as u64) << ROWS_BITS;
            exprs.push((named(ROW) + lit(before)).alias(position));
        }
        rows.project(exprs)?.build()
    }

    /// Which column of the frame each field of a file is.
    fn field_columns(&self, file: &CsvFile) -> Vec<usize> {
        if file.order.is_empty() { (0..self.inspection.columns.len()).collect() } else { file.order.clone() }
    }

    fn scan(&self, file: &CsvFile) -> Result<LogicalPlanBuilder, DataFusionError> {
        let fields = self.field_columns(file);
        let field = |at: &usize| Field::new(&self.inspection.columns[*at].name, DataType::Utf8, true);
        let schema = Schema::new(fields.iter().map(field).collect::<Vec<_>>());
        let options = EngineCsvOptions {
            has_header: Some(self.dialect.header),
            delimiter: self.dialect.separator,
            quote: self.dialect.quote,
            // A file is not cut at newlines, which may be inside of quotes.
            newlines_in_values: Some(true),
            truncated_rows: Some(true),
            ..EngineCsvOptions::default()
        };
        let format = CsvFormat::default().with_options(options);
        let listing = ListingOptions::new(Arc::new(format)).with_file_extension("");
        let config = ListingTableConfig::new(ListingTableUrl::parse(file_url(Path::new(&file.path)))?)
            .with_listing_options(listing)
            .with_schema(Arc::new(schema));
        LogicalPlanBuilder::scan("csv", provider_as_source(Arc::new(ListingTable::try_new(config)?)), None)
    }
}

/// The file as a URL, in which no character means a pattern.
fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

fn named(name: &str) -> Expr {
    Expr::Column(datafusion::common::Column::from_name(name))
}

/// A field as text; null where the value is missing. An empty field is null already.
fn present_text(name: &str, words: &NullWords) -> Expr {
    let list: Vec<Expr> = words.iter().map(lit).collect();
    if list.is_empty() {
        return named(name);
    }
    let missing = named(name).in_list(list, false);
    when(missing, lit(ScalarValue::Utf8(None))).otherwise(named(name)).expect("the branches have one type")
}

/// The value of a column from its text. A text that is no such value fails the job.
fn value_of(column: &CsvColumn, text: Expr) -> Result<Expr, DataFusionError> {
    let data_type = frame_type(column.dtype);
    Ok(match column.dtype {
        Dtype::String => text,
        Dtype::Int64 => cast(text, data_type),
        Dtype::Float64 => without_nan(cast(text, data_type))?,
        Dtype::Bool => truth_value(text)?,
        Dtype::Date | Dtype::Datetime => cast(stock::btrim(vec![text]), data_type),
    })
}

/// Null in place of NaN, by functions that every DataFusion has.
pub(crate) fn without_nan(number: Expr) -> Result<Expr, DataFusionError> {
    when(stock::isnan(number.clone()), lit(ScalarValue::Float64(None))).otherwise(number)
}

/// `true` and `false` in any case. Arrow's cast knows further words, such as `yes`, which are text to pandas. The branches are text,
/// because a planner makes one logical expression of branches that are true or false, all of whose parts are computed.
fn truth_value(text: Expr) -> Result<Expr, DataFusionError> {
    let lower = stock::lower(text);
    let known = lower.clone().in_list(vec![lit("true"), lit("false")], false).or(lower.clone().is_null());
    let word = when(known, lower.clone()).otherwise(stock::concat(vec![lit("no truth value: "), lower]))?;
    Ok(cast(word, DataType::Boolean))
}
