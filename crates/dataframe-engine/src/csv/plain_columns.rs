//! The columns of a batch, filled from the fields of blocks.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, Int64Array, NullBufferBuilder,
    StringViewBuilder,
};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::fields::{FieldIndex, RecordFields};
use super::numbers::{parse_float, parse_int};
use super::values::parse_bool;

/// A block of a file, and where its fields are.
pub(super) struct IndexedBlock<'a> {
    /// The block with the bytes behind it that [`PADDING_BYTES`](super::numbers::PADDING_BYTES) asks for.
    pub(super) bytes: &'a [u8],
    /// The part of the block that has the records that are read.
    pub(super) text: &'a str,
    /// Where this part begins in the block.
    pub(super) text_start: usize,
    pub(super) index: &'a FieldIndex,
    pub(super) quote: u8,
}

impl<'a> IndexedBlock<'a> {
    #[inline(always)]
    fn text(&self, start: usize, end: usize) -> &'a str {
        &self.text[start - self.text_start..end - self.text_start]
    }

    /// The value of a field that may be quoted. The index has made sure that quotes come in pairs.
    fn unquoted(&self, start: usize, end: usize) -> Cow<'a, str> {
        let field = self.text(start, end);
        let quote = char::from(self.quote);
        let Some(inner) = field.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) else {
            return Cow::Borrowed(field);
        };
        if inner.contains(quote) {
            let mut buffer = [0; 4];
            let quote: &str = quote.encode_utf8(&mut buffer);
            Cow::Owned(inner.replace(&quote.repeat(2), quote))
        } else {
            Cow::Borrowed(inner)
        }
    }
}

/// A value that its column's type cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MisfitField;

/// A column of the batch that is being filled.
#[derive(Debug)]
pub(super) struct PlainColumn {
    /// Which column of the file this is.
    column: u32,
    values: PlainValues,
}

#[derive(Debug)]
enum PlainValues {
    Bool(BooleanBufferBuilder, NullBufferBuilder),
    Int64(Vec<i64>, NullBufferBuilder),
    Float64(Vec<f64>, NullBufferBuilder),
    String(StringViewBuilder),
}

impl PlainColumn {
    /// Returns nothing for a type that only arrow's parser reads.
    pub(super) fn new(column: u32, data_type: &DataType) -> Option<Self> {
        let nulls = NullBufferBuilder::new(0);
        let values = match data_type {
            DataType::Boolean => PlainValues::Bool(BooleanBufferBuilder::new(0), nulls),
            DataType::Int64 => PlainValues::Int64(Vec::new(), nulls),
            DataType::Float64 => PlainValues::Float64(Vec::new(), nulls),
            DataType::Utf8View => PlainValues::String(StringViewBuilder::new()),
            _ => return None,
        };
        Some(Self { column, values })
    }

    /// Adds the fields of records. An empty field is null.
    pub(super) fn append(
        &mut self,
        block: &IndexedBlock,
        records: &[RecordFields],
    ) -> Result<(), MisfitField> {
        if block.index.has_quotes() {
            return self.append_unquoted(block, records);
        }
        let fields = records.iter().map(|record| block.index.field(*record, self.column));
        match &mut self.values {
            PlainValues::Bool(values, nulls) => {
                let parse = |start, end| parse_bool(block.text(start, end));
                append_fields(fields, nulls, parse, |value| values.append(value))
            }
            PlainValues::Int64(values, nulls) => {
                values.reserve(records.len());
                let parse = |start, end| parse_int(block.bytes, start, end, || block.text(start, end));
                append_fields(fields, nulls, parse, |value| values.push(value))
            }
            PlainValues::Float64(values, nulls) => {
                values.reserve(records.len());
                let parse = |start, end| parse_float(block.bytes, start, end, || block.text(start, end));
                append_fields(fields, nulls, parse, |value| values.push(value))
            }
            PlainValues::String(values) => {
                for (start, end) in fields {
                    if start == end {
                        values.append_null();
                    } else {
                        values.append_value(block.text(start, end));
                    }
                }
                Ok(())
            }
        }
    }

    /// The same for a block whose fields may be quoted. Here, arrow's parsers read every number.
    fn append_unquoted(&mut self, block: &IndexedBlock, records: &[RecordFields]) -> Result<(), MisfitField> {
        for record in records {
            let (start, end) = block.index.field(*record, self.column);
            let value = if start == end { Cow::Borrowed("") } else { block.unquoted(start, end) };
            let value = (!value.is_empty()).then_some(value.as_ref());
            match &mut self.values {
                PlainValues::Bool(values, nulls) => {
                    values.append(value.map_or(Some(false), parse_bool).ok_or(MisfitField)?);
                    nulls.append(value.is_some());
                }
                PlainValues::Int64(values, nulls) => {
                    values.push(value.map_or(Some(0), Int64Type::parse).ok_or(MisfitField)?);
                    nulls.append(value.is_some());
                }
                PlainValues::Float64(values, nulls) => {
                    values.push(value.map_or(Some(0.0), Float64Type::parse).ok_or(MisfitField)?);
                    nulls.append(value.is_some());
                }
                PlainValues::String(values) => values.append_option(value),
            }
        }
        Ok(())
    }

    /// Returns what has been added, and makes room for `capacity` values.
    pub(super) fn finish(&mut self, capacity: usize) -> ArrayRef {
        match &mut self.values {
            PlainValues::Bool(values, nulls) => Arc::new(BooleanArray::new(values.finish(), nulls.finish())),
            PlainValues::Int64(values, nulls) => {
                let values = std::mem::replace(values, Vec::with_capacity(capacity));
                Arc::new(Int64Array::new(values.into(), nulls.finish()))
            }
            PlainValues::Float64(values, nulls) => {
                let values = std::mem::replace(values, Vec::with_capacity(capacity));
                Arc::new(Float64Array::new(values.into(), nulls.finish()))
            }
            PlainValues::String(values) => {
                let mut values = std::mem::replace(values, StringViewBuilder::with_capacity(capacity));
                Arc::new(values.finish())
            }
        }
    }
}

/// Adds fields to a column that keeps its nulls apart from its values.
#[inline(always)]
fn append_fields<V: Default>(
    fields: impl Iterator<Item = (usize, usize)>,
    nulls: &mut NullBufferBuilder,
    parse: impl Fn(usize, usize) -> Option<V>,
    mut push: impl FnMut(V),
) -> Result<(), MisfitField> {
    // Most columns have no null, so that those between two nulls are added together.
    let mut valid = 0;
    for (start, end) in fields {
        if start == end {
            nulls.append_n_non_nulls(valid);
            nulls.append_null();
            valid = 0;
            push(V::default());
        } else {
            push(parse(start, end).ok_or(MisfitField)?);
            valid += 1;
        }
    }
    nulls.append_n_non_nulls(valid);
    Ok(())
}
