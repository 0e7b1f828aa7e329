//! Which files to read, and how.

use clap::{Args, ValueEnum};
use dataframe_jobs::operation::{Compression, CsvOptions, Dtype, Operation, ReadCsv};

/// The files of an operation.
#[derive(Debug, Clone, Args)]
pub struct SourceArguments {
    /// Files, folders, or patterns in quotes: 'data/*.csv'
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    #[command(flatten)]
    pub reading: ReadingArguments,
}

/// How CSV files are written.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Reading CSV")]
pub struct ReadingArguments {
    /// Between fields: one ASCII character, or `tab`
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = ascii)]
    pub separator: char,
    /// Around fields that have separators, quotes or newlines: one ASCII character
    #[arg(long, value_name = "CHARACTER", default_value = "\"", value_parser = ascii)]
    pub quote: char,
    /// The files begin with a row and not with the names of the columns
    #[arg(long)]
    pub no_header: bool,
    /// Word that means a missing value; can be given several times, in place of pandas' list
    #[arg(long, value_name = "WORD")]
    pub null_word: Option<Vec<String>>,
    /// Type of a column, which is then not inferred: bool, date, datetime, float64, int64 or string; can be given several times
    #[arg(long, value_name = "COLUMN=TYPE", value_parser = column_dtype)]
    pub dtype: Vec<(String, Dtype)>,
    /// How the files are compressed
    #[arg(long, value_name = "METHOD", default_value = "auto")]
    pub compression: CompressionName,
    /// Size of a partition in bytes, which is what `head` reads
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = dataframe_cluster::parse_bytes)]
    pub blocksize: u64,
}

/// A value of `--compression`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CompressionName {
    /// By the file's name: .gz and .zst are compressed.
    #[default]
    Auto,
    /// Not compressed.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl SourceArguments {
    /// Returns the operation that reads the files.
    #[must_use]
    pub fn operation(&self) -> Operation {
        read(&self.paths, &self.reading)
    }
}

/// Returns the operation that reads files.
#[must_use]
pub fn read(paths: &[String], reading: &ReadingArguments) -> Operation {
    let options = CsvOptions {
        separator: reading.separator,
        quote: reading.quote,
        header: !reading.no_header,
        null_words: reading.null_word.clone(),
        dtypes: reading.dtype.iter().cloned().collect(),
        compression: match reading.compression {
            CompressionName::Auto => Compression::Auto,
            CompressionName::None => Compression::None,
            CompressionName::Gzip => Compression::Gzip,
            CompressionName::Zstd => Compression::Zstd,
        },
        blocksize: reading.blocksize,
    };
    Operation::ReadCsv(ReadCsv { paths: paths.to_vec(), options })
}

fn ascii(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (text, characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(one), None) if one.is_ascii() => Ok(one),
        _ => Err("allowed: one ASCII character, or tab".to_owned()),
    }
}

fn column_dtype(text: &str) -> Result<(String, Dtype), String> {
    let (column, name) =
        text.rsplit_once('=').ok_or_else(|| format!("allowed: COLUMN=TYPE, with {DTYPES}"))?;
    let dtype = dtype(name).map_err(|_| format!("allowed: COLUMN=TYPE, with {DTYPES}"))?;
    Ok((column.to_owned(), dtype))
}

/// The types that a user can name.
const DTYPES: &str = "bool, date, datetime, float64, int64 or string";

/// Returns the type of this name.
///
/// # Errors
/// Fails with the names that there are.
pub fn dtype(name: &str) -> Result<Dtype, String> {
    Ok(match name {
        "bool" => Dtype::Bool,
        "date" => Dtype::Date,
        "datetime" => Dtype::Datetime,
        "float64" => Dtype::Float64,
        "int64" => Dtype::Int64,
        "string" => Dtype::String,
        _ => return Err(format!("allowed: {DTYPES}")),
    })
}
