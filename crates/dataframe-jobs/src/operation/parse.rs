//! From JSON to operations that make sense, with errors that name the operation and the key.

use std::collections::BTreeMap;

use serde_json::Value;

use super::steps::{Apply, Join, Operation, ReadCsv, WasmFunction};
use crate::packet::MAX_HEADER_BYTES;

/// Operations in a list, those of its merges included.
pub const MAX_OPERATIONS: usize = 1000;

/// How deep merges may stand inside merges.
pub const MAX_MERGES: usize = 16;

/// Values, names and expressions in a list.
pub const MAX_VALUES: usize = 1_000_000;

/// Columns that are given to a function of a module: as many parameters as one may have.
const MAX_WASM_COLUMNS: usize = 32;

/// A SHA-256 in hexadecimal digits.
const HASH_DIGITS: usize = 64;

/// Why a list of operations is refused: a text for whoever wrote the list. Operations count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOperations(pub String);

/// The operations, and the keys of their arguments.
const ARGUMENTS: [(&str, &[&str]); 32] = [
    (
        "read_csv",
        &["paths", "separator", "quote", "header", "null_words", "dtypes", "compression", "blocksize"],
    ),
    ("apply", &["expression", "function", "column", "wasm", "as"]),
    ("assign", &["columns"]),
    ("query", &["predicate"]),
    ("isin", &["values", "column"]),
    ("groupby", &["by", "agg"]),
    ("head", &["n", "partitions"]),
    ("tail", &["n"]),
    ("select", &["columns"]),
    ("columns", &[]),
    ("dtypes", &[]),
    ("items", &[]),
    ("len", &[]),
    ("max", &["columns"]),
    ("min", &["columns"]),
    ("sum", &["columns"]),
    ("mean", &["columns"]),
    ("count", &["columns"]),
    ("std", &["columns"]),
    ("var", &["columns"]),
    ("nunique", &["columns"]),
    ("describe", &["columns"]),
    ("value_counts", &["column"]),
    ("unique", &["column"]),
    ("sort_values", &["by", "ascending"]),
    ("merge", &["right", "how", "left_on", "right_on"]),
    ("drop", &["columns"]),
    ("rename", &["columns"]),
    ("fillna", &["value", "columns"]),
    ("dropna", &["how", "subset"]),
    ("sql", &["query", "name", "tables"]),
    ("persist", &[]),
];

/// The names of all operations.
pub fn names() -> impl Iterator<Item = &'static str> {
    ARGUMENTS.iter().map(|(name, _)| *name)
}

/// The name of an operation.
pub fn name_of(operation: &Operation) -> &'static str {
    let written = serde_json::to_value(operation).unwrap_or_default();
    // Each operation is written as an object whose only key is its name.
    names().find(|name| written.get(name).is_some()).unwrap_or("operation")
}

/// Reads a list of operations from JSON, and [checks](check) it.
///
/// # Errors
/// Fails with a text that names the operation, by its place from 1 on, and the key.
pub fn parse(json: &str) -> Result<Vec<Operation>, BadOperations> {
    if json.len() > MAX_HEADER_BYTES {
        return bad(format!("the list has {} bytes, and may have {MAX_HEADER_BYTES}", json.len()));
    }
    let list: Value =
        serde_json::from_str(json).map_err(|error| BadOperations(format!("this is not JSON: {error}")))?;
    let operations = read_list(&list, "", 0)?;
    check(&operations)?;
    Ok(operations)
}

fn bad<T>(message: impl Into<String>) -> Result<T, BadOperations> {
    Err(BadOperations(message.into()))
}

fn read_list(list: &Value, place: &str, depth: usize) -> Result<Vec<Operation>, BadOperations> {
    let Some(list) = list.as_array() else {
        return bad(format!(
            "{place}a list of operations is needed, such as [{{\"read_csv\": {{\"paths\": [\"data.csv\"]}}}}]"
        ));
    };
    if list.len() > MAX_OPERATIONS {
        return bad(format!("{place}the list has {} operations, and may have {MAX_OPERATIONS}", list.len()));
    }
    if depth > MAX_MERGES {
        return bad(format!("{place}merges stand more than {MAX_MERGES} deep inside each other"));
    }
    let numbered = (1..).zip(list);
    numbered
        .map(|(number, item)| read_operation(item, &format!("{place}operation {number}: "), depth))
        .collect()
}

fn read_operation(item: &Value, place: &str, depth: usize) -> Result<Operation, BadOperations> {
    let Some((name, arguments)) =
        item.as_object().filter(|object| object.len() == 1).and_then(|object| object.iter().next())
    else {
        return bad(format!(
            "{place}an object with one key, the operation's name, is needed, such as {{\"len\": {{}}}}"
        ));
    };
    let Some((_, keys)) = ARGUMENTS.iter().find(|(known, _)| known == name) else {
        return bad(format!("{place}unknown operation `{name}`; {}", hint(name, names())));
    };
    let Some(object) = arguments.as_object() else {
        return bad(format!("{place}`{name}` needs an object of arguments, such as {{\"{name}\": {{}}}}"));
    };
    if let Some(key) = object.keys().find(|key| !keys.contains(&key.as_str())) {
        return bad(format!("{place}`{name}` has no argument `{key}`; {}", hint(key, keys.iter().copied())));
    }
    if let Some(right) = object.get("right") {
        // Read by itself, so that an error names the operation inside.
        let right = read_list(right, &format!("{place}`right`: "), depth + 1)?;
        return read_merge(object, right, place);
    }
    if name == "sql"
        && let Some(tables) = object.get("tables")
    {
        return read_sql(object, tables, place, depth);
    }
    for (key, value) in object {
        // Alone with this key an operation may lack others. Only an error about the value is of interest.
        if let Some(error) = error_of(name, key, value) {
            return bad(format!("{place}`{name}`: `{key}`: {error}"));
        }
    }
    serde_json::from_value(item.clone()).map_err(|error| BadOperations(format!("{place}`{name}`: {error}")))
}

/// The error of one argument, if it is not that another one is missing.
fn error_of(name: &str, key: &str, value: &Value) -> Option<String> {
    let alone = Value::from_iter([(name, Value::from_iter([(key, value.clone())]))]);
    let error = serde_json::from_value::<Operation>(alone).err()?.to_string();
    (!error.starts_with("missing field")).then_some(error)
}

fn read_merge(
    object: &serde_json::Map<String, Value>,
    right: Vec<Operation>,
    place: &str,
) -> Result<Operation, BadOperations> {
    let keys = |key: &str| {
        let value = object.get(key).cloned();
        let value = value.ok_or_else(|| BadOperations(format!("{place}`merge`: missing field `{key}`")))?;
        serde_json::from_value(value)
            .map_err(|error| BadOperations(format!("{place}`merge`: `{key}`: {error}")))
    };
    let how = match object.get("how").cloned() {
        None => Join::default(),
        Some(how) => serde_json::from_value(how)
            .map_err(|error| BadOperations(format!("{place}`merge`: `how`: {error}")))?,
    };
    Ok(Operation::Merge { right, how, left_on: keys("left_on")?, right_on: keys("right_on")? })
}

fn read_sql(
    object: &serde_json::Map<String, Value>,
    tables: &Value,
    place: &str,
    depth: usize,
) -> Result<Operation, BadOperations> {
    let Some(tables) = tables.as_object() else {
        return bad(format!("{place}`sql`: `tables` is an object of names and lists of operations"));
    };
    let mut lists = BTreeMap::new();
    for (table, list) in tables {
        // Read by itself, so that an error names the operation inside.
        lists.insert(table.clone(), read_list(list, &format!("{place}table {table:?}: "), depth + 1)?);
    }
    let mut rest = object.clone();
    rest.remove("tables");
    let mut operation = read_operation(&Value::from_iter([("sql", Value::Object(rest))]), place, depth)?;
    if let Operation::Sql { tables, .. } = &mut operation {
        *tables = lists;
    }
    Ok(operation)
}

fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.collect();
    let nearest = known.iter().map(|name| (distance(word, name), *name)).min();
    match nearest {
        Some((near, name)) if near <= 2 && near < name.len() => format!("did you mean `{name}`?"),
        Some(_) => format!("there are {}", known.join(", ")),
        None => "it takes none".to_owned(),
    }
}

/// The number of letters to change, add, remove or swap with the next one.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<_>, Vec<_>) = (left.chars().take(64).collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                let swap = if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                    rows[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                change.min(swap).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[left.len()][right.len()]
}

/// Checks what the types of a list of operations do not say: its limits, its order, and arguments that need each other.
///
/// # Errors
/// Fails with a text that names the operation, by its place from 1 on, and the key.
pub fn check(operations: &[Operation]) -> Result<(), BadOperations> {
    let mut totals = Totals::default();
    check_list(operations, "", 0, &mut totals)
}

#[derive(Default)]
struct Totals {
    operations: usize,
    values: usize,
}

fn check_list(
    operations: &[Operation],
    place: &str,
    depth: usize,
    totals: &mut Totals,
) -> Result<(), BadOperations> {
    totals.operations += operations.len();
    if totals.operations > MAX_OPERATIONS {
        return bad(format!("the list and its merges have more than {MAX_OPERATIONS} operations"));
    }
    if depth > MAX_MERGES {
        return bad(format!("{place}merges stand more than {MAX_MERGES} deep inside each other"));
    }
    if !matches!(operations.first(), Some(Operation::ReadCsv(_))) {
        return bad(format!("{place}the first operation must be `read_csv`, which says what to read"));
    }
    for (number, operation) in (1..).zip(operations) {
        let here = format!("{place}operation {number}: ");
        if number > 1 && matches!(operation, Operation::ReadCsv(_)) {
            return bad(format!(
                "{here}`read_csv` stands at the beginning only; `merge` reads other files in `right`"
            ));
        }
        if let Some(end) = describes(operation) {
            if depth > 0 {
                return bad(format!(
                    "{here}`{end}` describes a frame, and a merge or a query needs the frame itself"
                ));
            }
            if number < operations.len() {
                return bad(format!(
                    "{here}nothing can follow `{end}`, which describes a frame and is the last operation"
                ));
            }
        }
        check_operation(operation, &here, depth, totals)?;
        if totals.values > MAX_VALUES {
            return bad(format!("{here}the list has more than {MAX_VALUES} values and names"));
        }
    }
    Ok(())
}

/// The name of an operation that describes a frame, and does not make one.
fn describes(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::Columns {} => Some("columns"),
        Operation::Dtypes {} => Some("dtypes"),
        Operation::Items {} => Some("items"),
        Operation::Len {} => Some("len"),
        _ => None,
    }
}

fn check_operation(
    operation: &Operation,
    here: &str,
    depth: usize,
    totals: &mut Totals,
) -> Result<(), BadOperations> {
    let needs = |name: &str, key: &str, count: usize| match count {
        0 => bad(format!("{here}`{name}` needs at least one entry in `{key}`")),
        count => Ok(count),
    };
    totals.values += match operation {
        Operation::ReadCsv(read) => check_read(read, here)?,
        Operation::Apply(apply) => check_apply(apply, here)?,
        Operation::Assign { columns } => needs("assign", "columns", columns.len())?,
        Operation::Query { .. } => 1,
        Operation::Sql { name, tables, .. } => {
            if tables.contains_key(name) {
                return bad(format!("{here}`sql`: {name:?} is the frame's own name, and a table's, too"));
            }
            for (table, list) in tables {
                check_list(list, &format!("{here}table {table:?}: "), depth + 1, totals)?;
            }
            1 + tables.len()
        }
        Operation::Isin { values, .. } => {
            check_scalars(values, "isin", "values", here)?;
            values.len()
        }
        Operation::Groupby { by, agg } => {
            needs("groupby", "by", by.len())? + needs("groupby", "agg", agg.len())?
        }
        Operation::Head { partitions, .. } if *partitions != -1 && *partitions < 1 => {
            return bad(format!(
                "{here}`head`: `partitions` is at least 1, or -1 for all, and not {partitions}"
            ));
        }
        Operation::Select { columns } => needs("select", "columns", columns.len())?,
        Operation::Drop { columns } => needs("drop", "columns", columns.len())?,
        Operation::Rename { columns } => needs("rename", "columns", columns.len())?,
        Operation::SortValues { by, ascending } => {
            let count = needs("sort_values", "by", by.len())?;
            if ascending.len() != 1 && ascending.len() != count {
                let found = ascending.len();
                return bad(format!(
                    "{here}`sort_values`: `ascending` has 1 entry or one for each of the {count} keys, and not {found}"
                ));
            }
            count + ascending.len()
        }
        Operation::Merge { right, left_on, right_on, .. } => {
            let (left, other) = (needs("merge", "left_on", left_on.len())?, right_on.len());
            if left != other {
                return bad(format!("{here}`merge`: `left_on` has {left} keys, and `right_on` has {other}"));
            }
            check_list(right, &format!("{here}`right`: "), depth + 1, totals)?;
            left + other
        }
        Operation::Fillna { value, columns } => {
            check_scalars(std::slice::from_ref(value), "fillna", "value", here)?;
            if value.is_null() {
                return bad(format!("{here}`fillna`: `value` is null, which replaces nothing"));
            }
            1 + columns.len()
        }
        Operation::Dropna { subset, .. } => subset.len(),
        _ => 0,
    };
    Ok(())
}

fn check_scalars(values: &[Value], name: &str, key: &str, here: &str) -> Result<(), BadOperations> {
    match values.iter().find(|value| value.is_array() || value.is_object()) {
        Some(_) => bad(format!(
            "{here}`{name}`: `{key}` takes numbers, strings, true, false and null, and no lists or objects"
        )),
        None => Ok(()),
    }
}

fn check_read(read: &ReadCsv, here: &str) -> Result<usize, BadOperations> {
    if read.paths.is_empty() {
        return bad(format!("{here}`read_csv` needs at least one entry in `paths`"));
    }
    let options = &read.options;
    for (key, character) in [("separator", options.separator), ("quote", options.quote)] {
        if !character.is_ascii() || matches!(character, '\n' | '\r' | '\0') {
            return bad(format!(
                "{here}`read_csv`: `{key}` is one ASCII character and no line end, and not {character:?}"
            ));
        }
    }
    if options.separator == options.quote {
        return bad(format!("{here}`read_csv`: `separator` and `quote` are the same character"));
    }
    if options.blocksize == 0 {
        return bad(format!("{here}`read_csv`: `blocksize` is at least 1 byte"));
    }
    Ok(read.paths.len() + options.dtypes.len() + options.null_words.as_ref().map_or(0, Vec::len))
}

fn check_apply(apply: &Apply, here: &str) -> Result<usize, BadOperations> {
    match (&apply.expression, &apply.function, &apply.wasm) {
        (Some(_), None, None) => Ok(1),
        (None, Some(_), None) if apply.column.is_none() => {
            bad(format!("{here}`apply`: `function` needs `column`, which is given to it"))
        }
        (None, Some(_), None) => Ok(1),
        (None, None, Some(_)) if apply.column.is_some() => {
            bad(format!("{here}`apply`: `column` belongs to `function`, and `wasm` has its own `columns`"))
        }
        (None, None, Some(wasm)) => check_wasm(wasm, here),
        (None, None, None) => {
            bad(format!("{here}`apply` needs `expression` (in SQL, such as \"x * 2\"), `function` or `wasm`"))
        }
        _ => bad(format!("{here}`apply` takes one of `expression`, `function` and `wasm`, and not several")),
    }
}

fn check_wasm(wasm: &WasmFunction, here: &str) -> Result<usize, BadOperations> {
    let is_hash = wasm.module.len() == HASH_DIGITS
        && wasm.module.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hash {
        return bad(format!(
            "{here}`apply`: `module` of `wasm` is the SHA-256 of a module, {HASH_DIGITS} hexadecimal digits in lower case, and not {:?}",
            wasm.module
        ));
    }
    if wasm.columns.is_empty() || wasm.columns.len() > MAX_WASM_COLUMNS {
        let found = wasm.columns.len();
        return bad(format!(
            "{here}`apply`: `wasm` takes 1 to {MAX_WASM_COLUMNS} `columns`, and not {found}"
        ));
    }
    Ok(1 + wasm.columns.len())
}
