//! A frame for people: aligned columns.

use std::io::Write;

use arrow::datatypes::{DataType, Schema};

use super::RowBatches;
use super::columns::ColumnTexts;
use crate::error::FrameError;

/// A longer value is cut.
const MAX_CHARACTERS: usize = 60;

/// Writes at most `limit` rows, and a last line with the number of all rows where some are not shown.
pub(crate) fn write(
    schema: &Schema,
    batches: RowBatches<'_>,
    limit: usize,
    to: &mut (dyn Write + Send),
) -> Result<(), FrameError> {
    let (rows, all) = shown_rows(schema, batches, limit)?;
    let fields = schema.fields();
    let widths: Vec<usize> = (0..fields.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let start = text.len();
        for (column, value) in row.iter().enumerate() {
            let (width, right) = (widths[column], is_right(fields[column].data_type()));
            let gap = if column > 0 { "  " } else { "" };
            let padded =
                if right { format!("{gap}{value:>width$}") } else { format!("{gap}{value:<width$}") };
            text.push_str(&padded);
        }
        let end = start + text[start..].trim_end().len();
        text.truncate(end);
        text.push('\n');
        if index == 0 {
            let lines = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  ");
            text.push_str(&lines);
            text.push('\n');
        }
    }
    if all > limit {
        text.push_str(&format!("… {all} rows\n"));
    }
    to.write_all(text.as_bytes())
        .map_err(|error| FrameError::File(format!("the result cannot be written: {error}")))
}

/// The names, and then the values as text; and the number of all rows.
fn shown_rows(
    schema: &Schema,
    batches: RowBatches<'_>,
    limit: usize,
) -> Result<(Vec<Vec<String>>, usize), FrameError> {
    let names = schema.fields().iter().map(|field| shown(field.name())).collect();
    let (mut rows, mut all) = (vec![names], 0);
    for batch in batches {
        let batch = batch?;
        all += batch.num_rows();
        let left = (limit + 1).saturating_sub(rows.len());
        if left == 0 {
            continue;
        }
        let texts = ColumnTexts::new(&batch)?;
        for row in 0..batch.num_rows().min(left) {
            let mut values = Vec::new();
            for column in 0..batch.num_columns() {
                let mut value = String::new();
                if batch.column(column).is_null(row) {
                    value.push_str("null");
                } else {
                    texts.push_text(&mut value, column, row)?;
                }
                values.push(shown(&value));
            }
            rows.push(values);
        }
    }
    Ok((rows, all))
}

/// One line of limited length.
fn shown(value: &str) -> String {
    let escaped: String = value
        .chars()
        .take(MAX_CHARACTERS + 1)
        .flat_map(|character| {
            let control = character.is_control();
            let escaped = control.then(|| character.escape_default()).into_iter().flatten();
            escaped.chain((!control).then_some(character))
        })
        .collect();
    if value.chars().nth(MAX_CHARACTERS).is_some() {
        let mut cut: String = escaped.chars().take(MAX_CHARACTERS - 1).collect();
        cut.push('…');
        return cut;
    }
    escaped
}

fn is_right(data_type: &DataType) -> bool {
    data_type.is_numeric()
}
