//! Which rows of which files are read, told by their numbers: a stock scan reads whole files, and knows no ranges of bytes.

use std::io::Read as _;

use super::super::dialect::Dialect;
use super::super::files::{CsvFile, unreadable};
use super::super::inspection::{Inspection, boundaries};
use super::super::partitions::{FileCut, cut_files};
use crate::error::FrameError;

/// The rows of a file that are read.
#[derive(Debug)]
pub(super) struct KeptRows {
    pub(super) file: CsvFile,
    /// So many rows at its beginning are left out.
    pub(super) skipped: u64,
    /// Only so many rows at its beginning are looked at; all of them if absent.
    pub(super) first: Option<u64>,
}

/// The rows that a cut keeps, in the order of the files.
pub(super) fn kept_rows(inspection: &Inspection, cut: FileCut) -> Result<Vec<KeptRows>, FrameError> {
    let dialect = Dialect::new(&inspection.options)?;
    let partitions = cut_files(inspection, cut)?.partitions;
    let ranges: Vec<_> = partitions.into_iter().flat_map(|partition| partition.files).collect();
    let mut kept = Vec::new();
    // The parts of a file follow each other, and a file that is named twice begins anew.
    for run in ranges.chunk_by(|one, next| one.path == next.path && one.end == next.start) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let Some(file) = inspection.files.iter().find(|file| file.path == first.path) else { continue };
        let skipped = if first.start > 0 { rows_before(file, dialect, first.start)? } else { 0 };
        let first = if last.end < file.size { Some(rows_before(file, dialect, last.end)?) } else { None };
        kept.push(KeptRows { file: file.clone(), skipped, first });
    }
    Ok(kept)
}

/// The number of rows that begin before this place of a file.
fn rows_before(file: &CsvFile, dialect: Dialect, place: u64) -> Result<u64, FrameError> {
    let end = boundaries(file, dialect, &[place])?.first().copied().unwrap_or(file.size);
    let input = file.state().open().map_err(|error| unreadable(&file.path, &error))?;
    let mut reader = dialect.reader(input.take(end));
    let (mut record, mut records) = (::csv::ByteRecord::new(), 0_u64);
    let wrong = |error: ::csv::Error| FrameError::File(format!("{}: {error}", file.path));
    while reader.read_byte_record(&mut record).map_err(wrong)? {
        records += 1;
    }
    Ok(records.saturating_sub(u64::from(dialect.header)))
}
