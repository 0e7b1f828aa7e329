//! Columns in the three kinds that modules know, and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use dataframe_jobs::operation::Dtype;

/// What a module sees of a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Float,
    Text,
}

impl Kind {
    pub(crate) fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Int64 | Dtype::Bool | Dtype::Date | Dtype::Datetime => Self::Integer,
            Dtype::Float64 => Self::Float,
            Dtype::String => Self::Text,
        }
    }

    /// The number of the kind in a batch.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Integer => 0,
            Self::Float => 1,
            Self::Text => 2,
        }
    }
}

/// The type of Arrow that columns and results of a type have.
#[must_use]
pub fn arrow_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::Bool => DataType::Boolean,
        Dtype::Int64 => DataType::Int64,
        Dtype::Float64 => DataType::Float64,
        Dtype::Date => DataType::Date32,
        Dtype::Datetime => DataType::Timestamp(TimeUnit::Microsecond, None),
        Dtype::String => DataType::Utf8,
    }
}

/// A column that modules understand.
#[derive(Debug, Clone)]
pub(crate) enum WasmColumn {
    Integer(Int64Array),
    Float(Float64Array),
    Text(StringArray),
}

impl WasmColumn {
    /// The column as numbers or text.
    pub(crate) fn new(column: &ArrayRef, dtype: Dtype) -> Result<Self, ArrowError> {
        // From the type that an expression happens to have to that of the dtype, and then to the number behind it.
        let typed = cast(column, &arrow_type(dtype))?;
        Ok(match Kind::of(dtype) {
            Kind::Integer => {
                Self::Integer(cast(&typed, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            Kind::Float => Self::Float(typed.as_primitive::<Float64Type>().clone()),
            Kind::Text => Self::Text(typed.as_string::<i32>().clone()),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Integer(_) => Kind::Integer,
            Self::Float(_) => Kind::Float,
            Self::Text(_) => Kind::Text,
        }
    }

    pub(crate) fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Self::Integer(values) => values.nulls(),
            Self::Float(values) => values.nulls(),
            Self::Text(values) => values.nulls(),
        }
    }

    pub(crate) fn slice(&self, start: usize, rows: usize) -> Self {
        match self {
            Self::Integer(values) => Self::Integer(values.slice(start, rows)),
            Self::Float(values) => Self::Float(values.slice(start, rows)),
            Self::Text(values) => Self::Text(values.slice(start, rows)),
        }
    }
}

/// The column of a type from what a module gave: the number or text of each row. Fails with the row whose number is none of the type.
pub(crate) fn typed(column: WasmColumn, dtype: Dtype) -> Result<ArrayRef, (usize, String)> {
    let WasmColumn::Integer(values) = column else {
        return Ok(match column {
            WasmColumn::Float(values) => Arc::new(values),
            WasmColumn::Text(values) => Arc::new(values),
            WasmColumn::Integer(values) => Arc::new(values),
        });
    };
    Ok(match dtype {
        Dtype::Bool => {
            let bools = checked(&values, |number| match number {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            });
            let bools = bools
                .map_err(|(row, number)| (row, format!("it gave {number} for a bool, which is 0 or 1")))?;
            Arc::new(BooleanArray::new(bools.into(), values.nulls().cloned()))
        }
        Dtype::Date => {
            let days = checked(&values, |number| i32::try_from(number).ok())
                .map_err(|(row, number)| (row, format!("it gave the day {number}, which no date has")))?;
            Arc::new(Date32Array::new(ScalarBuffer::from(days), values.nulls().cloned()))
        }
        Dtype::Datetime => Arc::new(values.reinterpret_cast::<TimestampMicrosecondType>()),
        _ => Arc::new(values),
    })
}

/// All values converted; those that are missing are not looked at. Fails with the first row, and its number, that has no value.
fn checked<T: Default>(
    values: &Int64Array,
    convert: impl Fn(i64) -> Option<T>,
) -> Result<Vec<T>, (usize, i64)> {
    let rows = values.values().iter().enumerate();
    rows.map(|(row, number)| match values.is_null(row) {
        true => Ok(T::default()),
        false => convert(*number).ok_or((row, *number)),
    })
    .collect()
}
