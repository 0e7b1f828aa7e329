//! What a scan needs to know besides its ranges. It travels with the plan.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use dataframe_jobs::message::FileRange;
use dataframe_jobs::operation::{Compression, Dtype};
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::file_bytes::FileState;
use super::inspection::CsvColumn;

/// How the files of a scan are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ScanLayout {
    pub(super) dialect: Dialect,
    pub(super) columns: Vec<CsvColumn>,
    pub(super) null_words: Option<Vec<String>>,
    /// A file was cut on the word of a sample without quotes: a quote that comes later must be noticed.
    pub(super) watch_quotes: bool,
    /// The bucket in which all files are; absent where they are on disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bucket: Option<String>,
    /// Files that are compressed, that have their columns in another order, or that are objects, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) files: BTreeMap<String, FileLayout>,
    /// For each partition the only worker that has its files; absent where all reach them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) workers: Vec<Option<String>>,
}

/// What is particular to a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileLayout {
    pub(super) compression: Compression,
    /// Which column of the frame each column of the file is; empty where they are the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) order: Vec<usize>,
    /// Tells the states of an object apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) e_tag: Option<String>,
}

impl ScanLayout {
    /// The types of the frame.
    pub(super) fn frame_schema(&self) -> Schema {
        let field = |column: &CsvColumn| Field::new(&column.name, frame_type(column.dtype), true);
        Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())
    }

    /// The types that arrow's parser makes of a file, in the file's order.
    pub(super) fn file_schema(&self, path: &str) -> Schema {
        let field = |column: &CsvColumn| Field::new(&column.name, read_type(column), true);
        let fields = match self.files.get(path) {
            Some(file) if !file.order.is_empty() => {
                file.order.iter().map(|at| field(&self.columns[*at])).collect()
            }
            _ => self.columns.iter().map(field).collect::<Vec<_>>(),
        };
        Schema::new(fields)
    }

    /// Which column of the frame a column of a file is.
    pub(super) fn frame_column(&self, path: &str, file_column: usize) -> usize {
        self.files.get(path).and_then(|file| file.order.get(file_column)).copied().unwrap_or(file_column)
    }

    /// Which column of a file a column of the frame is.
    pub(super) fn file_column(&self, path: &str, frame_column: usize) -> usize {
        let order = self.files.get(path).map(|file| file.order.as_slice()).unwrap_or_default();
        order.iter().position(|column| *column == frame_column).unwrap_or(frame_column)
    }

    /// A file as it was when the job was planned.
    pub(super) fn state(&self, part: &FileRange) -> FileState {
        let e_tag = self.files.get(&part.path).and_then(|file| file.e_tag.clone());
        FileState { path: part.path.clone(), size: part.size, e_tag }
    }

    pub(super) fn compression(&self, path: &str) -> Compression {
        self.files.get(path).map_or(Compression::None, |file| file.compression)
    }
}

/// How a type is kept in memory.
pub(super) fn frame_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::Bool => DataType::Boolean,
        Dtype::Int64 => DataType::Int64,
        Dtype::Float64 => DataType::Float64,
        Dtype::Date => DataType::Date32,
        Dtype::Datetime => DataType::Timestamp(TimeUnit::Microsecond, None),
        Dtype::String => DataType::Utf8View,
    }
}

fn read_type(column: &CsvColumn) -> DataType {
    match column.dtype {
        Dtype::Bool | Dtype::Int64 | Dtype::Float64 if !column.careful => frame_type(column.dtype),
        _ => DataType::Utf8View,
    }
}
