//! The methods of columns.

use dataframe_jobs::operation::{Apply, Operation, Reduction};
use serde_json::Value;

use crate::language::call::CallArguments;
use crate::language::expression::operand;
use crate::language::fault::LineFault;
use crate::language::value::{SaveOrder, SavedFormat, Series, SeriesAccessor, ShellValue, literal_sql, with};

/// The methods of a column.
pub const SERIES_METHODS: [&str; 31] = [
    "abs",
    "apply",
    "astype",
    "between",
    "compute",
    "count",
    "describe",
    "explain",
    "fillna",
    "head",
    "isin",
    "isna",
    "isnull",
    "max",
    "mean",
    "min",
    "notna",
    "notnull",
    "nunique",
    "persist",
    "round",
    "std",
    "sum",
    "tail",
    "to_csv",
    "to_frame",
    "to_parquet",
    "unique",
    "value_counts",
    "var",
    "dropna",
];

/// The methods behind `.str`.
pub const TEXT_METHODS: [&str; 10] =
    ["contains", "endswith", "len", "lower", "lstrip", "replace", "rstrip", "startswith", "strip", "upper"];

/// What is behind `.dt`.
pub const TIME_PARTS: [&str; 8] = ["year", "month", "day", "hour", "minute", "second", "quarter", "week"];

/// Calls a method of a column. `None` if there is no such method.
///
/// # Errors
/// Fails if the arguments are wrong.
pub fn call_series(
    series: &Series,
    method: &str,
    arguments: CallArguments,
) -> Option<Result<ShellValue, LineFault>> {
    Some(match method {
        "isin" => isin(series, arguments),
        "isna" | "isnull" => sql_of(arguments, series, method, |sql| format!("({sql} IS NULL)")),
        "notna" | "notnull" => sql_of(arguments, series, method, |sql| format!("({sql} IS NOT NULL)")),
        "abs" => sql_of(arguments, series, method, |sql| format!("abs({sql})")),
        "round" => round(series, arguments),
        "between" => between(series, arguments),
        "astype" => astype(series, arguments),
        "fillna" => fillna(series, arguments),
        "apply" | "map" => apply(series, arguments),
        "max" | "min" | "sum" | "mean" | "count" | "std" | "var" | "nunique" | "describe" => {
            reduce(series, method, arguments)
        }
        "unique" | "value_counts" => by_name(series, method, arguments),
        "to_frame" | "compute" => done(arguments, method, ShellValue::Frame(series.clone().into_frame())),
        _ => return None,
    })
}

fn done(arguments: CallArguments, method: &str, value: ShellValue) -> Result<ShellValue, LineFault> {
    arguments.finish(&format!("df.x.{method}()"))?;
    Ok(value)
}

fn sql_of(
    arguments: CallArguments,
    series: &Series,
    method: &str,
    sql: impl FnOnce(&str) -> String,
) -> Result<ShellValue, LineFault> {
    done(arguments, method, ShellValue::Series(series.computed(sql(&series.sql))))
}

fn isin(series: &Series, mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let usage = "df.x.isin([1, 2])";
    let values = match arguments.literal(&["values"], usage)? {
        Value::Array(values) if values.iter().all(|value| !value.is_array() && !value.is_object()) => values,
        Value::Array(_) | Value::Object(_) => {
            return Err(arguments.fault(format!("the values are a plain list: {usage}")));
        }
        one => vec![one],
    };
    arguments.finish(usage)?;
    let (nulls, others): (Vec<_>, Vec<_>) = values.iter().partition(|value| value.is_null());
    let listed: Vec<_> = others.into_iter().filter_map(literal_sql).collect();
    let found = if listed.is_empty() {
        "false".to_owned()
    } else {
        format!("{} IN ({})", series.sql, listed.join(", "))
    };
    // `x IN (1)` is unknown for a null, and `isin` is false.
    let sql = if nulls.is_empty() {
        format!("({} IS NOT NULL AND {found})", series.sql)
    } else {
        format!("({} IS NULL OR {found})", series.sql)
    };
    let made_by = series.column.clone().map(|column| Operation::Isin { values, column: Some(column) });
    Ok(ShellValue::Series(Series { made_by, ..series.computed(sql) }))
}

fn round(series: &Series, mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let digits = arguments.whole_number(&["decimals"], 0, "df.x.round(2)")?;
    arguments.finish("df.x.round(2)")?;
    Ok(ShellValue::Series(series.computed(format!("round({}, {digits})", series.sql))))
}

fn between(series: &Series, mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let usage = "df.x.between(1, 5)";
    let mut bound = |name: &str| {
        let given = arguments.take(&[name]);
        let given = arguments.require(given, usage)?;
        operand(&(given.value, given.at))
    };
    let (left, right) = (bound("left")?, bound("right")?);
    arguments.finish(usage)?;
    Ok(ShellValue::Series(series.computed(format!("(({} BETWEEN {left} AND {right}) IS TRUE)", series.sql))))
}

fn astype(series: &Series, mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let usage = "df.x.astype(\"float64\"); types: bool date datetime float64 int64 string";
    let name = arguments.text(&["dtype"], usage)?;
    let sql_type = match name.as_str() {
        "int64" | "int" => "BIGINT",
        "float64" | "float" => "DOUBLE",
        "bool" | "boolean" => "BOOLEAN",
        "str" | "string" | "object" => "VARCHAR",
        "date" => "DATE",
        "datetime" | "datetime64[ns]" => "TIMESTAMP",
        _ => return Err(arguments.fault(format!("there is no type {name:?}: {usage}"))),
    };
    arguments.finish(usage)?;
    Ok(ShellValue::Series(series.computed(format!("CAST({} AS {sql_type})", series.sql))))
}

fn fillna(series: &Series, mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let usage = "df.x.fillna(0)";
    let given = arguments.take(&["value"]);
    let given = arguments.require(given, usage)?;
    let value = operand(&(given.value, given.at))?;
    arguments.finish(usage)?;
    Ok(ShellValue::Series(series.computed(format!("coalesce({}, {value})", series.sql))))
}

/// `df.x.apply("name_of_a_function")`.
fn apply(series: &Series, mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let usage = "df.x.apply(\"NAME\") with the name of a function; an expression is applied to the frame: df.apply(\"x * 2\")";
    let name = arguments.text(&["function", "func"], usage)?;
    let is_name = name.chars().all(|character| character.is_alphanumeric() || character == '_');
    let Some(column) = series.column.clone().filter(|_| is_name) else {
        return Err(arguments.fault(usage));
    };
    arguments.finish(usage)?;
    let apply = Apply { function: Some(name), column: Some(column), ..Apply::default() };
    Ok(ShellValue::Frame(with(series.base.clone(), Operation::Apply(apply))))
}

fn reduce(series: &Series, method: &str, arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let (base, columns) = match &series.column {
        Some(column) => (series.base.clone(), vec![column.clone()]),
        None => (series.clone().into_frame(), Vec::new()),
    };
    let Some(operation) = reduction(method, columns) else {
        return Err(arguments.fault(format!("there is no aggregate {method}")));
    };
    done(arguments, method, ShellValue::Frame(with(base, operation)))
}

/// Returns the aggregate over columns that a method stands for.
#[must_use]
pub fn reduction(method: &str, columns: Vec<String>) -> Option<Operation> {
    let reduction = Reduction { columns };
    Some(match method {
        "max" => Operation::Max(reduction),
        "min" => Operation::Min(reduction),
        "sum" => Operation::Sum(reduction),
        "mean" => Operation::Mean(reduction),
        "count" => Operation::Count(reduction),
        "std" => Operation::Std(reduction),
        "var" => Operation::Var(reduction),
        "nunique" => Operation::Nunique(reduction),
        "describe" => Operation::Describe(reduction),
        _ => return None,
    })
}

/// The operations that need the name of the column: a computed one gets one.
fn by_name(series: &Series, method: &str, arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let (base, column) = match &series.column {
        Some(column) => (series.base.clone(), column.clone()),
        None => {
            let column = "value".to_owned();
            let apply = Apply {
                expression: Some(series.sql.clone()),
                alias: Some(column.clone()),
                ..Apply::default()
            };
            (with(series.base.clone(), Operation::Apply(apply)), column)
        }
    };
    let operation =
        if method == "unique" { Operation::Unique { column } } else { Operation::ValueCounts { column } };
    done(arguments, method, ShellValue::Frame(with(base, operation)))
}

/// Calls a method behind `.str`. `None` if there is no such method.
///
/// # Errors
/// Fails if the arguments are wrong.
pub fn call_text(
    series: &Series,
    method: &str,
    mut arguments: CallArguments,
) -> Option<Result<ShellValue, LineFault>> {
    let sql = &series.sql;
    let simple = match method {
        "len" => format!("character_length({sql})"),
        "lower" => format!("lower({sql})"),
        "upper" => format!("upper({sql})"),
        "strip" => format!("btrim({sql})"),
        "lstrip" => format!("ltrim({sql})"),
        "rstrip" => format!("rtrim({sql})"),
        "contains" | "startswith" | "endswith" | "replace" => {
            return Some(with_pattern(series, method, &mut arguments).and_then(|value| {
                arguments.finish(&format!("df.name.str.{method}(\"a\")"))?;
                Ok(value)
            }));
        }
        _ => return None,
    };
    Some(
        arguments
            .finish(&format!("df.name.str.{method}()"))
            .map(|()| ShellValue::Series(series.computed(simple))),
    )
}

fn with_pattern(
    series: &Series,
    method: &str,
    arguments: &mut CallArguments,
) -> Result<ShellValue, LineFault> {
    let sql = &series.sql;
    let usage = format!("df.name.str.{method}(\"a\")");
    let is_regex = match arguments.take_named(&["regex"]) {
        Some(given) if given.value == ShellValue::Literal(Value::Bool(false)) => false,
        Some(given) if given.value == ShellValue::Literal(Value::Bool(true)) => true,
        Some(given) => return Err(given.wrong("True or False", &usage)),
        // As in pandas.
        None => method == "contains",
    };
    let pattern = Value::String(arguments.text(&["pat"], &usage)?);
    let pattern = literal_sql(&pattern).unwrap_or_default();
    let sql = match method {
        "contains" if is_regex => format!("regexp_like({sql}, {pattern})"),
        "contains" => format!("(strpos({sql}, {pattern}) > 0)"),
        "startswith" => format!("starts_with({sql}, {pattern})"),
        "endswith" => format!("ends_with({sql}, {pattern})"),
        _ => {
            let by = Value::String(arguments.text(&["repl"], "df.name.str.replace(\"a\", \"b\")")?);
            let by = literal_sql(&by).unwrap_or_default();
            if is_regex {
                format!("regexp_replace({sql}, {pattern}, {by}, 'g')")
            } else {
                format!("replace({sql}, {pattern}, {by})")
            }
        }
    };
    Ok(ShellValue::Series(series.computed(sql)))
}

/// Returns a part of a time, such as `df.day.dt.year`. `None` if there is no such part.
#[must_use]
pub fn time_part(series: &Series, part: &str) -> Option<ShellValue> {
    TIME_PARTS
        .contains(&part)
        .then(|| ShellValue::Series(series.computed(format!("date_part('{part}', {})", series.sql))))
}

/// Returns what `.str` or `.dt` behind a column is.
#[must_use]
pub fn accessor(series: &Series, name: &str) -> Option<ShellValue> {
    let accessor = match name {
        "str" => SeriesAccessor::Text,
        "dt" => SeriesAccessor::Time,
        _ => return None,
    };
    Some(ShellValue::Accessor(series.clone(), accessor))
}

/// Returns the order to write a frame into a file.
///
/// # Errors
/// Fails if the arguments are wrong.
pub fn save(
    operations: &[Operation],
    method: &str,
    mut arguments: CallArguments,
) -> Result<ShellValue, LineFault> {
    let usage = format!("df.{method}(\"result.{}\")", &method[3..]);
    let path = arguments.text(&["path", "filename"], &usage)?;
    // Dask writes an index and one file a partition unless told otherwise. Here there is neither.
    arguments.take_named(&["index"]);
    arguments.take_named(&["single_file"]);
    arguments.finish(&usage)?;
    let format = if method == "to_csv" { SavedFormat::Csv } else { SavedFormat::Parquet };
    Ok(ShellValue::Save(SaveOrder { operations: operations.to_vec(), path, format }))
}
