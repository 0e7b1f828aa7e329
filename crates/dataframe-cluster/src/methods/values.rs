//! Parameters and results of methods.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use dataframe_jobs::failure::{Failure, FailureCode};
use middleware::xmlrpc::{MethodFault, Value};

/// The fault of wrong parameters.
const WRONG_CALL: i32 = 400;
/// The fault of operations or data that are wrong.
const WRONG_JOB: i32 = 422;
/// The fault of what a later call may do better.
const FAILED: i32 = 503;

/// A failure as a fault. The text is the failure's.
pub(super) fn fault(failure: &Failure) -> MethodFault {
    let code = match failure.code {
        FailureCode::BadJob | FailureCode::File | FailureCode::NoModule | FailureCode::WidenType => WRONG_JOB,
        FailureCode::Refused => WRONG_CALL,
        _ => FAILED,
    };
    MethodFault::new(code, failure.to_string())
}

/// A fault that tells how to call a method.
pub(super) fn wrong_call(usage: &str) -> MethodFault {
    MethodFault::new(WRONG_CALL, format!("call it as {usage}"))
}

/// A string parameter.
pub(super) fn text<'a>(parameters: &'a [Value], index: usize, usage: &str) -> Result<&'a str, MethodFault> {
    match parameters.get(index) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(wrong_call(usage)),
    }
}

/// A whole number as a parameter, or `default` where there is none.
pub(super) fn number(
    parameters: &[Value],
    index: usize,
    default: u64,
    usage: &str,
) -> Result<u64, MethodFault> {
    match parameters.get(index) {
        None => Ok(default),
        Some(Value::Integer(number)) => u64::try_from(*number).map_err(|_| wrong_call(usage)),
        Some(Value::Long(number)) => u64::try_from(*number).map_err(|_| wrong_call(usage)),
        Some(_) => Err(wrong_call(usage)),
    }
}

/// A parameter as a JSON value.
pub(super) fn json(parameter: &Value, usage: &str) -> Result<serde_json::Value, MethodFault> {
    Ok(match parameter {
        Value::Integer(number) => (*number).into(),
        Value::Long(number) => (*number).into(),
        Value::Boolean(value) => (*value).into(),
        Value::Double(number) => (*number).into(),
        Value::String(text) => text.as_str().into(),
        Value::Nil => serde_json::Value::Null,
        _ => return Err(wrong_call(usage)),
    })
}

/// One value of a column.
pub(super) fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Nil;
    }
    match column.data_type() {
        DataType::Boolean => Value::Boolean(column.as_boolean().value(row)),
        DataType::Int32 => Value::Integer(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => {
            let number = column.as_primitive::<Int64Type>().value(row);
            // XML-RPC itself knows 32 bits; `i8` is an extension that Python understands.
            i32::try_from(number).map_or(Value::Long(number), Value::Integer)
        }
        DataType::Float64 => Value::Double(column.as_primitive::<Float64Type>().value(row)),
        _ => Value::String(array_value_to_string(column, row).unwrap_or_default()),
    }
}
