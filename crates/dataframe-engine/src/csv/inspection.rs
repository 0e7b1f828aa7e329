//! What is known of the files behind a `read_csv` before they are read.

use dataframe_jobs::operation::{Compression, CsvOptions, Dtype, ReadCsv};
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::files::{self, CsvFile, unreadable};
use super::inference::{ColumnSample, FileSample, sample_file};
use super::null_words::NullWords;
use super::records::{RecordsError, record_starts};
use super::values::is_read_by_arrow;
use crate::error::{FrameError, Widening, Widenings};

/// How much of the first file is looked at.
const FIRST_SAMPLE_BYTES: usize = 1 << 20;
/// How much of each other file is looked at.
const OTHER_SAMPLE_BYTES: usize = 16 << 10;
/// How far boundaries are apart that are looked for in advance.
const BOUNDARY_DISTANCE: u64 = 4 << 20;

/// Files, columns and options of a `read_csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// In the order in which their rows stand in the frame.
    pub files: Vec<CsvFile>,
    /// The columns of the frame.
    pub columns: Vec<CsvColumn>,
    /// How the files are written.
    pub options: CsvOptions,
    /// Whether a quote has been seen, so that a newline need not end a record.
    pub quotes: bool,
}

/// A column, and how its values are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvColumn {
    /// The name, which is unique.
    pub name: String,
    /// The type.
    pub dtype: Dtype,
    /// The user has fixed the type.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fixed: bool,
    /// The column has values that arrow's parser does not read, such as words for missing values. It is read as text first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub careful: bool,
    /// The column is `float64` because of a value behind the sample. An integer beyond 64 bits makes it `string`, so that
    /// the type does not depend on which of the two is found first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub widened: bool,
    /// What the type was inferred from, for the case that another place knows more of the column.
    #[serde(default)]
    sample: ColumnSample,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Finds the files behind a `read_csv`, and the names and types of their columns from samples.
///
/// # Errors
/// [`FrameError::File`] if a file is missing or unreadable; [`FrameError::BadJob`] if a file has no columns, other columns than
/// the first one, too many fields in a line of the sample, or is not UTF-8, or if an option is wrong.
pub async fn inspect(read: &ReadCsv) -> Result<Inspection, FrameError> {
    let read = read.clone();
    tokio::task::spawn_blocking(move || inspect_blocking(&read))
        .await
        .map_err(|error| FrameError::Internal(format!("looking at CSV files ended early: {error}")))?
}

fn inspect_blocking(read: &ReadCsv) -> Result<Inspection, FrameError> {
    let options = &read.options;
    let dialect = Dialect::new(options)?;
    let null_words = NullWords::new(options.null_words.as_deref());
    let mut first: Option<(String, FileSample)> = None;
    let mut files = files::list_files(&read.paths, options.compression)?;
    for file in &mut files {
        let bytes = if first.is_none() { FIRST_SAMPLE_BYTES } else { OTHER_SAMPLE_BYTES };
        let sample = sample_file(file, dialect, &null_words, bytes)?;
        // A file without a record adds no row, as in Dask.
        if sample.names.is_empty() {
            continue;
        }
        match &mut first {
            None => first = Some((file.path.clone(), sample)),
            Some((first_path, known)) => {
                file.order = join_sample(first_path, known, &file.path, &sample, options.header)?;
            }
        }
    }
    let Some((_, sample)) = first else {
        let paths = read.paths.join(", ");
        return Err(FrameError::BadJob(format!("{paths}: no columns to read: the file is empty")));
    };
    let columns = fixed_columns(&sample, options, &null_words)?;
    Ok(Inspection { files, columns, options: options.clone(), quotes: sample.quotes })
}

/// Adds what another file shows. Returns the order of its columns if it differs.
fn join_sample(
    first_path: &str,
    known: &mut FileSample,
    path: &str,
    sample: &FileSample,
    header: bool,
) -> Result<Vec<usize>, FrameError> {
    known.quotes |= sample.quotes;
    let order = if header {
        column_order(&known.names, &sample.names)
            .ok_or_else(|| other_columns(first_path, &known.names, path, &sample.names))?
    } else if sample.names.len() > known.names.len() {
        return Err(other_columns(first_path, &known.names, path, &sample.names));
    } else {
        (0..sample.names.len()).collect()
    };
    for (field, column) in order.iter().enumerate() {
        known.columns[*column].join(sample.columns[field]);
    }
    let is_same = order.iter().enumerate().all(|(field, column)| field == *column);
    Ok(if is_same { Vec::new() } else { order })
}

fn column_order(first: &[String], other: &[String]) -> Option<Vec<usize>> {
    if first.len() != other.len() {
        return None;
    }
    other.iter().map(|name| first.iter().position(|known| known == name)).collect()
}

fn other_columns(first_path: &str, first: &[String], path: &str, other: &[String]) -> FrameError {
    FrameError::BadJob(format!(
        "{path}: the file has the columns {other:?}, and {first_path} has {first:?}: read files with other columns on their own"
    ))
}

fn fixed_columns(
    sample: &FileSample,
    options: &CsvOptions,
    null_words: &NullWords,
) -> Result<Vec<CsvColumn>, FrameError> {
    if let Some(name) = options.dtypes.keys().find(|name| !sample.names.contains(name)) {
        let names = &sample.names;
        return Err(FrameError::BadJob(format!(
            "a type is given for the column {name:?}, and the columns are {names:?}"
        )));
    }
    let column = |(name, values): (&String, &ColumnSample)| {
        CsvColumn::new(name.clone(), options.dtypes.get(name).copied(), *values, null_words)
    };
    Ok(sample.names.iter().zip(&sample.columns).map(column).collect())
}

impl CsvColumn {
    /// The column with the type that the user has told, or else with the one that its values show.
    fn new(name: String, told: Option<Dtype>, sample: ColumnSample, null_words: &NullWords) -> Self {
        let dtype = told.unwrap_or_else(|| sample.dtype());
        // Arrow's parser takes a word such as -999 for a number. NaN becomes null in any case.
        let is_value =
            |word: &str| !word.to_ascii_lowercase().contains("nan") && is_read_by_arrow(word, dtype);
        let careful = sample.is_careful(dtype) || (dtype != Dtype::String && null_words.iter().any(is_value));
        Self { name, dtype, fixed: told.is_some(), careful, widened: false, sample }
    }
}

impl Inspection {
    /// Joins what several places know about the same `read_csv`, in order: files that only one worker has, with its name.
    ///
    /// # Errors
    /// [`FrameError::BadJob`] if there is nothing to join, or if their columns differ.
    pub fn join(parts: Vec<(Option<String>, Self)>) -> Result<Self, FrameError> {
        let mut joined: Option<Self> = None;
        for (worker, mut part) in parts {
            for file in &mut part.files {
                file.worker.clone_from(&worker);
            }
            match &mut joined {
                None => joined = Some(part),
                Some(joined) => joined.add(part)?,
            }
        }
        joined.ok_or_else(|| FrameError::BadJob("read_csv has no path".to_owned()))
    }

    fn add(&mut self, part: Self) -> Result<(), FrameError> {
        let names =
            |columns: &[CsvColumn]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let (first, other) = (names(&self.columns), names(&part.columns));
        if first != other {
            let path = |files: &[CsvFile]| files.first().map_or_else(String::new, |file| file.path.clone());
            return Err(other_columns(&path(&self.files), &first, &path(&part.files), &other));
        }
        // The types come from the values of all parts. A part without rows shows none.
        let null_words = NullWords::new(self.options.null_words.as_deref());
        for (column, other) in self.columns.iter_mut().zip(part.columns) {
            let mut sample = column.sample;
            sample.join(other.sample);
            let told = column.fixed.then_some(column.dtype);
            *column = CsvColumn::new(other.name, told, sample, &null_words);
        }
        self.quotes |= part.quotes;
        self.files.extend(part.files);
        Ok(())
    }

    /// The same with what scans have found since.
    #[must_use]
    pub fn widened(&self, widenings: &Widenings) -> Self {
        let mut widened = self.clone();
        for widening in widenings.iter() {
            if self.files.iter().any(|file| file.path == widening.file()) {
                widened.widen(widening);
            }
        }
        widened
    }

    fn widen(&mut self, widening: &Widening) {
        let column =
            |columns: &mut Vec<CsvColumn>, name: &str| columns.iter().position(|column| column.name == name);
        match widening {
            Widening::Quotes { .. } => self.quotes = true,
            Widening::Spelling { name, .. } => {
                if let Some(at) = column(&mut self.columns, name) {
                    self.columns[at].careful = true;
                }
            }
            Widening::Column { name, dtype, .. } => {
                if let Some(at) = column(&mut self.columns, name) {
                    let column = &mut self.columns[at];
                    if column.dtype == Dtype::Int64 && *dtype == Dtype::Float64 {
                        (column.careful, column.widened) = (true, true);
                    }
                    column.dtype = wider(column.dtype, *dtype);
                }
            }
        }
    }

    /// Looks for beginnings of records, a few MiB apart, in large files with quotes: what a machine needs to know that cuts
    /// the files but does not have them. Does nothing where no quote has been seen.
    ///
    /// # Errors
    /// As those of [`inspect`].
    pub fn find_boundaries(&mut self) -> Result<(), FrameError> {
        if !self.quotes {
            return Ok(());
        }
        let dialect = Dialect::new(&self.options)?;
        for file in &mut self.files {
            let targets: Vec<u64> =
                (1..file.size.div_ceil(BOUNDARY_DISTANCE)).map(|n| n * BOUNDARY_DISTANCE).collect();
            if file.compression == Compression::None && !targets.is_empty() {
                file.boundaries = boundaries(file, dialect, &targets)?;
            }
        }
        Ok(())
    }
}

/// Finds the first beginning of a record at or after each target, in a file that this machine reaches.
pub(super) fn boundaries(file: &CsvFile, dialect: Dialect, targets: &[u64]) -> Result<Vec<u64>, FrameError> {
    let path = &file.path;
    let bytes = file.state().open().map_err(|error| unreadable(path, &error))?;
    record_starts(bytes, dialect, targets).map_err(|error| match error {
        RecordsError::Io(error) => unreadable(path, &error),
        RecordsError::OpenQuote { .. } => FrameError::BadJob(format!("{path}: {error}")),
    })
}

fn wider(one: Dtype, other: Dtype) -> Dtype {
    match (one, other) {
        (one, other) if one == other => one,
        (Dtype::Int64, Dtype::Float64) | (Dtype::Float64, Dtype::Int64) => Dtype::Float64,
        _ => Dtype::String,
    }
}
