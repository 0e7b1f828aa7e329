//! Functions that are called by name: those of `apply`, and two that plans need.
//!
//! | names | give |
//! | --- | --- |
//! | `abs` `ceil` `exp` `floor` `ln` `log10` `log2` `round` `sign` `sqrt` `trunc` | a number from a number |
//! | `initcap` `lower` `ltrim` `reverse` `rtrim` `trim` `upper` | text from text |
//! | `length` | the number of characters of a text |
//! | `year` `month` `day` `hour` `minute` `second` `weekday` | a part of a date or a time; Sunday is weekday 0 |
//! | `is_null` `not_null` | whether a value is missing |
//! | `to_bool` `to_float64` `to_int64` `to_string` `to_date` `to_datetime` | the value in another type |

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array};
use arrow::compute::{is_not_null, nullif};
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::expr_fn as stock;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast, lit,
};

use crate::error::FrameError;

/// The name of the function that makes null of NaN.
pub(crate) const NAN_TO_NULL: &str = "nan_to_null";
/// The name of the function that tells whether a key is not null.
pub(crate) const IS_PRESENT: &str = "is_present";

type Call = fn(Expr) -> Expr;

const FUNCTIONS: &[(&str, Call)] = &[
    ("abs", stock::abs),
    ("ceil", stock::ceil),
    ("day", |x| part("day", x)),
    ("exp", stock::exp),
    ("floor", stock::floor),
    ("hour", |x| part("hour", x)),
    ("initcap", stock::initcap),
    ("is_null", Expr::is_null),
    ("length", stock::character_length),
    ("ln", stock::ln),
    ("log10", stock::log10),
    ("log2", stock::log2),
    ("lower", stock::lower),
    ("ltrim", |x| stock::ltrim(vec![x])),
    ("minute", |x| part("minute", x)),
    ("month", |x| part("month", x)),
    ("not_null", Expr::is_not_null),
    ("reverse", stock::reverse),
    ("round", |x| stock::round(vec![x])),
    ("rtrim", |x| stock::rtrim(vec![x])),
    ("second", |x| part("second", x)),
    ("sign", stock::signum),
    ("sqrt", stock::sqrt),
    ("to_bool", |x| cast(x, DataType::Boolean)),
    ("to_date", |x| cast(x, DataType::Date32)),
    ("to_datetime", |x| cast(x, DataType::Timestamp(TimeUnit::Microsecond, None))),
    ("to_float64", |x| cast(x, DataType::Float64)),
    ("to_int64", |x| cast(x, DataType::Int64)),
    ("to_string", |x| cast(x, DataType::Utf8)),
    ("trim", |x| stock::btrim(vec![x])),
    ("trunc", |x| stock::trunc(vec![x])),
    ("upper", stock::upper),
    ("weekday", |x| part("dow", x)),
    ("year", |x| part("year", x)),
];

fn part(name: &str, value: Expr) -> Expr {
    stock::date_part(lit(name), value)
}

/// The names of the functions for `apply`, in alphabetical order.
pub(crate) fn names() -> Vec<String> {
    FUNCTIONS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Calls a function of `apply`.
pub(crate) fn call(name: &str, argument: Expr) -> Result<Expr, FrameError> {
    match FUNCTIONS.iter().find(|(other, _)| *other == name) {
        Some((_, call)) => Ok(call(argument)),
        None => Err(FrameError::BadJob(format!(
            "apply: there is no function {name:?}; there are {}; for anything else, give an expression in SQL",
            names().join(", ")
        ))),
    }
}

/// The functions that plans of this crate call, and that DataFusion does not have.
pub(crate) fn own() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(NanToNull::new()), ScalarUDF::from(IsPresent::new())]
}

/// Null in place of NaN.
pub(crate) fn nan_to_null(expr: Expr) -> Expr {
    ScalarUDF::from(NanToNull::new()).call(vec![expr])
}

/// Whether a key is not null. The planner does not move it below an aggregation, where every row would be looked at.
pub(crate) fn is_present(expr: Expr) -> Expr {
    ScalarUDF::from(IsPresent::new()).call(vec![expr])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NanToNull {
    signature: Signature,
}

impl NanToNull {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NanToNull {
    fn name(&self) -> &'static str {
        NAN_TO_NULL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(ScalarValue::Float64(Some(value))) if value.is_nan() => {
                Ok(ColumnarValue::Scalar(ScalarValue::Float64(None)))
            }
            ColumnarValue::Scalar(scalar) => Ok(ColumnarValue::Scalar(scalar.clone())),
            ColumnarValue::Array(array) => {
                let values: &Float64Array = array.as_primitive::<Float64Type>();
                if !values.values().iter().any(|value| value.is_nan()) {
                    return Ok(ColumnarValue::Array(array.clone()));
                }
                let nan = values.values().iter().map(|value| value.is_nan()).collect::<Vec<_>>().into();
                Ok(ColumnarValue::Array(nullif(array, &nan)?))
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IsPresent {
    signature: Signature,
}

impl IsPresent {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for IsPresent {
    fn name(&self) -> &'static str {
        IS_PRESENT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(scalar) => {
                Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(!scalar.is_null()))))
            }
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(Arc::new(is_not_null(array)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_alphabetical_order() {
        let names = names();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(names, sorted);
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = call("uper", lit("a")).unwrap_err().to_string();
        assert!(error.contains("\"uper\"") && error.contains("upper"), "{error}");
    }
}
