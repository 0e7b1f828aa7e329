//! The language of the DataFrame: a list of operations as JSON, which is the same on every middleware.
//!
//! A list begins with a source and continues with what is done to it, in order. Each operation is an object with one key,
//! its name. This list counts the rows of each name and shows the first three:
//!
//! ```json
//! [{"read_csv": {"paths": ["data/*.csv"]}}, {"groupby": {"by": ["name"], "agg": ["count(x)"]}}, {"head": {"n": 3}}]
//! ```
//!
//! | operation | arguments | result |
//! | --- | --- | --- |
//! | `read_csv` | `paths`, and [`CsvOptions`] | the rows of all files, in the order of `paths` and then of file names |
//! | `apply` | `expression`; or `function` and `column`; or `wasm`: `module`, `function`, `columns`, `returns` ([`WasmFunction`]); and `as` | one column (`apply` unless `as` names it) |
//! | `assign` | `columns`: list of `[name, expression]` | the frame with these columns added or replaced, one after the other |
//! | `query` | `predicate` | the rows for which the predicate is true |
//! | `isin` | `values`, `column` | one Boolean column, or all columns as Booleans without `column` |
//! | `groupby` | `by`, `agg` | one row for each group, ordered by the keys |
//! | `head`, `tail` | `n`; `head`: `partitions` (−1 for all) | the first or last rows |
//! | `select` | `columns` | these columns |
//! | `columns`, `dtypes`, `len` | | the names; names and types; the number of rows |
//! | `items` | | pairs of a name and its column, in order |
//! | `max`, `min`, `sum`, `mean`, `count`, `std`, `var`, `nunique` | `columns` (all if empty) | one row |
//! | `describe`, `value_counts`, `unique` | `columns` / `column` | statistics; counts of values; distinct values |
//! | `sort_values` | `by`, `ascending` | the rows in order |
//! | `merge` | `right` (a list of operations), `how`, `left_on`, `right_on` | the rows of both that match |
//! | `drop`, `rename`, `fillna`, `dropna` | see [`Operation`] | the changed frame |
//! | `sql` | `query`; `name`, `tables` (names and lists of operations) | the result of a query on the table `df`, or `name`, and on `tables` |
//! | `persist` | | the same frame, computed once and kept |
//!
//! [`parse`] reads a list from JSON, and its errors name the operation and the key.

mod modules;
mod parse;
mod steps;

pub use modules::modules;
pub use parse::{BadOperations, MAX_MERGES, MAX_OPERATIONS, MAX_VALUES, check, name_of, names, parse};
pub use steps::{
    Apply, Compression, CsvOptions, Dtype, Join, Missing, Operation, ReadCsv, Reduction, WasmFunction,
};
