//! `df.groupby("name").agg("mean(x)")` and its other spellings.

use dataframe_jobs::operation::Operation;
use serde_json::Value;

use crate::language::call::{CallArguments, GivenArgument};
use crate::language::fault::LineFault;
use crate::language::value::{GroupedRows, ShellValue, with};

/// The methods behind `groupby`.
pub const GROUP_METHODS: [&str; 12] =
    ["agg", "count", "first", "last", "max", "mean", "min", "nunique", "size", "std", "sum", "var"];

const USAGE: &str = "df.groupby(\"name\").agg(\"mean(x)\", \"max(y) as top\"), or {\"x\": [\"min\", \"max\"]}, or df.groupby(\"name\").x.sum()";

/// Calls a method of groups. `None` if there is no such method.
///
/// # Errors
/// Fails if the arguments are wrong.
pub fn call_groups(
    groups: &GroupedRows,
    method: &str,
    mut arguments: CallArguments,
) -> Option<Result<ShellValue, LineFault>> {
    let agg = match method {
        "agg" | "aggregate" => aggregates(groups, &mut arguments),
        "size" => Ok(vec!["size()".to_owned()]),
        _ if !GROUP_METHODS.contains(&method) => return None,
        _ if groups.columns.is_empty() => Err(arguments.fault(format!(
            "a groupby is told which columns to aggregate: df.groupby(\"name\")[\"x\"].{method}()"
        ))),
        _ => Ok(groups.columns.iter().map(|column| format!("{method}({column})")).collect()),
    };
    Some(agg.and_then(|agg| {
        arguments.finish(USAGE)?;
        let operation = Operation::Groupby { by: groups.by.clone(), agg };
        Ok(ShellValue::Frame(with(groups.base.clone(), operation)))
    }))
}

fn aggregates(groups: &GroupedRows, arguments: &mut CallArguments) -> Result<Vec<String>, LineFault> {
    let mut agg = Vec::new();
    for given in arguments.take_all() {
        match (&given.name, &given.value) {
            (Some(name), ShellValue::Literal(value)) => {
                let aggregate = match value {
                    Value::String(aggregate) => aggregate.clone(),
                    // pandas' named aggregation: total=("x", "sum").
                    Value::Array(pair) => match pair.as_slice() {
                        [Value::String(column), Value::String(function)] => format!("{function}({column})"),
                        _ => return Err(given.wrong("a pair of a column and a function", USAGE)),
                    },
                    _ => return Err(given.wrong("an aggregate", USAGE)),
                };
                agg.push(format!("{aggregate} as {name}"));
            }
            (None, ShellValue::Literal(Value::Object(columns))) => {
                for (column, functions) in columns {
                    for function in words(functions, &given)? {
                        agg.push(format!("{function}({column})"));
                    }
                }
            }
            (None, ShellValue::Literal(value)) => {
                for word in words(value, &given)? {
                    agg.extend(of_columns(groups, &word, &given)?);
                }
            }
            _ => return Err(given.wrong("an aggregate", USAGE)),
        }
    }
    if agg.is_empty() { Err(arguments.fault(format!("an aggregate is missing: {USAGE}"))) } else { Ok(agg) }
}

fn words(value: &Value, given: &GivenArgument) -> Result<Vec<String>, LineFault> {
    let words = match value {
        Value::String(word) => Some(vec![word.clone()]),
        Value::Array(words) => words.iter().map(|word| word.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    words.ok_or_else(|| given.wrong("the name of a function, or a list of names", USAGE))
}

/// `sum(x)` stands for itself. `sum` is the sum of each chosen column.
fn of_columns(groups: &GroupedRows, word: &str, given: &GivenArgument) -> Result<Vec<String>, LineFault> {
    let counts_rows = word.split_whitespace().next() == Some("size");
    if word.contains('(') || counts_rows {
        return Ok(vec![word.to_owned()]);
    }
    if groups.columns.is_empty() {
        return Err(LineFault::new(
            given.at.clone(),
            format!(
                "the column is missing: write \"{word}(x)\", or df.groupby(\"name\")[\"x\"].agg(\"{word}\")"
            ),
        ));
    }
    Ok(groups.columns.iter().map(|column| format!("{word}({column})")).collect())
}
