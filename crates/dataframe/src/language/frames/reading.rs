//! `read_csv(...)`.

use std::collections::BTreeMap;

use dataframe_jobs::operation::{Compression, CsvOptions, Dtype, Operation, ReadCsv};
use serde_json::Value;

use crate::language::call::{CallArguments, GivenArgument};
use crate::language::fault::LineFault;
use crate::language::value::ShellValue;

const USAGE: &str = "read_csv(\"data/*.csv\", sep=\";\", quotechar='\"', header=True, na_values=[\"-\"], dtype={\"x\": \"int64\"}, compression=\"gzip\", blocksize=1048576)";

/// Calls `read_csv`.
///
/// # Errors
/// Fails if the arguments are wrong.
pub fn read_csv(mut arguments: CallArguments) -> Result<ShellValue, LineFault> {
    let paths = arguments.texts(&["path", "paths", "urlpath"], USAGE)?;
    if paths.is_empty() {
        return Err(arguments.fault(format!("a path is missing: {USAGE}")));
    }
    let mut options = CsvOptions::default();
    for given in arguments.take_all() {
        set(&mut options, &given)?;
    }
    Ok(ShellValue::Frame(vec![Operation::ReadCsv(ReadCsv { paths, options })]))
}

fn set(options: &mut CsvOptions, given: &GivenArgument) -> Result<(), LineFault> {
    let ShellValue::Literal(value) = &given.value else { return Err(given.wrong("a value", USAGE)) };
    match (given.name.as_deref().unwrap_or_default(), value) {
        ("sep" | "separator" | "delimiter", Value::String(text)) => {
            options.separator = character(given, text)?;
        }
        ("quotechar" | "quote", Value::String(text)) => options.quote = character(given, text)?,
        ("header", Value::Bool(header)) => options.header = *header,
        // pandas counts lines from 0, and says None where there is no header.
        ("header", Value::Number(line)) if line.as_u64() == Some(0) => options.header = true,
        ("header", Value::Null) => options.header = false,
        ("header", Value::String(text)) if text == "infer" => options.header = true,
        ("na_values" | "null_words", Value::String(word)) => options.null_words = Some(vec![word.clone()]),
        ("na_values" | "null_words", Value::Array(words)) => {
            let words: Option<Vec<_>> = words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
            options.null_words = Some(words.ok_or_else(|| given.wrong("a list of texts", USAGE))?);
        }
        ("dtype" | "dtypes", Value::Object(types)) => options.dtypes = dtypes(types, given)?,
        ("compression", Value::Null) => options.compression = Compression::None,
        ("compression", Value::String(name)) => {
            options.compression = match name.as_str() {
                "infer" | "auto" => Compression::Auto,
                "none" => Compression::None,
                "gzip" | "gz" => Compression::Gzip,
                "zstd" | "zst" => Compression::Zstd,
                _ => return Err(given.wrong("\"auto\", \"none\", \"gzip\" or \"zstd\"", USAGE)),
            };
        }
        ("blocksize", Value::Number(bytes)) => {
            let bytes = bytes.as_u64().filter(|bytes| *bytes > 0);
            options.blocksize = bytes.ok_or_else(|| given.wrong("a number of bytes", USAGE))?;
        }
        (name, _) => return Err(refuse(given, name)),
    }
    Ok(())
}

fn refuse(given: &GivenArgument, name: &str) -> LineFault {
    let known = [
        "sep",
        "separator",
        "delimiter",
        "quotechar",
        "quote",
        "header",
        "na_values",
        "null_words",
        "dtype",
        "dtypes",
        "compression",
        "blocksize",
    ];
    let message = if known.contains(&name) {
        format!("`{name}` cannot be {}: {USAGE}", given.value.kind())
    } else {
        format!("`read_csv` does not take `{name}`: {USAGE}")
    };
    LineFault::new(given.at.clone(), message)
}

fn character(given: &GivenArgument, text: &str) -> Result<char, LineFault> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if one.is_ascii() => Ok(one),
        _ => Err(given.wrong("one ASCII character", USAGE)),
    }
}

fn dtypes(
    types: &serde_json::Map<String, Value>,
    given: &GivenArgument,
) -> Result<BTreeMap<String, Dtype>, LineFault> {
    types
        .iter()
        .map(|(column, name)| {
            let message = || {
                format!(
                    "the type of {column:?} is one of \"bool\", \"date\", \"datetime\", \"float64\", \"int64\", \"string\""
                )
            };
            let dtype = name.as_str().and_then(dtype);
            let dtype = dtype.ok_or_else(|| LineFault::new(given.at.clone(), message()))?;
            Ok((column.clone(), dtype))
        })
        .collect()
}

/// The type of this name, as pandas or as this language writes it.
pub(super) fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "bool" | "boolean" => Dtype::Bool,
        "int64" | "int" => Dtype::Int64,
        "float64" | "float" => Dtype::Float64,
        "date" => Dtype::Date,
        "datetime" | "datetime64[ns]" => Dtype::Datetime,
        "str" | "string" | "object" => Dtype::String,
        _ => return None,
    })
}
