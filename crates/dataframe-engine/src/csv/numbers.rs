//! Numbers from bytes: eight digits at a time where they are written plainly, and arrow's parsers for everything else, so that
//! the numbers are arrow's to the bit.

use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{Float64Type, Int64Type};

/// How many bytes behind a number have to be readable.
pub(super) const PADDING_BYTES: usize = 16;

const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
const POINTS: u64 = u64::from_le_bytes([b'.'; 8]);
const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);

/// The powers of ten that a float of 64 bits holds exactly, as far as they are needed.
const POWERS_OF_TEN: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// So many digits make an integer that a float of 64 bits holds exactly.
const EXACT_DIGITS: usize = 15;

/// Reads the integer in `block[start..end]`, which is `text` and not empty, as arrow does. [`PADDING_BYTES`] follow `end`.
#[inline(always)]
pub(super) fn parse_int<'a>(
    block: &[u8],
    start: usize,
    end: usize,
    text: impl FnOnce() -> &'a str,
) -> Option<i64> {
    let is_negative = block[start] == b'-';
    let first = start + usize::from(is_negative);
    match plain_int(block, first, end.wrapping_sub(first)) {
        // 16 digits are far from the limits.
        Some(magnitude) if is_negative => Some(-(magnitude as i64)),
        Some(magnitude) => Some(magnitude as i64),
        None => Int64Type::parse(text()),
    }
}

#[inline(always)]
fn plain_int(block: &[u8], first: usize, length: usize) -> Option<u64> {
    match length {
        1..=8 => eight_digits(right_aligned(word(block, first), length)),
        9..=16 => {
            let above = eight_digits(right_aligned(word(block, first), length - 8))?;
            Some(above * 100_000_000 + eight_digits(word(block, first + length - 8))?)
        }
        _ => None,
    }
}

/// Reads the float in `block[start..end]`, which is `text` and not empty, as arrow does. [`PADDING_BYTES`] follow `end`.
#[inline(always)]
pub(super) fn parse_float<'a>(
    block: &[u8],
    start: usize,
    end: usize,
    text: impl FnOnce() -> &'a str,
) -> Option<f64> {
    let is_negative = block[start] == b'-';
    let first = start + usize::from(is_negative);
    match plain_float(block, first, end.wrapping_sub(first)) {
        Some(magnitude) if is_negative => Some(-magnitude),
        Some(magnitude) => Some(magnitude),
        None => Float64Type::parse(text()),
    }
}

/// Digits with a point or without one. The digits are an exact integer and the power of ten is exact, so that their quotient, which the
/// processor rounds once, is the nearest float.
#[inline(always)]
fn plain_float(block: &[u8], first: usize, length: usize) -> Option<f64> {
    if length == 0 || length > EXACT_DIGITS + 1 {
        return None;
    }
    let low = word(block, first);
    let high = word(block, first + 8);
    let number = u128::from(low) | u128::from(high) << 64;
    let point = match (first_point(low), first_point(high)) {
        (8, in_high) => 8 + in_high,
        (in_low, _) => in_low,
    };
    let (digits, count, decimals) = if point < length {
        let before = number & ((1 << (8 * point)) - 1);
        let after = (number >> (8 * point) >> 8) << (8 * point);
        (before | after, length - 1, length - 1 - point)
    } else {
        (number, length, 0)
    };
    if count == 0 || count > EXACT_DIGITS {
        return None;
    }
    let zeros = u128::from(ZEROS) | u128::from(ZEROS) << 64;
    let aligned = digits << (8 * (16 - count)) | zeros >> (8 * count);
    let above = eight_digits(aligned as u64)?;
    let below = eight_digits((aligned >> 64) as u64)?;
    Some((above * 100_000_000 + below) as f64 / POWERS_OF_TEN[decimals])
}

#[inline(always)]
fn word(block: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&block[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Puts zeros before the first `length` bytes, of which there are 1 to 8.
#[inline(always)]
fn right_aligned(word: u64, length: usize) -> u64 {
    word << (64 - 8 * length) | ZEROS >> (8 * length - 8) >> 8
}

/// The place of the first point, or 8.
#[inline(always)]
fn first_point(word: u64) -> usize {
    let points = word ^ POINTS;
    let found = points.wrapping_sub(ONES) & !points & HIGH_BITS;
    found.trailing_zeros() as usize / 8
}

/// The number that eight digits are. The first one is in the lowest byte.
#[inline(always)]
fn eight_digits(word: u64) -> Option<u64> {
    let digits = word ^ ZEROS;
    // A byte above 9 gets its highest bit by adding, or has it before.
    if (digits | digits.wrapping_add(ONES * 0x76)) & HIGH_BITS != 0 {
        return None;
    }
    let pairs = (digits.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000 << 32 | 1) >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number with something behind it, as it stands in a block.
    fn parsed(value: &str) -> (Option<i64>, Option<u64>) {
        let block = format!("7,{value},.5\n-1.e9,.,23456789");
        let (bytes, end) = (block.as_bytes(), 2 + value.len());
        let int = parse_int(bytes, 2, end, || value);
        (int, parse_float(bytes, 2, end, || value).map(f64::to_bits))
    }

    fn by_arrow(value: &str) -> (Option<i64>, Option<u64>) {
        (Int64Type::parse(value), Float64Type::parse(value).map(f64::to_bits))
    }

    #[test]
    fn numbers_are_those_of_arrow() {
        let values = [
            "0",
            "-0",
            "+0",
            "7",
            "-7",
            "00000000",
            "12345678",
            "123456789",
            "9999999999999999",
            "12345678901234567",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "-",
            "+",
            ".",
            "-.",
            "1.",
            ".1",
            "-.5",
            "-0.0",
            "0.1",
            "0.3",
            "99999999999999.9",
            "999999999999999",
            "9999999999999999.",
            "123456789012.34567",
            "1.2.3",
            "1..2",
            "12-3",
            "1e5",
            "1E-5",
            "5e400",
            "inf",
            "-inf",
            "nan",
            "-NaN",
            "infinity",
            " 1",
            "1 ",
            " 1.5 ",
            "1_0",
            "0x1",
            "é",
            "1é",
            "12345é78",
            ":;<=>?@/",
            "/",
            ":",
            "1/",
            "1:",
            "\u{0}1",
            "0.000001",
            "100.0",
            "1.7976931348623157e308",
            "4.9e-324",
            "0.000000000000001",
            "1234567.",
            "12345678.",
            "123456789.1234567",
        ];
        for value in values {
            assert_eq!(parsed(value), by_arrow(value), "{value:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn numbers_of_any_kind_are_those_of_arrow(
            value in prop_oneof![
                "[-+]?[0-9]{1,20}",
                "[-+]?[0-9]{0,17}\\.[0-9]{0,17}",
                "[-+]?[0-9]{1,9}\\.[0-9]{1,9}",
                "[-+ ]?[0-9.e: /-]{1,18}",
                "[-+]?[0-9]{1,3}(\\.[0-9]{1,3})?[eE][-+]?[0-9]{1,3}",
                any::<f64>().prop_map(|number| number.to_string()),
                any::<i64>().prop_map(|number| number.to_string()),
                "\\PC{1,16}",
            ]
        ) {
            prop_assert_eq!(parsed(&value), by_arrow(&value));
        }
    }
}
