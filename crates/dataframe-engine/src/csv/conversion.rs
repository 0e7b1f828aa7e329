//! From what arrow's parser gives to what pandas gives: words for missing values and NaN become null, and the columns that arrow
//! cannot read are read here.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringViewArray,
};
use arrow::compute::nullif;
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use dataframe_jobs::operation::Dtype;

use super::inspection::CsvColumn;
use super::layout::ScanLayout;
use super::null_words::NullWords;
use super::values::{ValueKind, kind_of, parse_bool, parse_date, parse_datetime, parse_float, parse_int};

/// Why a batch cannot be converted.
#[derive(Debug)]
pub(super) enum ConversionError {
    /// A value that its column's type cannot hold.
    Value(MisfitValue),
    /// Arrow says no.
    Arrow(ArrowError),
}

/// A value that its column's type cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MisfitValue {
    /// Counts the records of the file or of its part from 0, with the header.
    pub(super) record: u64,
    /// The column of the frame.
    pub(super) column: usize,
    pub(super) value: String,
}

/// Converts the batches of one file.
pub(super) struct Conversion {
    steps: Vec<ColumnStep>,
    schema: SchemaRef,
    null_words: Arc<NullWords>,
    /// Records before the next batch.
    records: u64,
    /// Whether the batches are given on as they are.
    is_identity: bool,
}

struct ColumnStep {
    /// Where the column is in the batches.
    from: usize,
    /// The column of the frame.
    column: usize,
    how: ColumnRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnRule {
    Keep,
    WordsToNull,
    NanToNull,
    Parse { dtype: Dtype, widened: bool },
}

impl Conversion {
    /// `columns` are columns of the frame, in the order of `schema`; `sources` tells where each is in the batches.
    pub(super) fn new(
        layout: &ScanLayout,
        null_words: Arc<NullWords>,
        columns: &[usize],
        sources: &[usize],
        schema: SchemaRef,
        records: u64,
    ) -> Self {
        let step = |(column, from): (&usize, &usize)| ColumnStep {
            from: *from,
            column: *column,
            how: rule(&layout.columns[*column]),
        };
        let steps: Vec<_> = columns.iter().zip(sources).map(step).collect();
        let is_identity =
            steps.iter().enumerate().all(|(to, step)| step.from == to && step.how == ColumnRule::Keep);
        Self { steps, schema, null_words, records, is_identity }
    }

    /// Converts the next batch.
    pub(super) fn convert(&mut self, batch: RecordBatch) -> Result<RecordBatch, ConversionError> {
        let first_record = self.records;
        self.records += batch.num_rows() as u64;
        if self.is_identity {
            return Ok(batch);
        }
        let column = |step: &ColumnStep| self.convert_column(step, batch.column(step.from), first_record);
        let columns = self.steps.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(ConversionError::Arrow)
    }

    fn convert_column(
        &self,
        step: &ColumnStep,
        array: &ArrayRef,
        first: u64,
    ) -> Result<ArrayRef, ConversionError> {
        let misfit = |row: usize, value: &str| {
            let (record, column) = (first + row as u64, step.column);
            ConversionError::Value(MisfitValue { record, column, value: value.to_owned() })
        };
        match step.how {
            ColumnRule::Keep => Ok(Arc::clone(array)),
            ColumnRule::WordsToNull => self.null_words.without_words(array).map_err(ConversionError::Arrow),
            ColumnRule::NanToNull => nan_to_null(array).map_err(ConversionError::Arrow),
            ColumnRule::Parse { dtype, widened } => {
                let strings = array.as_string_view();
                match self.parse(strings, dtype, widened) {
                    Ok(parsed) => Ok(parsed),
                    Err(row) => Err(misfit(row, strings.value(row))),
                }
            }
        }
    }

    /// Fails with the row of the first value that does not fit.
    fn parse(&self, strings: &StringViewArray, dtype: Dtype, widened: bool) -> Result<ArrayRef, usize> {
        match dtype {
            Dtype::Bool => {
                let values = self.values(strings, parse_bool).collect::<Result<BooleanArray, _>>()?;
                Ok(Arc::new(values))
            }
            Dtype::Int64 => self.parse_primitive::<Int64Type>(strings, parse_int),
            Dtype::Float64 => self.parse_primitive::<Float64Type>(strings, |value| {
                if widened && kind_of(value) == ValueKind::BigInt { None } else { parse_float(value) }
            }),
            Dtype::Date => self.parse_primitive::<Date32Type>(strings, parse_date),
            Dtype::Datetime => self.parse_primitive::<TimestampMicrosecondType>(strings, parse_datetime),
            Dtype::String => Ok(Arc::new(strings.clone())),
        }
    }

    fn parse_primitive<T: ArrowPrimitiveType>(
        &self,
        strings: &StringViewArray,
        parse: impl Fn(&str) -> Option<T::Native>,
    ) -> Result<ArrayRef, usize> {
        let values = self.values(strings, parse).collect::<Result<PrimitiveArray<T>, _>>()?;
        Ok(Arc::new(values))
    }

    fn values<V>(
        &self,
        strings: &StringViewArray,
        parse: impl Fn(&str) -> Option<V>,
    ) -> impl Iterator<Item = Result<Option<V>, usize>> {
        strings.iter().enumerate().map(move |(row, value)| match value {
            None => Ok(None),
            // First, because a number such as -999 may be a word.
            Some(value) if self.null_words.is_missing(value) => Ok(None),
            Some(value) => parse(value).map(Some).ok_or(row),
        })
    }
}

fn rule(column: &CsvColumn) -> ColumnRule {
    let parse = ColumnRule::Parse { dtype: column.dtype, widened: column.widened };
    match column.dtype {
        Dtype::String => ColumnRule::WordsToNull,
        Dtype::Date | Dtype::Datetime => parse,
        _ if column.careful => parse,
        Dtype::Float64 => ColumnRule::NanToNull,
        Dtype::Bool | Dtype::Int64 => ColumnRule::Keep,
    }
}

fn nan_to_null(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let floats = array.as_primitive::<Float64Type>();
    // A sum would be NaN for infinities of both signs too. This loop has no branch, so that it costs next to nothing.
    if !floats.values().iter().fold(false, |found, value| found | value.is_nan()) {
        return Ok(Arc::clone(array));
    }
    let is_nan: BooleanArray = floats.values().iter().map(|value| Some(value.is_nan())).collect();
    nullif(array, &is_nan)
}

/// Tells whether a column of this type can hold the value when it is read carefully.
pub(super) fn fits(column: &CsvColumn, null_words: &NullWords, value: &str) -> bool {
    let is_read = match column.dtype {
        Dtype::Bool => parse_bool(value).is_some(),
        Dtype::Int64 => parse_int(value).is_some(),
        Dtype::Float64 => {
            parse_float(value).is_some() && !(column.widened && kind_of(value) == ValueKind::BigInt)
        }
        Dtype::Date => parse_date(value).is_some(),
        Dtype::Datetime => parse_datetime(value).is_some(),
        Dtype::String => true,
    };
    is_read || null_words.is_missing(value)
}
