//! Arguments → operations. Nothing is read or computed here.

use std::path::PathBuf;

use dataframe_jobs::operation::{Apply, Dtype, Join, Missing, Operation, Reduction, WasmFunction};

use crate::arguments::operations::{
    ColumnArguments, JoinName, MissingName, OperationCommand, ReductionArguments,
};
use crate::arguments::reading::{SourceArguments, read};
use crate::language::value::SavedFormat;

/// What a subcommand asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ShellJob {
    /// What is computed.
    pub operations: Vec<Operation>,
    /// The file that the result is written into, where it is not shown.
    pub target: Option<(PathBuf, SavedFormat)>,
}

/// Arguments that are wrong together. The exit code is 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongArguments(pub String);

/// Returns what a subcommand asks for. `modules` are the hashes of the modules of `--wasm`.
///
/// # Errors
/// Fails if its arguments do not go together.
pub fn job(command: OperationCommand, modules: &[&str]) -> Result<ShellJob, WrongArguments> {
    let (source, operation) = match command {
        OperationCommand::ToCsv(to) => return Ok(saved(&to.source, to.to, SavedFormat::Csv)),
        OperationCommand::ToParquet(to) => return Ok(saved(&to.source, to.to, SavedFormat::Parquet)),
        OperationCommand::Apply { words, function, column, columns, returns, alias, reading } => {
            let wasm = match (&function, returns) {
                (Some(function), Some(returns)) => {
                    Some(Box::new(of_module(modules, function.clone(), columns, returns)?))
                }
                _ => None,
            };
            let (paths, apply) = apply(words, function, column, wasm, alias)?;
            (read(&paths, &reading), Operation::Apply(apply))
        }
        OperationCommand::Merge { source, right, on, left_on, right_on, how } => {
            let (left_on, right_on) = if on.is_empty() { (left_on, right_on) } else { (on.clone(), on) };
            if left_on.len() != right_on.len() {
                return Err(WrongArguments("--left-on and --right-on name as many columns".to_owned()));
            }
            let right = vec![read(&right, &source.reading)];
            (source.operation(), Operation::Merge { right, how: join(how), left_on, right_on })
        }
        OperationCommand::SortValues { source, by, ascending } => {
            if ascending.len() != 1 && ascending.len() != by.len() {
                return Err(WrongArguments(
                    "--ascending has one value, or one for each column of --by".to_owned(),
                ));
            }
            (source.operation(), Operation::SortValues { by, ascending })
        }
        OperationCommand::Head { partitions: 0, .. } => {
            return Err(WrongArguments("--partitions is 1 or more, or -1 for all".to_owned()));
        }
        other => plain(other)?,
    };
    Ok(ShellJob { operations: vec![source, operation], target: None })
}

fn plain(command: OperationCommand) -> Result<(Operation, Operation), WrongArguments> {
    use OperationCommand as Command;
    Ok(match command {
        Command::Head { source, rows, partitions } => {
            (source.operation(), Operation::Head { n: rows, partitions })
        }
        Command::Tail { source, rows } => (source.operation(), Operation::Tail { n: rows }),
        Command::Groupby { source, by, agg } => (source.operation(), Operation::Groupby { by, agg }),
        Command::Columns(source) => (source.operation(), Operation::Columns {}),
        Command::Dtypes(source) => (source.operation(), Operation::Dtypes {}),
        Command::Isin { source, values, column } => (source.operation(), Operation::Isin { values, column }),
        Command::Items(source) => (source.operation(), Operation::Items {}),
        Command::Len(source) => (source.operation(), Operation::Len {}),
        Command::Max(of) => reduced(of, Operation::Max),
        Command::Min(of) => reduced(of, Operation::Min),
        Command::Sum(of) => reduced(of, Operation::Sum),
        Command::Mean(of) => reduced(of, Operation::Mean),
        Command::Count(of) => reduced(of, Operation::Count),
        Command::Std(of) => reduced(of, Operation::Std),
        Command::Var(of) => reduced(of, Operation::Var),
        Command::Nunique(of) => reduced(of, Operation::Nunique),
        Command::Describe(of) => reduced(of, Operation::Describe),
        Command::ValueCounts(ColumnArguments { source, column }) => {
            (source.operation(), Operation::ValueCounts { column })
        }
        Command::Unique(ColumnArguments { source, column }) => {
            (source.operation(), Operation::Unique { column })
        }
        Command::Query { source, predicate } => (source.operation(), Operation::Query { predicate }),
        Command::Assign { source, columns } => (source.operation(), Operation::Assign { columns }),
        Command::Drop(of) => (of.source.operation(), Operation::Drop { columns: of.columns }),
        Command::Select(of) => (of.source.operation(), Operation::Select { columns: of.columns }),
        Command::Rename { source, columns } => {
            (source.operation(), Operation::Rename { columns: columns.into_iter().collect() })
        }
        Command::Fillna { source, value, columns } => {
            (source.operation(), Operation::Fillna { value, columns })
        }
        Command::Dropna { source, how, subset } => {
            let how = match how {
                MissingName::Any => Missing::Any,
                MissingName::All => Missing::All,
            };
            (source.operation(), Operation::Dropna { how, subset })
        }
        Command::Sql { source, query } => (source.operation(), Operation::sql(query)),
        Command::Apply { .. }
        | Command::Merge { .. }
        | Command::SortValues { .. }
        | Command::ToCsv(_)
        | Command::ToParquet(_) => {
            return Err(WrongArguments("this operation takes other arguments".to_owned()));
        }
    })
}

fn reduced(of: ReductionArguments, operation: fn(Reduction) -> Operation) -> (Operation, Operation) {
    (of.source.operation(), operation(Reduction { columns: of.columns }))
}

fn saved(source: &SourceArguments, to: PathBuf, format: SavedFormat) -> ShellJob {
    ShellJob { operations: vec![source.operation()], target: Some((to, format)) }
}

fn join(how: JoinName) -> Join {
    match how {
        JoinName::Inner => Join::Inner,
        JoinName::Left => Join::Left,
        JoinName::Right => Join::Right,
        JoinName::Outer => Join::Outer,
    }
}

fn of_module(
    modules: &[&str],
    function: String,
    columns: Vec<String>,
    returns: Dtype,
) -> Result<WasmFunction, WrongArguments> {
    match modules {
        [module] => Ok(WasmFunction { module: (*module).to_owned(), function, columns, returns }),
        [] => Err(WrongArguments(
            "--columns and --returns belong to a function of a module: --wasm FILE".to_owned(),
        )),
        _ => Err(WrongArguments("`apply` calls a function of one module: give --wasm once".to_owned())),
    }
}

/// The last word is the expression, unless there is a function.
fn apply(
    mut words: Vec<String>,
    function: Option<String>,
    column: Option<String>,
    wasm: Option<Box<WasmFunction>>,
    alias: Option<String>,
) -> Result<(Vec<String>, Apply), WrongArguments> {
    if function.is_some() && column.is_none() && wasm.is_none() {
        let message =
            "--function needs --column, or, for a function of a module, --wasm, --columns and --returns";
        return Err(WrongArguments(message.to_owned()));
    }
    let expression = if function.is_some() { None } else { words.pop() };
    if words.is_empty() {
        let message = "`apply` needs a PATH and an EXPRESSION: dataframe apply data.csv 'x * 2'; try --help";
        return Err(WrongArguments(message.to_owned()));
    }
    let function = function.filter(|_| wasm.is_none());
    Ok((words, Apply { expression, function, column, wasm, alias }))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::arguments::{DataframeArguments, DataframeCommand};

    fn job_of(line: &[&str]) -> Result<ShellJob, WrongArguments> {
        let words = std::iter::once("dataframe").chain(line.iter().copied());
        match DataframeArguments::try_parse_from(words).unwrap().action {
            DataframeCommand::Operation(command) => job(command, &["3f2a"]),
            other => panic!("{other:?}"),
        }
    }

    /// The operations behind `read_csv`, as JSON.
    fn json_of(line: &[&str]) -> Value {
        let job = job_of(line).unwrap();
        assert!(matches!(job.operations[0], Operation::ReadCsv(_)));
        serde_json::to_value(&job.operations[1..]).unwrap()
    }

    #[test]
    fn each_operation_has_its_arguments() {
        let cases: &[(&[&str], Value)] = &[
            (&["head", "a.csv", "-n", "3"], json!([{"head": {"n": 3, "partitions": 1}}])),
            (&["head", "a.csv", "--partitions", "-1"], json!([{"head": {"n": 5, "partitions": -1}}])),
            (
                &["groupby", "a.csv", "--by", "k", "j", "--agg", "mean(x)"],
                json!([{"groupby": {"by": ["k", "j"], "agg": ["mean(x)"]}}]),
            ),
            (&["apply", "a.csv", "b.csv", "x * 2"], json!([{"apply": {"expression": "x * 2"}}])),
            (
                &["apply", "a.csv", "--function", "upper", "--column", "x"],
                json!([{"apply": {"function": "upper", "column": "x"}}]),
            ),
            (
                &[
                    "apply",
                    "a.csv",
                    "--function",
                    "f",
                    "--columns",
                    "x",
                    "y",
                    "--returns",
                    "string",
                    "--as",
                    "z",
                ],
                json!([{"apply": {
                    "wasm": {"module": "3f2a", "function": "f", "columns": ["x", "y"], "returns": "string"}, "as": "z"
                }}]),
            ),
            (&["columns", "a.csv"], json!([{"columns": {}}])),
            (
                &["isin", "a.csv", "--values", "1", "-2.5", "x", "\"1\"", "null", "true", "--column", "x"],
                json!([{"isin": {"values": [1, -2.5, "x", "1", null, true], "column": "x"}}]),
            ),
            (&["max", "a.csv", "--columns", "x", "y"], json!([{"max": {"columns": ["x", "y"]}}])),
            (&["min", "a.csv"], json!([{"min": {}}])),
            (&["value-counts", "a.csv", "--column", "x"], json!([{"value_counts": {"column": "x"}}])),
            (
                &["sort-values", "a.csv", "--by", "x", "y", "--ascending", "true", "false"],
                json!([{"sort_values": {"by": ["x", "y"], "ascending": [true, false]}}]),
            ),
            (&["query", "a.csv", "x > 3"], json!([{"query": {"predicate": "x > 3"}}])),
            (
                &["assign", "a.csv", "--columns", "y=x = 2"],
                json!([{"assign": {"columns": [["y", "x = 2"]]}}]),
            ),
            (&["rename", "a.csv", "--columns", "a=b"], json!([{"rename": {"columns": {"a": "b"}}}])),
            (&["fillna", "a.csv", "--value", "-1"], json!([{"fillna": {"value": -1}}])),
            (&["dropna", "a.csv", "--how", "all"], json!([{"dropna": {"how": "all"}}])),
            (&["sql", "a.csv", "b.csv", "select 1 from df"], json!([{"sql": {"query": "select 1 from df"}}])),
        ];
        for (line, expected) in cases {
            assert_eq!(json_of(line), *expected, "{line:?}");
        }
    }

    #[test]
    fn reading_flags_belong_to_the_source() {
        let job = job_of(&[
            "merge",
            "a.csv",
            "--right",
            "b.csv",
            "--on",
            "k",
            "--separator",
            "tab",
            "--no-header",
            "--dtype",
            "x=int64",
            "--null-word",
            "-",
            "--compression",
            "gzip",
            "--blocksize",
            "1MiB",
        ])
        .unwrap();
        let options = json!({
            "separator": "\t", "quote": "\"", "header": false, "null_words": ["-"], "dtypes": {"x": "int64"},
            "compression": "gzip", "blocksize": 1 << 20,
        });
        let with_paths = |path: &str| {
            let mut read = options.clone();
            read["paths"] = json!([path]);
            json!({"read_csv": read})
        };
        let expected = json!([
            with_paths("a.csv"),
            {"merge": {"right": [with_paths("b.csv")], "how": "inner", "left_on": ["k"], "right_on": ["k"]}},
        ]);
        assert_eq!(serde_json::to_value(&job.operations).unwrap(), expected);
    }

    #[test]
    fn arguments_that_do_not_go_together_are_refused() {
        for line in [
            &["apply", "a.csv"][..],
            &["apply", "a.csv", "--function", "f"],
            &["head", "a.csv", "--partitions", "0"],
            &["sort-values", "a.csv", "--by", "x", "--ascending", "true", "false"],
            &["merge", "a.csv", "--right", "b.csv", "--left-on", "x", "--right-on", "y", "z"],
        ] {
            assert!(job_of(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_target_is_no_operation() {
        let job = job_of(&["to-parquet", "a.csv", "--to", "b.parquet"]).unwrap();
        assert_eq!(job.operations.len(), 1);
        assert_eq!(job.target, Some((PathBuf::from("b.parquet"), SavedFormat::Parquet)));
    }
}
