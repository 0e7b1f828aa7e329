//! The types of columns, by the names that users know.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use serde_json::Value;

/// The name of a type: one of those that `read_csv` takes where there is one.
pub fn dtype_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "bool".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Timestamp(_, _) => "datetime".into(),
        DataType::Null => "null".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// Whether sums can be made of it. True counts as 1.
pub(crate) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || *data_type == DataType::Boolean
}

/// Whether it has an order.
pub(crate) fn is_ordered(data_type: &DataType) -> bool {
    !data_type.is_nested()
}

/// Whether it is text.
pub(crate) fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The value of JSON as a value of the type, as Python compares them: 1, 1.0 and true are equal, 1 and "1" are not.
/// `None` if no value of the type is equal to it.
pub(crate) fn value_of(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let scalar = match value {
        Value::Bool(value) if *data_type == DataType::Boolean => ScalarValue::from(*value),
        Value::Bool(value) if data_type.is_numeric() => ScalarValue::from(i64::from(*value)),
        Value::Number(number) if *data_type == DataType::Boolean => match number.as_f64() {
            Some(0.0) => ScalarValue::from(false),
            Some(1.0) => ScalarValue::from(true),
            _ => return None,
        },
        Value::Number(number) if data_type.is_integer() => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => ScalarValue::from(value),
            (None, Some(value)) => ScalarValue::from(value),
            (None, None) => ScalarValue::from(whole(number.as_f64()?)?),
        },
        Value::Number(number) if data_type.is_floating() => ScalarValue::from(number.as_f64()?),
        Value::String(text) if is_string(data_type) => ScalarValue::from(text.as_str()),
        Value::String(text) if data_type.is_temporal() => ScalarValue::from(text.as_str()),
        _ => return None,
    };
    scalar.cast_to(data_type).ok().filter(|scalar| !scalar.is_null())
}

/// The number as an integer, if it is one.
#[expect(clippy::cast_possible_truncation, reason = "the bounds are checked")]
pub(crate) fn whole(number: f64) -> Option<i64> {
    let in_range = (-9.2e18..=9.2e18).contains(&number);
    (in_range && number.fract() == 0.0).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_compared_as_python_does() {
        let int = DataType::Int64;
        assert_eq!(value_of(&json!(1), &int), Some(ScalarValue::from(1_i64)));
        assert_eq!(value_of(&json!(1.0), &int), Some(ScalarValue::from(1_i64)));
        assert_eq!(value_of(&json!(true), &int), Some(ScalarValue::from(1_i64)));
        assert_eq!(value_of(&json!(1.5), &int), None);
        assert_eq!(value_of(&json!("1"), &int), None);
        assert_eq!(value_of(&json!(1), &DataType::Float64), Some(ScalarValue::from(1.0)));
        assert_eq!(value_of(&json!(1), &DataType::Utf8), None);
        assert_eq!(value_of(&json!(1), &DataType::Boolean), Some(ScalarValue::from(true)));
        assert_eq!(value_of(&json!("2024-02-30"), &DataType::Date32), None);
        assert!(value_of(&json!("2024-02-29"), &DataType::Date32).is_some());
    }
}
