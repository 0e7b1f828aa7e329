//! Parameters of a query: from values of Arrow to literals in SQL.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use tonic::Status;

use super::answers::invalid;

/// The first value of a column as a literal.
pub(super) fn literal(column: &ArrayRef) -> Result<String, Status> {
    if column.is_null(0) {
        return Ok("null".to_owned());
    }
    let shown = || array_value_to_string(column, 0).map_err(invalid);
    match column.data_type() {
        DataType::Null => Ok("null".to_owned()),
        DataType::Boolean => Ok(column.as_boolean().value(0).to_string()),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let number = arrow::compute::cast(column, &DataType::Float64).map_err(invalid)?;
            Ok(float(number.as_primitive::<Float64Type>().value(0)))
        }
        kind if kind.is_integer() => shown(),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => shown(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(quoted(&shown()?)),
        DataType::Date32 => Ok(format!("date {}", quoted(&shown()?))),
        DataType::Timestamp(_, None) => Ok(format!("timestamp {}", quoted(&shown()?))),
        other => Err(invalid(format!(
            "a parameter is a number, text, a truth value, a date or a time without time zone, and not {other}"
        ))),
    }
}

fn float(number: f64) -> String {
    if number.is_finite() { format!("{number:?}") } else { format!("cast('{number}' as double)") }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, NullArray, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn values_become_literals_that_cannot_break_out() {
        let columns: Vec<(ArrayRef, &str)> = vec![
            (Arc::new(Int64Array::from(vec![-7])), "-7"),
            (Arc::new(Int64Array::from(vec![None])), "null"),
            (Arc::new(NullArray::new(1)), "null"),
            (Arc::new(BooleanArray::from(vec![true])), "true"),
            (Arc::new(Float64Array::from(vec![0.5])), "0.5"),
            (Arc::new(Float64Array::from(vec![1e300])), "1e300"),
            (Arc::new(Float64Array::from(vec![f64::NEG_INFINITY])), "cast('-inf' as double)"),
            (Arc::new(StringArray::from(vec!["O'Hara'; drop"])), "'O''Hara''; drop'"),
            (Arc::new(Date32Array::from(vec![1])), "date '1970-01-02'"),
            (
                Arc::new(TimestampMicrosecondArray::from(vec![1_500_000])),
                "timestamp '1970-01-01T00:00:01.500'",
            ),
        ];
        for (column, expected) in columns {
            assert_eq!(literal(&column).unwrap(), expected);
        }
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"x".as_slice()]));
        assert!(literal(&bytes).unwrap_err().message().contains("and not Binary"));
    }
}
