//! The methods of frames and of groups, and `read_csv`.

use std::collections::BTreeMap;

use dataframe_jobs::operation::{Apply, Join, Missing, Operation};
use serde_json::{Value, json};

use crate::language::call::CallArguments;
use crate::language::expression::operand;
use crate::language::fault::LineFault;
use crate::language::series::{reduction, save};
use crate::language::value::{GroupedRows, ShellValue, with};

mod groups;
mod modules;
mod reading;

pub use groups::{GROUP_METHODS, call_groups};
pub use modules::NamedModules;
use modules::apply_wasm;
pub use reading::read_csv;

/// The methods of a frame.
pub const FRAME_METHODS: [&str; 33] = [
    "apply",
    "apply_wasm",
    "assign",
    "compute",
    "count",
    "describe",
    "drop",
    "dropna",
    "explain",
    "fillna",
    "groupby",
    "head",
    "isin",
    "items",
    "len",
    "max",
    "mean",
    "merge",
    "min",
    "nunique",
    "persist",
    "query",
    "rename",
    "sort_values",
    "sql",
    "std",
    "sum",
    "tail",
    "to_csv",
    "to_parquet",
    "unique",
    "value_counts",
    "var",
];

/// What stands behind a frame without parentheses.
pub const FRAME_ATTRIBUTES: [&str; 2] = ["columns", "dtypes"];

/// Calls a method of a frame, which may name one of these modules. `None` if there is no such method.
///
/// # Errors
/// Fails if the arguments are wrong.
pub fn call_frame(
    base: &[Operation],
    method: &str,
    mut arguments: CallArguments,
    modules: &NamedModules,
) -> Option<Result<ShellValue, LineFault>> {
    let given = &mut arguments;
    let operation = match method {
        "head" => head(given),
        "tail" => given
            .whole_number(&["n"], 5, TAIL)
            .and_then(|n| rows(given, n, TAIL))
            .map(|n| Operation::Tail { n }),
        "columns" => Ok(Operation::Columns {}),
        "dtypes" => Ok(Operation::Dtypes {}),
        "items" => Ok(Operation::Items {}),
        "len" => Ok(Operation::Len {}),
        "persist" => Ok(Operation::Persist {}),
        "query" => given.text(&["expr", "predicate"], QUERY).map(|predicate| Operation::Query { predicate }),
        "sql" => given.text(&["query"], SQL).map(Operation::sql),
        "isin" => isin(given),
        "apply" => apply(given),
        "apply_wasm" => apply_wasm(given, modules),
        "assign" => assign(base, given),
        "max" | "min" | "sum" | "mean" | "count" | "std" | "var" | "nunique" | "describe" => {
            reduce(method, given)
        }
        "value_counts" => given
            .text(&["column", "subset"], "df.value_counts(\"x\")")
            .map(|column| Operation::ValueCounts { column }),
        "unique" => given.text(&["column"], "df.unique(\"x\")").map(|column| Operation::Unique { column }),
        "sort_values" => sort_values(given),
        "merge" => merge(given),
        "drop" => drop(given),
        "rename" => rename(given),
        "fillna" => return Some(fillna(base, arguments)),
        "dropna" => dropna(given),
        "groupby" => return Some(groupby(base, arguments)),
        "to_csv" | "to_parquet" => return Some(save(base, method, arguments)),
        "compute" => {
            return Some(arguments.finish("df.compute()").map(|()| ShellValue::Frame(base.to_vec())));
        }
        "explain" => {
            return Some(arguments.finish("df.explain()").map(|()| ShellValue::Explain(base.to_vec())));
        }
        _ => return None,
    };
    Some(operation.and_then(|operation| {
        arguments.finish("`help` and the name of the operation show what it takes")?;
        Ok(ShellValue::Frame(with(base.to_vec(), operation)))
    }))
}

const HEAD: &str = "df.head(3), df.head(3, npartitions=-1)";
const TAIL: &str = "df.tail(3)";
const QUERY: &str = "df.query(\"x > 3 and name = 'Ada'\")";
const SQL: &str = "df.sql(\"select name, avg(x) from df group by name\")";
const MERGE: &str = "df.merge(other, on=\"id\", how=\"left\")";

fn rows(arguments: &CallArguments, n: i64, usage: &str) -> Result<u64, LineFault> {
    u64::try_from(n).map_err(|_| arguments.fault(format!("the number of rows is at least 0: {usage}")))
}

fn head(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let n = arguments.whole_number(&["n"], 5, HEAD)?;
    let n = rows(arguments, n, HEAD)?;
    let partitions = arguments.whole_number(&["npartitions", "partitions"], 1, HEAD)?;
    if partitions < -1 || partitions == 0 {
        return Err(arguments.fault("npartitions is 1 or more, or -1 for all"));
    }
    Ok(Operation::Head { n, partitions })
}

fn isin(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let usage = "df.isin([1, \"a\"]), df.x.isin([1, 2])";
    let values = match arguments.literal(&["values"], usage)? {
        Value::Array(values) => values,
        Value::Object(_) => return Err(arguments.fault(format!("the values are a list: {usage}"))),
        one => vec![one],
    };
    Ok(Operation::Isin { values, column: None })
}

fn apply(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let usage = "df.apply(\"x * 2 + length(name)\"), df.apply(function=\"NAME\", column=\"x\")";
    let mut named = |names: &[&str]| {
        let given = arguments.take_named(names);
        given
            .map(|given| given.text().map(str::to_owned).ok_or_else(|| given.wrong("a text", usage)))
            .transpose()
    };
    let alias = named(&["as", "name"])?;
    if let Some(function) = named(&["function"])? {
        let column = Some(arguments.text(&["column"], usage)?);
        return Ok(Operation::Apply(Apply { function: Some(function), column, alias, ..Apply::default() }));
    }
    // Dask's arguments for Python functions. An expression has its type and is made of rows.
    arguments.only(
        "axis",
        &[json!(1), json!("columns")],
        "an expression is computed from the columns of each row",
    )?;
    arguments.take_named(&["meta"]);
    let expression = Some(arguments.text(&["expression"], usage)?);
    Ok(Operation::Apply(Apply { expression, alias, ..Apply::default() }))
}

fn assign(base: &[Operation], arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let usage = "df.assign(y=df.x * 2, z=\"length(name)\")";
    let mut columns = Vec::new();
    for given in arguments.take_all() {
        let Some(name) = given.name.clone() else { return Err(given.wrong("NAME=EXPRESSION", usage)) };
        let sql = match &given.value {
            ShellValue::Literal(Value::String(expression)) => expression.clone(),
            ShellValue::Series(series) if series.base != base => {
                return Err(LineFault::new(
                    given.at,
                    "the column belongs to another frame: join the frames first",
                ));
            }
            _ => operand(&(given.value, given.at))?,
        };
        columns.push((name, sql));
    }
    if columns.is_empty() {
        return Err(arguments.fault(format!("nothing is assigned: {usage}")));
    }
    Ok(Operation::Assign { columns })
}

fn reduce(method: &str, arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let usage = format!("df.{method}(), df[[\"x\", \"y\"]].{method}(), df.x.{method}()");
    let columns = match arguments.take(&["columns"]) {
        None => Vec::new(),
        Some(given) => given.texts(&usage)?,
    };
    reduction(method, columns).ok_or_else(|| arguments.fault(usage))
}

fn sort_values(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let usage = "df.sort_values([\"name\", \"x\"], ascending=[True, False])";
    let ascending = match arguments.take_named(&["ascending"]) {
        None => vec![true],
        Some(given) => match &given.value {
            ShellValue::Literal(Value::Bool(one)) => vec![*one],
            ShellValue::Literal(Value::Array(many)) => {
                let many: Option<Vec<_>> = many.iter().map(Value::as_bool).collect();
                many.ok_or_else(|| given.wrong("a list of True and False", usage))?
            }
            _ => return Err(given.wrong("True or False", usage)),
        },
    };
    let by = arguments.texts(&["by"], usage)?;
    if ascending.len() != 1 && ascending.len() != by.len() {
        return Err(arguments.fault(format!("`ascending` has one value, or one for each key: {usage}")));
    }
    Ok(Operation::SortValues { by, ascending })
}

fn merge(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let given = arguments.take(&["right"]);
    let given = arguments.require(given, MERGE)?;
    let ShellValue::Frame(right) = given.value else { return Err(given.wrong("a frame", MERGE)) };
    let on = arguments.named_texts(&["on"], MERGE)?;
    let left_on = arguments.named_texts(&["left_on"], MERGE)?;
    let right_on = arguments.named_texts(&["right_on"], MERGE)?;
    let how = match arguments.take_named(&["how"]) {
        None => Join::Inner,
        Some(given) => match given.text() {
            Some("inner") => Join::Inner,
            Some("left") => Join::Left,
            Some("right") => Join::Right,
            Some("outer") => Join::Outer,
            _ => return Err(given.wrong("\"inner\", \"left\", \"right\" or \"outer\"", MERGE)),
        },
    };
    let (left_on, right_on) = if on.is_empty() { (left_on, right_on) } else { (on.clone(), on) };
    if left_on.is_empty() || left_on.len() != right_on.len() {
        return Err(arguments.fault(format!(
            "the keys are named with `on`, or with as many `left_on` as `right_on`: {MERGE}"
        )));
    }
    Ok(Operation::Merge { right, how, left_on, right_on })
}

fn drop(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    // pandas wants `axis=1` to be told that columns are meant.
    arguments.only(
        "axis",
        &[json!(1), json!("columns")],
        "rows have no names here, and `df.query` leaves rows out",
    )?;
    let columns = arguments.texts(&["columns", "labels"], "df.drop(columns=[\"x\", \"y\"])")?;
    Ok(Operation::Drop { columns })
}

fn rename(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let usage = "df.rename(columns={\"old\": \"new\"})";
    let names = arguments.literal(&["columns"], usage)?;
    let names = names.as_object().map(|names| {
        names
            .iter()
            .map(|(old, new)| Some((old.clone(), new.as_str()?.to_owned())))
            .collect::<Option<BTreeMap<_, _>>>()
    });
    let Some(Some(columns)) = names else {
        return Err(arguments.fault(format!("a map of names is expected: {usage}")));
    };
    Ok(Operation::Rename { columns })
}

fn fillna(base: &[Operation], mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let usage = "df.fillna(0), df.fillna({\"x\": 0, \"name\": \"?\"})";
    let value = arguments.literal(&["value"], usage)?;
    let columns = arguments.named_texts(&["columns"], usage)?;
    let mut operations = base.to_vec();
    match value {
        Value::Object(values) => operations.extend(
            values.into_iter().map(|(column, value)| Operation::Fillna { value, columns: vec![column] }),
        ),
        Value::Array(_) | Value::Null => return Err(arguments.fault(format!("a value is expected: {usage}"))),
        value => operations.push(Operation::Fillna { value, columns }),
    }
    arguments.finish(usage)?;
    Ok(ShellValue::Frame(operations))
}

fn dropna(arguments: &mut CallArguments) -> Result<Operation, LineFault> {
    let usage = "df.dropna(), df.dropna(subset=[\"x\"], how=\"all\")";
    let how = match arguments.take(&["how"]) {
        None => Missing::Any,
        Some(given) => match given.text() {
            Some("any") => Missing::Any,
            Some("all") => Missing::All,
            _ => return Err(given.wrong("\"any\" or \"all\"", usage)),
        },
    };
    Ok(Operation::Dropna { how, subset: arguments.named_texts(&["subset"], usage)? })
}

fn groupby(base: &[Operation], mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let usage = "df.groupby(\"name\").agg(\"mean(x)\"), df.groupby([\"name\", \"day\"]).x.sum()";
    let by = arguments.texts(&["by"], usage)?;
    let advice = "rows with a null key are always left out; df.fillna({\"name\": \"?\"}) gives them one";
    arguments.only("dropna", &[json!(true)], advice)?;
    arguments.only("sort", &[json!(true)], "groups always come in the order of their keys")?;
    if by.is_empty() {
        return Err(arguments.fault(format!("a key is missing: {usage}")));
    }
    arguments.finish(usage)?;
    Ok(ShellValue::Groups(GroupedRows { base: base.to_vec(), by, columns: Vec::new() }))
}
