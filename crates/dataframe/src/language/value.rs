//! What a name or an expression of the prompt stands for.

use std::collections::BTreeMap;

use dataframe_jobs::operation::{Apply, Operation};
use serde_json::Value;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum ShellValue {
    /// A lazy frame.
    Frame(Vec<Operation>),
    /// A lazy column.
    Series(Series),
    /// `df.groupby("name")`, before it is aggregated.
    Groups(GroupedRows),
    /// `df.name.str` or `df.day.dt`.
    Accessor(Series, SeriesAccessor),
    /// A number, a text, a Boolean, null, a list or a map of such.
    Literal(Value),
    /// An order to write a frame into a file.
    Save(SaveOrder),
    /// An order to tell how a frame would be computed.
    Explain(Vec<Operation>),
    /// `dd`, `pd`: what stands in front of `read_csv` in Python.
    Library,
}

/// A lazy column: an expression on the rows of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What makes the frame.
    pub base: Vec<Operation>,
    /// The expression in SQL.
    pub sql: String,
    /// The column's name, if it is a column of the frame as it is.
    pub column: Option<String>,
    /// The operation that makes the column from the frame, where there is one besides `apply`.
    pub made_by: Option<Operation>,
}

/// Which functions of a column are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesAccessor {
    /// Those of texts.
    Text,
    /// Those of times.
    Time,
}

/// Rows in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedRows {
    /// What makes the frame.
    pub base: Vec<Operation>,
    /// The keys.
    pub by: Vec<String>,
    /// The columns that were chosen; none if none was chosen yet.
    pub columns: Vec<String>,
}

/// A frame that is to be written into a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SaveOrder {
    /// What makes the frame.
    pub operations: Vec<Operation>,
    /// The file.
    pub path: String,
    /// What is written.
    pub format: SavedFormat,
}

/// A format for [`SaveOrder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SavedFormat {
    Csv,
    Parquet,
}

/// The names that lines have assigned.
#[derive(Debug, Clone, Default)]
pub struct ShellNames {
    names: BTreeMap<String, KnownName>,
    /// The hashes of the modules that lines may call, by the names of their files.
    pub modules: BTreeMap<String, String>,
}

/// A name and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownName {
    /// What it stands for.
    pub value: ShellValue,
    /// The columns, if it is a frame whose columns are known.
    pub columns: Option<Vec<String>>,
}

impl ShellNames {
    /// Lets `name` stand for a value.
    pub fn assign(&mut self, name: &str, value: ShellValue, columns: Option<Vec<String>>) {
        self.names.insert(name.to_owned(), KnownName { value, columns });
    }

    /// Returns what `name` stands for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&KnownName> {
        self.names.get(name)
    }

    /// Returns all names, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &KnownName)> {
        self.names.iter().map(|(name, known)| (name.as_str(), known))
    }
}

impl ShellValue {
    /// Says what kind of value it is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Frame(_) => "a frame",
            Self::Series(_) => "a column",
            Self::Groups(_) => "a groupby without an aggregate",
            Self::Accessor(..) => "a part of a method's name",
            Self::Save(_) => "an order to write a file",
            Self::Explain(_) => "an explanation",
            Self::Library => "a library of Python",
            Self::Literal(Value::String(_)) => "a text",
            Self::Literal(Value::Number(_)) => "a number",
            Self::Literal(Value::Bool(_)) => "a Boolean",
            Self::Literal(Value::Null) => "None",
            Self::Literal(Value::Array(_)) => "a list",
            Self::Literal(Value::Object(_)) => "a map",
        }
    }
}

impl Series {
    /// Returns a column of the frame as it is.
    #[must_use]
    pub fn plain(base: &[Operation], column: &str) -> Self {
        Self {
            base: base.to_vec(),
            sql: quoted_name(column),
            column: Some(column.to_owned()),
            made_by: Some(Operation::Select { columns: vec![column.to_owned()] }),
        }
    }

    /// Returns a column that an expression on the same frame computes.
    #[must_use]
    pub fn computed(&self, sql: String) -> Self {
        Self { base: self.base.clone(), sql, column: None, made_by: None }
    }

    /// Returns the frame that has only this column.
    #[must_use]
    pub fn into_frame(self) -> Vec<Operation> {
        let made_by = self
            .made_by
            .unwrap_or_else(|| Operation::Apply(Apply { expression: Some(self.sql), ..Apply::default() }));
        with(self.base, made_by)
    }
}

/// Adds an operation to a list.
#[must_use]
pub fn with(mut operations: Vec<Operation>, operation: Operation) -> Vec<Operation> {
    operations.push(operation);
    operations
}

/// Returns a name of a column in SQL, whatever characters it has.
#[must_use]
pub fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a value in SQL; nothing for lists and maps.
#[must_use]
pub fn literal_sql(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Array(_) | Value::Object(_) => return None,
    })
}
