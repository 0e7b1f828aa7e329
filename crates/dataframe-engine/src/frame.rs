//! A computed frame, and the formats in which it is written.

mod columns;
mod table;

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray,
    StringViewArray, downcast_primitive_array,
};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use self::columns::ColumnTexts;
use crate::error::FrameError;

/// A computed frame: its rows in order, in pieces.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

/// How a frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Aligned columns for people, at most `rows` rows and then the number of all rows.
    Table {
        /// How many rows are shown.
        rows: usize,
    },
    /// RFC 4180 with a header and lines that end with `\n`; floats as the shortest digits that read back as the same number.
    /// Null is an empty field, and empty text is `""`.
    Csv,
    /// One JSON object a line. Null is `null`; infinity, which JSON does not have, is the text `"inf"` or `"-inf"`.
    Json,
    /// Parquet, compressed by Snappy.
    Parquet,
    /// A stream of Arrow IPC.
    Arrow,
}

impl Frame {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The columns one after the other: a name, and a frame of this column alone.
    pub fn items(&self) -> impl Iterator<Item = (String, Self)> {
        self.schema.fields().iter().enumerate().map(|(index, field)| {
            let project = |batch: &RecordBatch| batch.project(&[index]).expect("the column exists");
            let schema = Arc::new(Schema::new(vec![field.clone()]));
            let batches = self.batches.iter().map(project).collect();
            (field.name().clone(), Self { schema, batches })
        })
    }

    /// Writes the frame. The same rows give the same bytes, however they are cut into pieces.
    ///
    /// # Errors
    /// As those of [`OutputFormat::write`].
    pub fn write(&self, format: OutputFormat, to: &mut (dyn Write + Send)) -> Result<(), FrameError> {
        let mut batches = self.batches.iter().cloned().map(Ok);
        format.write(&self.schema, &mut batches, to)
    }
}

/// Rows, batch after batch.
pub type RowBatches<'a> = &'a mut (dyn Iterator<Item = Result<RecordBatch, FrameError>> + Send);

impl OutputFormat {
    /// Writes rows as they come. The same rows give the same bytes, however they are cut into batches.
    ///
    /// # Errors
    /// [`FrameError::File`] if the writer fails; [`FrameError::BadJob`] if the format cannot hold a column; the errors of the rows.
    pub fn write(
        self,
        schema: &SchemaRef,
        batches: RowBatches<'_>,
        to: &mut (dyn Write + Send),
    ) -> Result<(), FrameError> {
        match self {
            Self::Table { rows } => table::write(schema, batches, rows, to),
            Self::Csv => write_csv(schema, batches, to),
            Self::Json => write_json(schema, batches, to),
            Self::Parquet => write_parquet(schema, batches, to),
            Self::Arrow => write_arrow(schema, batches, to),
        }
    }
}

fn write_csv(
    schema: &Schema,
    batches: RowBatches<'_>,
    to: &mut (dyn Write + Send),
) -> Result<(), FrameError> {
    let mut line = String::new();
    for (index, field) in schema.fields().iter().enumerate() {
        columns::separate(&mut line, index, ',');
        columns::push_quoted(&mut line, field.name(), true);
    }
    line.push('\n');
    to.write_all(line.as_bytes()).map_err(written)?;
    for batch in batches {
        let batch = batch?;
        let texts = ColumnTexts::new(&batch)?;
        for row in 0..batch.num_rows() {
            line.clear();
            for column in 0..batch.num_columns() {
                columns::separate(&mut line, column, ',');
                texts.push_csv(&mut line, column, row)?;
            }
            line.push('\n');
            to.write_all(line.as_bytes()).map_err(written)?;
        }
    }
    Ok(())
}

fn write_json(
    schema: &Schema,
    batches: RowBatches<'_>,
    to: &mut (dyn Write + Send),
) -> Result<(), FrameError> {
    let names: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| serde_json::to_string(field.name()).expect("text is JSON"))
        .collect();
    let mut line = String::new();
    for batch in batches {
        let batch = batch?;
        let texts = ColumnTexts::new(&batch)?;
        for row in 0..batch.num_rows() {
            line.clear();
            line.push('{');
            for (column, name) in names.iter().enumerate() {
                columns::separate(&mut line, column, ',');
                line.push_str(name);
                line.push(':');
                texts.push_json(&mut line, column, row)?;
            }
            line.push_str("}\n");
            to.write_all(line.as_bytes()).map_err(written)?;
        }
    }
    Ok(())
}

fn write_parquet(
    schema: &SchemaRef,
    batches: RowBatches<'_>,
    to: &mut (dyn Write + Send),
) -> Result<(), FrameError> {
    let wrong = |error: parquet::errors::ParquetError| FrameError::File(format!("writing Parquet: {error}"));
    if schema.fields().is_empty() {
        return Err(FrameError::BadJob("parquet: the frame has no columns".into()));
    }
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by("dataframe".to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(to, schema.clone(), Some(properties)).map_err(wrong)?;
    for piece in EvenPieces::new(schema, batches) {
        writer.write(&piece?).map_err(wrong)?;
    }
    writer.close().map_err(wrong)?;
    Ok(())
}

fn write_arrow(
    schema: &SchemaRef,
    batches: RowBatches<'_>,
    to: &mut (dyn Write + Send),
) -> Result<(), FrameError> {
    let wrong = |error: arrow::error::ArrowError| FrameError::File(format!("writing Arrow: {error}"));
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(to, schema).map_err(wrong)?;
    for piece in EvenPieces::new(schema, batches) {
        writer.write(&piece?).map_err(wrong)?;
    }
    writer.finish().map_err(wrong)
}

/// The rows in pieces of [`ROWS_A_PIECE`], with texts laid out anew: how the rows were cut does not show.
struct EvenPieces<'a> {
    schema: &'a SchemaRef,
    batches: RowBatches<'a>,
    waiting: Vec<RecordBatch>,
}

impl<'a> EvenPieces<'a> {
    fn new(schema: &'a SchemaRef, batches: RowBatches<'a>) -> Self {
        Self { schema, batches, waiting: Vec::new() }
    }

    fn next_piece(&mut self) -> Result<Option<RecordBatch>, FrameError> {
        let wrong = |error: arrow::error::ArrowError| FrameError::Internal(format!("joining rows: {error}"));
        let mut rows: usize = self.waiting.iter().map(RecordBatch::num_rows).sum();
        while rows < ROWS_A_PIECE {
            let Some(batch) = self.batches.next() else { break };
            let batch = batch?;
            rows += batch.num_rows();
            self.waiting.push(batch);
        }
        if rows == 0 {
            return Ok(None);
        }
        if let Some(last) = self.waiting.last().cloned().filter(|_| rows > ROWS_A_PIECE) {
            // What is too much waits for the next piece.
            let kept = last.num_rows() - (rows - ROWS_A_PIECE);
            let rest = last.slice(kept, last.num_rows() - kept);
            self.waiting.pop();
            self.waiting.push(last.slice(0, kept));
            let piece = std::mem::replace(&mut self.waiting, vec![rest]);
            return laid_out(self.schema, &piece).map(Some).map_err(wrong);
        }
        let piece = std::mem::take(&mut self.waiting);
        laid_out(self.schema, &piece).map(Some).map_err(wrong)
    }
}

impl Iterator for EvenPieces<'_> {
    type Item = Result<RecordBatch, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().transpose()
    }
}

fn laid_out(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let joined = arrow::compute::concat_batches(schema, batches)?;
    let columns = joined.columns().iter().map(laid_out_anew).collect::<Result<Vec<_>, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(joined.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// The same values in memory that depends on the values alone: what lies under nulls is 0, and texts follow each other.
fn laid_out_anew(column: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    fn with_zeros<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>) -> ArrayRef {
        let values = column.iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
        let anew = PrimitiveArray::<T>::new(values.into(), column.nulls().cloned());
        Arc::new(anew.with_data_type(column.data_type().clone()))
    }
    downcast_primitive_array!(
        column => Ok(with_zeros(column)),
        DataType::Boolean => Ok(Arc::new(column.as_boolean().iter().collect::<BooleanArray>())),
        DataType::Utf8View => {
            let texts = column.as_string_view().iter();
            Ok(Arc::new(texts.collect::<StringViewArray>()))
        }
        DataType::Utf8 => Ok(Arc::new(column.as_string::<i32>().iter().collect::<StringArray>())),
        _ => Ok(column.clone())
    )
}

/// Rows of a piece of Arrow IPC.
const ROWS_A_PIECE: usize = 65_536;

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it")]
fn written(error: std::io::Error) -> FrameError {
    FrameError::File(format!("the result cannot be written: {error}"))
}
