//! One subcommand for each operation.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use dataframe_jobs::operation::Dtype;
use serde_json::Value;

use super::reading::{ReadingArguments, SourceArguments, dtype};

/// The operations on files.
#[derive(Debug, Clone, Subcommand)]
pub enum OperationCommand {
    /// Shows the first rows
    #[command(after_help = "Example:\n  dataframe head 'data/*.csv' -n 3")]
    Head {
        #[command(flatten)]
        source: SourceArguments,
        /// Number of rows
        #[arg(short = 'n', long, value_name = "N", default_value_t = 5)]
        rows: u64,
        /// Number of partitions that are read at most; -1 reads all that is needed
        #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..))]
        partitions: i64,
    },
    /// Shows the last rows
    #[command(after_help = "Example:\n  dataframe tail data.csv -n 3")]
    Tail {
        #[command(flatten)]
        source: SourceArguments,
        /// Number of rows
        #[arg(short = 'n', long, value_name = "N", default_value_t = 5)]
        rows: u64,
    },
    /// Shows one row for each group
    #[command(after_help = "Functions: count first last max mean min nunique size std sum var.\n\n\
                      Example:\n  dataframe groupby 'data/*.csv' --by name --agg 'mean(x)' 'max(y) as top'")]
    Groupby {
        #[command(flatten)]
        source: SourceArguments,
        /// Columns that make a group
        #[arg(long, value_name = "COLUMN", required = true, num_args = 1..)]
        by: Vec<String>,
        /// Aggregates such as 'mean(x)' or 'sum(x) as total'
        #[arg(long, value_name = "FUNCTION(COLUMN)", required = true, num_args = 1..)]
        agg: Vec<String>,
    },
    /// Computes a column from each row, by an expression in SQL, by a function of the workers, or by one of a WebAssembly module
    #[command(
        override_usage = "dataframe apply [FLAGS] PATH... EXPRESSION\n       dataframe apply [FLAGS] PATH... --function NAME --column COLUMN\n       dataframe apply [FLAGS] PATH... --wasm FILE --function NAME --columns COLUMN... --returns TYPE",
        after_help = "Examples:\n  dataframe apply data.csv 'x * 2 + length(name)'\n  dataframe apply data.csv --function upper --column name\n  dataframe apply data.csv --wasm score.wasm --function score --columns x n --returns float64"
    )]
    Apply {
        /// Files, and then the expression, unless there is --function
        #[arg(value_name = "PATH_OR_EXPRESSION", required = true)]
        words: Vec<String>,
        /// Name of a function that the workers have, or that the module of --wasm exports
        #[arg(long, value_name = "NAME")]
        function: Option<String>,
        /// Column for a function of the workers
        #[arg(long, value_name = "COLUMN", requires = "function", conflicts_with_all = ["columns", "returns"])]
        column: Option<String>,
        /// Columns for a function of a module
        #[arg(long, value_name = "COLUMN", num_args = 1.., requires_all = ["function", "returns"])]
        columns: Vec<String>,
        /// Type that a function of a module gives: bool, date, datetime, float64, int64 or string
        #[arg(long, value_name = "TYPE", requires_all = ["function", "columns"], value_parser = dtype)]
        returns: Option<Dtype>,
        /// Name of the result
        #[arg(long = "as", value_name = "NAME")]
        alias: Option<String>,
        #[command(flatten)]
        reading: ReadingArguments,
    },
    /// Shows the names of the columns
    Columns(SourceArguments),
    /// Shows the names and types of the columns
    Dtypes(SourceArguments),
    /// Tells whether each value is among others
    #[command(
        after_help = "Numbers, true, false and null mean themselves, and \"1\" in quotes is a text.\n\n\
                            Example:\n  dataframe isin data.csv --values 1 2 --column x"
    )]
    Isin {
        #[command(flatten)]
        source: SourceArguments,
        /// Values to look for
        #[arg(long, value_name = "VALUE", required = true, num_args = 1.., allow_negative_numbers = true, value_parser = literal)]
        values: Vec<Value>,
        /// Column to look at; all unless told otherwise
        #[arg(long, value_name = "COLUMN")]
        column: Option<String>,
    },
    /// Shows one column after the other, each with its name
    Items(SourceArguments),
    /// Shows the largest value of each column
    Max(ReductionArguments),
    /// Shows the smallest value of each column
    Min(ReductionArguments),
    /// Shows the sum of each column of numbers
    Sum(ReductionArguments),
    /// Shows the mean of each column of numbers
    Mean(ReductionArguments),
    /// Counts the values that are not null
    Count(ReductionArguments),
    /// Shows the standard deviation of each column of numbers, with n - 1
    Std(ReductionArguments),
    /// Shows the variance of each column of numbers, with n - 1
    Var(ReductionArguments),
    /// Counts the distinct values
    Nunique(ReductionArguments),
    /// Shows count, mean, std, min, quartiles and max of each column of numbers
    Describe(ReductionArguments),
    /// Counts how often each value of a column occurs
    ValueCounts(ColumnArguments),
    /// Shows the distinct values of a column
    Unique(ColumnArguments),
    /// Orders rows; null comes last
    #[command(after_help = "Example:\n  dataframe sort-values data.csv --by name x --ascending true false")]
    SortValues {
        #[command(flatten)]
        source: SourceArguments,
        /// Columns to order by
        #[arg(long, value_name = "COLUMN", required = true, num_args = 1..)]
        by: Vec<String>,
        /// One value, or one for each column
        #[arg(long, value_name = "TRUE_OR_FALSE", num_args = 1.., default_value = "true", action = clap::ArgAction::Append)]
        ascending: Vec<bool>,
    },
    /// Keeps the rows for which a predicate in SQL is true
    #[command(after_help = "Example:\n  dataframe query data.csv \"x > 3 and name = 'Ada'\"")]
    Query {
        #[command(flatten)]
        source: SourceArguments,
        /// The predicate
        #[arg(value_name = "PREDICATE")]
        predicate: String,
    },
    /// Adds columns or replaces them
    #[command(after_help = "Example:\n  dataframe assign data.csv --columns 'y=x * 2' 'z=length(name)'")]
    Assign {
        #[command(flatten)]
        source: SourceArguments,
        /// Names and expressions in SQL
        #[arg(long, value_name = "NAME=EXPRESSION", required = true, num_args = 1.., value_parser = pair)]
        columns: Vec<(String, String)>,
    },
    /// Joins with other files
    #[command(after_help = "Example:\n  dataframe merge people.csv --right cities.csv --on city --how left")]
    Merge {
        #[command(flatten)]
        source: SourceArguments,
        /// Files of the other side; the reading flags are those of both sides
        #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
        right: Vec<String>,
        /// Columns that are equal on both sides
        #[arg(long, value_name = "COLUMN", num_args = 1.., required_unless_present = "left_on", conflicts_with_all = ["left_on", "right_on"])]
        on: Vec<String>,
        /// Columns of the first side
        #[arg(long, value_name = "COLUMN", num_args = 1.., requires = "right_on")]
        left_on: Vec<String>,
        /// Columns of the other side
        #[arg(long, value_name = "COLUMN", num_args = 1.., requires = "left_on")]
        right_on: Vec<String>,
        /// Which rows are kept that match no other
        #[arg(long, value_name = "SIDE", default_value = "inner")]
        how: JoinName,
    },
    /// Removes columns
    Drop(ColumnsArguments),
    /// Keeps these columns, in this order
    Select(ColumnsArguments),
    /// Renames columns
    #[command(after_help = "Example:\n  dataframe rename data.csv --columns old=new x=temperature")]
    Rename {
        #[command(flatten)]
        source: SourceArguments,
        /// Old names and new names
        #[arg(long, value_name = "OLD=NEW", required = true, num_args = 1.., value_parser = pair)]
        columns: Vec<(String, String)>,
    },
    /// Replaces nulls
    #[command(after_help = "Example:\n  dataframe fillna data.csv --value 0 --columns x y")]
    Fillna {
        #[command(flatten)]
        source: SourceArguments,
        /// The value instead
        #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = literal)]
        value: Value,
        /// Only these columns
        #[arg(long, value_name = "COLUMN", num_args = 1..)]
        columns: Vec<String>,
    },
    /// Removes rows with nulls
    Dropna {
        #[command(flatten)]
        source: SourceArguments,
        /// `any`: rows with a null; `all`: rows of nulls alone
        #[arg(long, value_name = "HOW", default_value = "any")]
        how: MissingName,
        /// Only these columns are looked at
        #[arg(long, value_name = "COLUMN", num_args = 1..)]
        subset: Vec<String>,
    },
    /// Counts the rows
    Len(SourceArguments),
    /// Runs a query in SQL on the table `df`
    #[command(
        after_help = "Example:\n  dataframe sql 'data/*.csv' 'select name, avg(x) from df group by name'"
    )]
    Sql {
        #[command(flatten)]
        source: SourceArguments,
        /// The query
        #[arg(value_name = "QUERY")]
        query: String,
    },
    /// Writes all rows into one CSV file
    #[command(after_help = "Example:\n  dataframe to-csv 'data/*.csv.gz' --to all.csv")]
    ToCsv(TargetArguments),
    /// Writes all rows into one Parquet file
    #[command(after_help = "Example:\n  dataframe to-parquet 'data/*.csv' --to all.parquet")]
    ToParquet(TargetArguments),
}

/// The arguments of an aggregate over columns.
#[derive(Debug, Clone, Args)]
pub struct ReductionArguments {
    #[command(flatten)]
    pub source: SourceArguments,
    /// Only these columns
    #[arg(long, value_name = "COLUMN", num_args = 1..)]
    pub columns: Vec<String>,
}

/// The arguments of an operation on one column.
#[derive(Debug, Clone, Args)]
pub struct ColumnArguments {
    #[command(flatten)]
    pub source: SourceArguments,
    /// The column
    #[arg(long, value_name = "COLUMN")]
    pub column: String,
}

/// The arguments of an operation on columns.
#[derive(Debug, Clone, Args)]
pub struct ColumnsArguments {
    #[command(flatten)]
    pub source: SourceArguments,
    /// The columns
    #[arg(long, value_name = "COLUMN", required = true, num_args = 1..)]
    pub columns: Vec<String>,
}

/// The arguments of an operation that writes a file.
#[derive(Debug, Clone, Args)]
pub struct TargetArguments {
    #[command(flatten)]
    pub source: SourceArguments,
    /// The file to write; an existing one is replaced
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// A value of `merge --how`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "SQL's words")]
pub enum JoinName {
    Inner,
    Left,
    Right,
    Outer,
}

/// A value of `dropna --how`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "Dask's words")]
pub enum MissingName {
    Any,
    All,
}

/// A number, a Boolean, null or a text in quotes is what it is in JSON. Everything else is a text.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a result")]
fn literal(text: &str) -> Result<Value, String> {
    let value =
        serde_json::from_str(text).ok().filter(|value: &Value| !value.is_array() && !value.is_object());
    Ok(value.unwrap_or_else(|| Value::String(text.to_owned())))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("allowed: NAME=VALUE")?;
    if name.trim().is_empty() || value.trim().is_empty() {
        return Err("allowed: NAME=VALUE, neither of which is empty".to_owned());
    }
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
