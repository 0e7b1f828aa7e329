//! Durations as Go reads and prints them: `time.ParseDuration` and `Duration.String`, to the letter.
//!
//! The crates that parse such durations are a few years old, take input that Go refuses, or do not print.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// The magnitude of the smallest duration, -2⁶³ ns; the largest is one nanosecond less.
const LARGEST: u64 = 1 << 63;

/// A duration in nanoseconds, possibly negative, as Go's `time.Duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(i64);

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GoDurationError {
    #[error("not a duration")]
    Invalid,
    #[error("the unit is missing")]
    MissingUnit,
    #[error("unknown unit {0:?}")]
    UnknownUnit(String),
}

impl GoDuration {
    /// Returns a duration of this many seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds * SECOND as i64)
    }

    /// Returns the duration as Rust knows it; a negative one, which waits for nothing, becomes zero.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl FromStr for GoDuration {
    type Err = GoDurationError;

    fn from_str(text: &str) -> Result<Self, GoDurationError> {
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(GoDurationError::Invalid);
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (part, after) = one_part(rest)?;
            total = total.checked_add(part).filter(|sum| *sum <= LARGEST).ok_or(GoDurationError::Invalid)?;
            rest = after;
        }
        if negative {
            return Ok(Self(0_i64.wrapping_sub_unsigned(total)));
        }
        i64::try_from(total).map(Self).map_err(|_| GoDurationError::Invalid)
    }
}

/// Reads one number with its unit; returns it in nanoseconds, and the text behind it.
fn one_part(text: &str) -> Result<(u64, &str), GoDurationError> {
    let (whole, after_whole) = leading_integer(text)?;
    let mut digits = text.len() - after_whole.len();
    let mut rest = after_whole;
    let mut fraction = (0, 1.0);
    if let Some(after_point) = rest.strip_prefix('.') {
        let after_fraction = after_point.trim_start_matches(|c: char| c.is_ascii_digit());
        let decimals = &after_point[..after_point.len() - after_fraction.len()];
        digits += decimals.len();
        fraction = leading_fraction(decimals);
        rest = after_fraction;
    }
    if digits == 0 {
        return Err(GoDurationError::Invalid);
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let unit = unit(name)?;
    let mut nanos =
        whole.checked_mul(unit).filter(|nanos| *nanos <= LARGEST).ok_or(GoDurationError::Invalid)?;
    let (decimals, scale) = fraction;
    if decimals > 0 {
        // Go computes it in floating point too, and its rounding is part of what it reads.
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let part = (decimals as f64 * (unit as f64 / scale)) as u64;
        nanos = nanos.checked_add(part).filter(|sum| *sum <= LARGEST).ok_or(GoDurationError::Invalid)?;
    }
    Ok((nanos, after))
}

fn unit(name: &str) -> Result<u64, GoDurationError> {
    match name {
        "" => Err(GoDurationError::MissingUnit),
        "ns" => Ok(1),
        // U+00B5 is the micro sign, U+03BC the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => Ok(MICROSECOND),
        "ms" => Ok(MILLISECOND),
        "s" => Ok(SECOND),
        "m" => Ok(MINUTE),
        "h" => Ok(HOUR),
        unknown => Err(GoDurationError::UnknownUnit(unknown.to_owned())),
    }
}

fn leading_integer(text: &str) -> Result<(u64, &str), GoDurationError> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - rest.len()];
    let value = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| GoDurationError::Invalid)? };
    if value > LARGEST { Err(GoDurationError::Invalid) } else { Ok((value, rest)) }
}

/// Returns the digits after the point, without those too small to count, and the power of ten that divides them.
fn leading_fraction(digits: &str) -> (u64, f64) {
    let (mut value, mut scale) = (0_u64, 1.0);
    for digit in digits.bytes() {
        if value > (LARGEST - 1) / 10 {
            break;
        }
        let next = value * 10 + u64::from(digit - b'0');
        if next > LARGEST {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value, scale)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..MICROSECOND => write!(f, "{nanos}ns"),
            MICROSECOND..MILLISECOND => write_decimal(f, nanos, MICROSECOND, "µs"),
            MILLISECOND..SECOND => write_decimal(f, nanos, MILLISECOND, "ms"),
            _ => {
                if nanos >= HOUR {
                    write!(f, "{}h", nanos / HOUR)?;
                }
                if nanos >= MINUTE {
                    write!(f, "{}m", nanos % HOUR / MINUTE)?;
                }
                write_decimal(f, nanos % MINUTE, SECOND, "s")
            }
        }
    }
}

/// Writes `nanos` in `unit`s, with the decimals that are not zero.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let fraction = nanos % unit;
    if fraction > 0 {
        let width = unit.ilog10() as usize;
        let decimals = format!("{fraction:0width$}");
        write!(f, ".{}", decimals.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> Result<i64, GoDurationError> {
        text.parse::<GoDuration>().map(|duration| duration.0)
    }

    /// Reads the cases of Go's own test, `time_test.go`.
    #[test]
    fn reads_what_go_reads() {
        let (us, ms, s, m, h) = (1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000);
        let cases: &[(&str, i64)] = &[
            ("0", 0),
            ("5s", 5 * s),
            ("30s", 30 * s),
            ("1478s", 1478 * s),
            ("-5s", -5 * s),
            ("+5s", 5 * s),
            ("-0", 0),
            ("+0", 0),
            ("5.0s", 5 * s),
            ("5.6s", 5 * s + 600 * ms),
            ("5.s", 5 * s),
            (".5s", 500 * ms),
            ("1.0s", s),
            ("1.00s", s),
            ("1.004s", s + 4 * ms),
            ("1.0040s", s + 4 * ms),
            ("100.00100s", 100 * s + ms),
            ("10ns", 10),
            ("11us", 11 * us),
            ("12µs", 12 * us),
            ("12μs", 12 * us),
            ("13ms", 13 * ms),
            ("14s", 14 * s),
            ("15m", 15 * m),
            ("16h", 16 * h),
            ("3h30m", 3 * h + 30 * m),
            ("10.5s4m", 4 * m + 10 * s + 500 * ms),
            ("-2m3.4s", -(2 * m + 3 * s + 400 * ms)),
            ("1h2m3s4ms5us6ns", h + 2 * m + 3 * s + 4 * ms + 5 * us + 6),
            ("39h9m14.425s", 39 * h + 9 * m + 14 * s + 425 * ms),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * m),
            ("9007199254740993ns", (1 << 53) + 1),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036854775.807us", i64::MAX),
            ("9223372036s854ms775us807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-9223372036854775.808us", i64::MIN),
            ("-2562047h47m16.854775808s", i64::MIN),
            ("0.100000000000000000000h", 6 * m),
            ("0.830103483285477580700h", 49 * m + 48 * s + 372_539_827),
            ("0m20s", 20 * s),
            ("1h15m30.918s", h + 15 * m + 30 * s + 918 * ms),
        ];
        for (text, expected) in cases {
            assert_eq!(nanos(text), Ok(*expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        let invalid = [
            "",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "3000000h",
            "9223372036854775808ns",
            "9223372036854775.808us",
        ];
        for text in invalid.into_iter().chain(["9223372036854ms775us808ns", "1s ", " 5s", "5s-3s", "∞s"]) {
            assert!(nanos(text).is_err(), "{text}");
        }
        for text in ["3", "5", "1.5", "1h5"] {
            assert_eq!(nanos(text), Err(GoDurationError::MissingUnit), "{text}");
        }
        assert_eq!(nanos("5d"), Err(GoDurationError::UnknownUnit("d".to_owned())));
        assert_eq!(nanos("5S"), Err(GoDurationError::UnknownUnit("S".to_owned())));
    }

    #[test]
    fn prints_as_go_prints() {
        let cases = [
            ("0", "0s"),
            ("1ns", "1ns"),
            ("1100ns", "1.1µs"),
            ("2200us", "2.2ms"),
            ("3300ms", "3.3s"),
            ("245s", "4m5s"),
            ("245001ms", "4m5.001s"),
            ("18367001ms", "5h6m7.001s"),
            ("480000000001ns", "8m0.000000001s"),
            ("9223372036854775807ns", "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", "-2562047h47m16.854775808s"),
            ("100ms", "100ms"),
            ("5s", "5s"),
            ("0m20s", "20s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("1h", "1h0m0s"),
        ];
        for (text, printed) in cases {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), printed);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos in prop_oneof![any::<i64>(), -2_000_000_000_i64..2_000_000_000]) {
            let printed = GoDuration(nanos).to_string();
            let read: GoDuration = printed.parse().unwrap();
            // As in Go: decimals of a second pass through floating point, exact far beyond their nine digits.
            prop_assert_eq!(read.0, nanos, "{}", printed);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+]?([0-9]{0,21}\\.?[0-9]{0,21}(h|m|s|ms|us|µs|ns|d|)){0,4}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
