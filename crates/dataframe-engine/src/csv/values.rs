//! What a value is, by the rules of pandas' parser.

use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type};
use chrono::Utc;
use dataframe_jobs::operation::Dtype;

/// What a value can be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// `true` or `false` in any case.
    Bool,
    /// An integer of 64 bits.
    Int,
    /// An integer that 64 bits cannot hold.
    BigInt,
    /// A number with a point, an exponent, or an infinite one.
    Float,
    /// Anything else.
    Text,
}

/// Tells what a value that is not missing can be read as.
pub(super) fn kind_of(value: &str) -> ValueKind {
    if parse_bool(value).is_some() {
        return ValueKind::Bool;
    }
    let number = trimmed(value);
    if is_integer(number) {
        return match number.parse::<i64>() {
            Ok(_) => ValueKind::Int,
            Err(_) => ValueKind::BigInt,
        };
    }
    if is_float(number) { ValueKind::Float } else { ValueKind::Text }
}

/// Tells whether arrow's parser reads the value as this type. It skips blanks around numbers, as pandas does.
pub(super) fn is_read_by_arrow(value: &str, dtype: Dtype) -> bool {
    match dtype {
        Dtype::Bool => parse_bool(value).is_some(),
        Dtype::Int64 => Int64Type::parse(value).is_some(),
        Dtype::Float64 => Float64Type::parse(value).is_some(),
        Dtype::Date | Dtype::Datetime | Dtype::String => true,
    }
}

pub(super) fn parse_bool(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

pub(super) fn parse_int(value: &str) -> Option<i64> {
    let number = trimmed(value);
    if is_integer(number) { number.parse().ok() } else { None }
}

pub(super) fn parse_float(value: &str) -> Option<f64> {
    let number = trimmed(value);
    if is_integer(number) || is_float(number) { number.parse().ok() } else { None }
}

/// Days since 1970.
pub(super) fn parse_date(value: &str) -> Option<i32> {
    Date32Type::parse(trimmed(value))
}

/// Microseconds since 1970 in UTC, where the value names no other zone.
pub(super) fn parse_datetime(value: &str) -> Option<i64> {
    string_to_datetime(&Utc, trimmed(value)).ok().map(|time| time.timestamp_micros())
}

fn trimmed(value: &str) -> &str {
    value.trim_matches(|character: char| character.is_ascii_whitespace() || character == '\u{b}')
}

fn without_sign(number: &str) -> &str {
    number.strip_prefix(['+', '-']).unwrap_or(number)
}

fn is_integer(number: &str) -> bool {
    let digits = without_sign(number);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_float(number: &str) -> bool {
    let number = without_sign(number);
    if number.eq_ignore_ascii_case("inf") || number.eq_ignore_ascii_case("infinity") {
        return true;
    }
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (number, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole)
        && is_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(is_integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_pandas_says() {
        use ValueKind::{BigInt, Bool, Float, Int, Text};
        let expected = [
            (Bool, &["true", "True", "TRUE", "tRue", "false", "False"][..]),
            (
                Int,
                &["0", "-0", "007", "+1", " 1", "2 ", "\t1", "9223372036854775807", "-9223372036854775808"],
            ),
            (BigInt, &["9223372036854775808", "18446744073709551615", "99999999999999999999999"]),
            (
                Float,
                &["1.5", "+2.5", ".5", "5.", "1e5", "1E-5", "5e400", "inf", "-INF", "Infinity", "+infinity"],
            ),
            (Float, &[" 1.5 ", "99999999999999999999.0"]),
            (
                Text,
                &[
                    "1e", "1_0", "0x10", "--5", " true", "x", ".", "-", "nan", "NaN", "1.2.3", "e5", " ",
                    "1 2",
                ],
            ),
        ];
        for (kind, values) in expected {
            for value in values {
                assert_eq!(kind_of(value), kind, "{value:?}");
            }
        }
    }

    #[test]
    fn arrow_reads_what_is_inferred() {
        for value in ["0", "-0", "007", "+1", " 1", "2 ", "9223372036854775807", "-9223372036854775808"] {
            assert!(is_read_by_arrow(value, Dtype::Int64), "{value:?}");
            assert_eq!(Int64Type::parse(value), parse_int(value), "{value:?}");
        }
        for value in ["1.5", ".5", "5.", "1e5", "inf", "-INF", "Infinity", " 1.5 ", "1e400", "7"] {
            assert!(is_read_by_arrow(value, Dtype::Float64), "{value:?}");
            assert_eq!(Float64Type::parse(value), parse_float(value), "{value:?}");
        }
        for value in ["1.5", "x", "", "NA", "9223372036854775808", "1 2"] {
            assert!(!is_read_by_arrow(value, Dtype::Int64), "{value:?}");
        }
        for value in ["x", "NA", "1 2", "1e", "0x10", "1_0", "--5"] {
            assert!(!is_read_by_arrow(value, Dtype::Float64), "{value:?}");
            assert_eq!(parse_float(value), None, "{value:?}");
        }
    }

    #[test]
    fn dates_and_times_are_read_by_their_standard() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(parse_date("2.1.1970"), None);
        assert_eq!(parse_datetime("1970-01-01 00:00:01.5"), Some(1_500_000));
        assert_eq!(parse_datetime("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse_datetime("yesterday"), None);
    }
}
