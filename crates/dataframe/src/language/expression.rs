//! Operators on columns and values → SQL.

use std::ops::Range;

use serde_json::{Number, Value};

use crate::language::fault::LineFault;
use crate::language::syntax::{Operator, Sign};
use crate::language::value::{Series, ShellValue, literal_sql};

/// An operand and its place.
pub type PlacedOperand = (ShellValue, Range<usize>);

/// Applies an operator to two operands.
///
/// # Errors
/// Fails if they are not columns of one frame, or values.
pub fn join(operator: Operator, left: PlacedOperand, right: PlacedOperand) -> Result<ShellValue, LineFault> {
    let at = left.1.start..right.1.end;
    if let (ShellValue::Literal(Value::Number(a)), ShellValue::Literal(Value::Number(b))) =
        (&left.0, &right.0)
    {
        let result = calculate(operator, a, b);
        return result
            .map(ShellValue::Literal)
            .ok_or_else(|| LineFault::new(at, "this has no finite result"));
    }
    let base = match (&left.0, &right.0) {
        (ShellValue::Series(a), ShellValue::Series(b)) if a.base == b.base => a.clone(),
        (ShellValue::Series(_), ShellValue::Series(_)) => {
            return Err(LineFault::new(
                at,
                "the columns belong to different frames: join the frames first, df.merge(other, on=\"id\")",
            ));
        }
        (ShellValue::Series(series), _) | (_, ShellValue::Series(series)) => series.clone(),
        _ => {
            let place = if matches!(left.0, ShellValue::Literal(_)) { right } else { left };
            return Err(LineFault::new(
                place.1,
                format!("an operator needs a column, and this is {}", place.0.kind()),
            ));
        }
    };
    let (a, b) = (operand(&left)?, operand(&right)?);
    let missing = |value: &ShellValue| matches!(value, ShellValue::Literal(Value::Null));
    if operator.compares() && (missing(&left.0) || missing(&right.0)) {
        return Err(LineFault::new(at, "missing values are found by a method: df.x.isna() or df.x.notna()"));
    }
    if operator == Operator::Modulo && b.contains(' ') {
        return Err(LineFault::new(
            right.1,
            "the right side of % is a number or a column; give a longer one a name first",
        ));
    }
    Ok(ShellValue::Series(base.computed(binary_sql(operator, &a, &b))))
}

fn binary_sql(operator: Operator, a: &str, b: &str) -> String {
    let sign = match operator {
        // SQL divides whole numbers to a whole number, and Python does not.
        Operator::Divided => return format!("(CAST({a} AS DOUBLE) / {b})"),
        Operator::FloorDivided => return format!("floor(CAST({a} AS DOUBLE) / {b})"),
        // In Python the result has the sign of the divisor.
        Operator::Modulo => return format!("(({a} % {b} + {b}) % {b})"),
        Operator::Power => return format!("power({a}, {b})"),
        Operator::Or => "OR",
        Operator::And => "AND",
        // As in pandas a missing value is unequal to all, and no other comparison with it is true. SQL does not know.
        Operator::Unequal => return format!("({a} IS DISTINCT FROM {b})"),
        Operator::Equal => return format!("(({a} = {b}) IS TRUE)"),
        Operator::Less => return format!("(({a} < {b}) IS TRUE)"),
        Operator::LessOrEqual => return format!("(({a} <= {b}) IS TRUE)"),
        Operator::Greater => return format!("(({a} > {b}) IS TRUE)"),
        Operator::GreaterOrEqual => return format!("(({a} >= {b}) IS TRUE)"),
        Operator::Plus => "+",
        Operator::Minus => "-",
        Operator::Times => "*",
    };
    format!("({a} {sign} {b})")
}

/// Applies an operator to one operand.
///
/// # Errors
/// Fails if the operand is neither a column nor a number or a Boolean.
pub fn sign(sign: Sign, of: PlacedOperand) -> Result<ShellValue, LineFault> {
    match (sign, of.0) {
        (Sign::Minus, ShellValue::Literal(Value::Number(number))) => {
            calculate(Operator::Minus, &0.into(), &number)
                .map(ShellValue::Literal)
                .ok_or_else(|| LineFault::new(of.1, "the number is too large"))
        }
        (Sign::Plus, value @ (ShellValue::Literal(Value::Number(_)) | ShellValue::Series(_))) => Ok(value),
        (Sign::Not, ShellValue::Literal(Value::Bool(truth))) => Ok(ShellValue::Literal(Value::Bool(!truth))),
        (Sign::Minus, ShellValue::Series(series)) => {
            Ok(ShellValue::Series(series.computed(format!("(- {})", series.sql))))
        }
        (Sign::Not, ShellValue::Series(series)) => {
            Ok(ShellValue::Series(series.computed(format!("(NOT {})", series.sql))))
        }
        (_, other) => {
            Err(LineFault::new(of.1, format!("a sign needs a column, and this is {}", other.kind())))
        }
    }
}

/// Returns a column or a value in SQL.
///
/// # Errors
/// Fails if it is something else.
pub fn operand((value, at): &PlacedOperand) -> Result<String, LineFault> {
    let sql = match value {
        ShellValue::Series(Series { sql, .. }) => Some(sql.clone()),
        ShellValue::Literal(value) => literal_sql(value),
        _ => None,
    };
    sql.ok_or_else(|| {
        LineFault::new(at.clone(), format!("a column or a value is expected here and not {}", value.kind()))
    })
}

fn calculate(operator: Operator, a: &Number, b: &Number) -> Option<Value> {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        let whole = match operator {
            Operator::Plus => a.checked_add(b),
            Operator::Minus => a.checked_sub(b),
            Operator::Times => a.checked_mul(b),
            Operator::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            _ => None,
        };
        if let Some(whole) = whole {
            return Some(whole.into());
        }
    }
    let (a, b) = (a.as_f64()?, b.as_f64()?);
    let result = match operator {
        Operator::Plus => a + b,
        Operator::Minus => a - b,
        Operator::Times => a * b,
        Operator::Divided => a / b,
        Operator::FloorDivided => (a / b).floor(),
        Operator::Modulo => a - b * (a / b).floor(),
        Operator::Power => a.powf(b),
        Operator::Equal => return Some((a == b).into()),
        Operator::Unequal => return Some((a != b).into()),
        Operator::Less => return Some((a < b).into()),
        Operator::LessOrEqual => return Some((a <= b).into()),
        Operator::Greater => return Some((a > b).into()),
        Operator::GreaterOrEqual => return Some((a >= b).into()),
        Operator::And | Operator::Or => return None,
    };
    Number::from_f64(result).map(Value::Number)
}
