//! Which columns have values that do not fit their types: asked of the cluster after a cast has failed there.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast as cast_array;
use arrow::datatypes::DataType;
use dataframe_jobs::operation::Dtype;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::functions::expr_fn as stock;
use datafusion::functions_aggregate::expr_fn::min;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, try_cast, when};

use super::super::inspection::CsvColumn;
use super::super::layout::frame_type;
use super::super::null_words::NullWords;
use super::{StockSource, present_text};
use crate::error::{FrameError, Widening, dtype_name};

/// Digits with a sign or without one, as pandas takes them for an integer.
const INTEGER: &str = r"^\s*[+-]?[0-9]+\s*$";
/// More of a value is not shown in an error.
const SHOWN_CHARACTERS: usize = 60;

impl StockSource {
    /// A plan of one row: for each column that is no text, a value that does not fit its type, and one that only text can hold.
    /// Nothing if all columns are text.
    pub(crate) fn misfits(&self) -> Result<Option<LogicalPlan>, DataFusionError> {
        let words = NullWords::new(self.inspection.options.null_words.as_deref());
        let mut examples = Vec::new();
        for (at, column) in self.asked() {
            let text = present_text(&column.name, &words);
            let example = |misfit: Expr| -> Result<Expr, DataFusionError> {
                Ok(min(when(misfit, text.clone()).otherwise(lit(ScalarValue::Utf8(None)))?))
            };
            examples.push(example(misfit(column, &text))?.alias(format!("misfit_{at}")));
            examples.push(example(misfit_of_numbers(column, &text))?.alias(format!("text_{at}")));
        }
        if examples.is_empty() {
            return Ok(None);
        }
        let none: [Expr; 0] = [];
        LogicalPlanBuilder::from(self.texts(None)?).aggregate(none, examples)?.build().map(Some)
    }

    /// The columns that have a type that a value may not fit.
    fn asked(&self) -> impl Iterator<Item = (usize, &CsvColumn)> {
        self.inspection.columns.iter().enumerate().filter(|(_, column)| column.dtype != Dtype::String)
    }

    /// What the answer to [`StockSource::misfits`] says: wider types for columns whose types were inferred.
    ///
    /// # Errors
    /// [`FrameError::BadJob`] if no column gets a wider type, and a value does not fit a type that the user has given.
    pub(crate) fn widenings(&self, answer: &[RecordBatch]) -> Result<Vec<Widening>, FrameError> {
        let Some(file) = self.inspection.files.first() else { return Ok(Vec::new()) };
        let (mut found, mut fixed) = (Vec::new(), None);
        for (place, (_, column)) in self.asked().enumerate() {
            let (misfit, text) = (example_of(answer, 2 * place)?, example_of(answer, 2 * place + 1)?);
            let Some(value) = misfit else { continue };
            if column.fixed {
                fixed = fixed.or(Some((column, value)));
                continue;
            }
            let dtype = match column.dtype {
                Dtype::Int64 if text.is_none() => Dtype::Float64,
                _ => Dtype::String,
            };
            found.push(Widening::Column { file: file.path.clone(), name: column.name.clone(), dtype });
        }
        match fixed {
            Some((column, value)) if found.is_empty() => Err(misfit_of_fixed(column, &value)),
            _ => Ok(found),
        }
    }
}

/// Whether a text is no value of the column's type.
fn misfit(column: &CsvColumn, text: &Expr) -> Expr {
    let unread = |data_type| text.clone().is_not_null().and(try_cast(text.clone(), data_type).is_null());
    match column.dtype {
        Dtype::Bool => stock::lower(text.clone()).in_list(vec![lit("true"), lit("false")], true),
        // An integer beyond 64 bits makes a column text, and it must not depend on what was seen first.
        Dtype::Float64 if column.widened => unread(DataType::Float64).or(is_big_integer(text)),
        Dtype::Date | Dtype::Datetime => {
            let trimmed = stock::btrim(vec![text.clone()]);
            text.clone().is_not_null().and(try_cast(trimmed, frame_type(column.dtype)).is_null())
        }
        dtype => unread(frame_type(dtype)),
    }
}

/// Whether a text is no value of the column's type, and no number with a point either.
fn misfit_of_numbers(column: &CsvColumn, text: &Expr) -> Expr {
    let no_number = try_cast(text.clone(), DataType::Float64).is_null().or(is_big_integer(text));
    misfit(column, text).and(no_number)
}

fn is_big_integer(text: &Expr) -> Expr {
    let unread = try_cast(text.clone(), DataType::Int64).is_null();
    unread.and(stock::regexp_like(text.clone(), lit(INTEGER), None))
}

fn example_of(answer: &[RecordBatch], column: usize) -> Result<Option<String>, FrameError> {
    let Some(batch) = answer.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let wrong = |why: String| FrameError::Internal(format!("the cluster's answer about types: {why}"));
    if column >= batch.num_columns() {
        return Err(wrong(format!("it has {} columns", batch.num_columns())));
    }
    let texts =
        cast_array(batch.column(column), &DataType::Utf8).map_err(|error| wrong(error.to_string()))?;
    let texts = texts.as_string::<i32>();
    Ok(texts.is_valid(0).then(|| texts.value(0).to_owned()))
}

fn misfit_of_fixed(column: &CsvColumn, value: &str) -> FrameError {
    let shown: String = value.chars().take(SHOWN_CHARACTERS).collect();
    FrameError::BadJob(format!(
        "column {:?}: the value {shown:?} is not of the type {} that is given for the column: correct the value, give another type \
         (string holds every value), or name it as a null word",
        column.name,
        dtype_name(column.dtype)
    ))
}
