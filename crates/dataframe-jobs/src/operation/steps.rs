//! The operations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One step of a computation. The documentation of the [module](crate::operation) has the table of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Reads CSV files. The first operation of a list.
    ReadCsv(ReadCsv),
    /// Computes one column from each row, by an expression in SQL, by a function of the workers, or by one of a WebAssembly module.
    Apply(Apply),
    /// Adds or replaces columns: `[["y", "x + 1"], ["z", "y * 2"]]`. A later expression sees the earlier columns.
    Assign {
        /// Names and expressions in SQL.
        columns: Vec<(String, String)>,
    },
    /// Keeps the rows for which a predicate in SQL is true.
    Query {
        /// The predicate, such as `x > 3 and name = 'Ada'`.
        predicate: String,
    },
    /// Tells whether each value is among `values`.
    Isin {
        /// Numbers, strings, Booleans or null.
        values: Vec<Value>,
        /// The column to look at; all columns where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<String>,
    },
    /// Groups rows by keys and aggregates each group. Rows with a null key are dropped, as in Dask.
    Groupby {
        /// The keys.
        by: Vec<String>,
        /// Aggregates such as `mean(x)` or `sum(v1) as total`; functions: `count max mean min nunique size std sum var first last`.
        agg: Vec<String>,
    },
    /// The first rows.
    Head {
        /// How many rows.
        #[serde(default = "five")]
        n: u64,
        /// How many partitions are read at most; −1 for all.
        #[serde(default = "one")]
        partitions: i64,
    },
    /// The last rows, of the last partition.
    Tail {
        /// How many rows.
        #[serde(default = "five")]
        n: u64,
    },
    /// Keeps these columns, in this order.
    Select {
        /// Names of columns.
        columns: Vec<String>,
    },
    /// The names of the columns, as a frame of one column `column`.
    Columns {},
    /// Names and types, as a frame of the columns `column` and `dtype`.
    Dtypes {},
    /// The columns one after the other, as pairs of a name and the column.
    Items {},
    /// The number of rows, as a frame of one column `len`.
    Len {},
    /// The largest value of each column.
    Max(Reduction),
    /// The smallest value of each column.
    Min(Reduction),
    /// The sum of each column of numbers; 0 for no value.
    Sum(Reduction),
    /// The mean of each column of numbers.
    Mean(Reduction),
    /// The number of values that are not null, of each column.
    Count(Reduction),
    /// The standard deviation of each column of numbers, with n − 1.
    Std(Reduction),
    /// The variance of each column of numbers, with n − 1.
    Var(Reduction),
    /// The number of distinct values of each column, without null.
    Nunique(Reduction),
    /// count, mean, std, min, quartiles and max of each column of numbers.
    Describe(Reduction),
    /// How often each value of a column occurs, most frequent first.
    ValueCounts {
        /// The column.
        column: String,
    },
    /// The distinct values of a column, in the order of their first appearance.
    Unique {
        /// The column.
        column: String,
    },
    /// Orders rows. Null comes last.
    SortValues {
        /// The keys.
        by: Vec<String>,
        /// One for each key, or one for all.
        #[serde(default = "ascending")]
        ascending: Vec<bool>,
    },
    /// Joins with another frame.
    Merge {
        /// The operations that make the other frame.
        right: Vec<Operation>,
        /// `inner`, `left`, `right` or `outer`.
        #[serde(default)]
        how: Join,
        /// Keys on this side.
        left_on: Vec<String>,
        /// Keys on the other side.
        right_on: Vec<String>,
    },
    /// Removes columns.
    Drop {
        /// Names of columns.
        columns: Vec<String>,
    },
    /// Renames columns: `{"old": "new"}`.
    Rename {
        /// Old names and new names.
        columns: BTreeMap<String, String>,
    },
    /// Replaces nulls by a value, in the columns whose type can hold the value.
    Fillna {
        /// The value.
        value: Value,
        /// Only these columns; all where empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        columns: Vec<String>,
    },
    /// Removes rows with nulls.
    Dropna {
        /// `any`: rows with a null; `all`: rows of nulls alone.
        #[serde(default)]
        how: Missing,
        /// Only these columns are looked at; all where empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        subset: Vec<String>,
    },
    /// Runs a query in SQL on the frame, and on others.
    Sql {
        /// The query.
        query: String,
        /// The name of the frame in the query.
        #[serde(default = "df", skip_serializing_if = "is_df")]
        name: String,
        /// Further tables: their names in the query, and the operations that make each.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tables: BTreeMap<String, Vec<Operation>>,
    },
    /// Computes the frame so far once, and keeps it.
    Persist {},
}

impl Operation {
    /// A query in SQL on the table `df`.
    #[must_use]
    pub fn sql(query: impl Into<String>) -> Operation {
        Operation::Sql { query: query.into(), name: df(), tables: BTreeMap::new() }
    }

    /// The lists of operations inside this one: that of a merge, or those of a query's tables.
    pub fn lists(&self) -> impl Iterator<Item = &Vec<Operation>> {
        let (right, tables) = match self {
            Operation::Merge { right, .. } => (Some(right), None),
            Operation::Sql { tables, .. } => (None, Some(tables)),
            _ => (None, None),
        };
        right.into_iter().chain(tables.into_iter().flat_map(BTreeMap::values))
    }

    /// As [`Operation::lists`], to change them.
    pub fn lists_mut(&mut self) -> impl Iterator<Item = &mut Vec<Operation>> {
        let (right, tables) = match self {
            Operation::Merge { right, .. } => (Some(right), None),
            Operation::Sql { tables, .. } => (None, Some(tables)),
            _ => (None, None),
        };
        right.into_iter().chain(tables.into_iter().flat_map(BTreeMap::values_mut))
    }
}

/// Which files to read, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ReadCsvKeys")]
pub struct ReadCsv {
    /// Files, folders and patterns (`data/*.csv`), also in a bucket (`s3://BUCKET/data/*.csv`). `worker://NAME/PATH` is a file that
    /// only that worker has, and `worker://*/PATH` is that file on each worker.
    pub paths: Vec<String>,
    /// How the files are written.
    #[serde(flatten)]
    pub options: CsvOptions,
}

/// The keys of `read_csv`. A struct inside another one cannot tell which keys are unknown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadCsvKeys {
    paths: Vec<String>,
    separator: Option<char>,
    quote: Option<char>,
    header: Option<bool>,
    null_words: Option<Vec<String>>,
    dtypes: Option<BTreeMap<String, Dtype>>,
    compression: Option<Compression>,
    blocksize: Option<u64>,
}

impl From<ReadCsvKeys> for ReadCsv {
    fn from(keys: ReadCsvKeys) -> Self {
        let default = CsvOptions::default();
        Self {
            paths: keys.paths,
            options: CsvOptions {
                separator: keys.separator.unwrap_or(default.separator),
                quote: keys.quote.unwrap_or(default.quote),
                header: keys.header.unwrap_or(default.header),
                null_words: keys.null_words,
                dtypes: keys.dtypes.unwrap_or_default(),
                compression: keys.compression.unwrap_or_default(),
                blocksize: keys.blocksize.unwrap_or(default.blocksize),
            },
        }
    }
}

/// How CSV files are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvOptions {
    /// Between fields: one ASCII character. `,`
    pub separator: char,
    /// Around fields with separators, quotes or newlines; doubled inside them. `"`
    pub quote: char,
    /// Whether the first line of each file has the names of the columns. `true`
    pub header: bool,
    /// The words that mean a missing value, besides the empty field; pandas' list unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null_words: Option<Vec<String>>,
    /// Types that are fixed and not inferred: `int64`, `float64`, `bool`, `string`, `date`, `datetime`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dtypes: BTreeMap<String, Dtype>,
    /// `auto` goes by the file's name.
    pub compression: Compression,
    /// Size of a partition in bytes: what `head` reads first. 64 MiB.
    pub blocksize: u64,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            separator: ',',
            quote: '"',
            header: true,
            null_words: None,
            dtypes: BTreeMap::new(),
            compression: Compression::Auto,
            blocksize: 64 << 20,
        }
    }
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dtype {
    Bool,
    Int64,
    Float64,
    Date,
    Datetime,
    String,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// By the file's name: `.gz` and `.zst` are compressed.
    #[default]
    Auto,
    /// Not compressed.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// The arguments of [`Operation::Apply`]. One of `expression`, `function` and `wasm` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// An expression in SQL on the columns of a row: `x * 2 + length(name)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// The name of a function that the workers have registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The column that is given to `function`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// A function that travels with the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasm: Option<Box<WasmFunction>>,
    /// The name of the result.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

/// A function of a WebAssembly module. The crate `dataframe-wasm` documents what a module exports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WasmFunction {
    /// The SHA-256 of the module's bytes, as 64 hexadecimal digits in lower case.
    pub module: String,
    /// The name under which the module exports the function.
    pub function: String,
    /// The columns that are given to it, in order.
    pub columns: Vec<String>,
    /// The type of the result.
    pub returns: Dtype,
}

/// The arguments of an aggregate over whole columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduction {
    /// The columns; all that the aggregate can be made of where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// Which rows a merge keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "SQL's words")]
pub enum Join {
    #[default]
    Inner,
    Left,
    Right,
    Outer,
}

/// Which rows `dropna` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Dask's words")]
pub enum Missing {
    #[default]
    Any,
    All,
}

fn five() -> u64 {
    5
}

fn one() -> i64 {
    1
}

fn ascending() -> Vec<bool> {
    vec![true]
}

fn df() -> String {
    "df".to_owned()
}

fn is_df(name: &String) -> bool {
    *name == df()
}
