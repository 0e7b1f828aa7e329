//! Everything behind `read_csv`: which files and columns there are, how files are cut, how they are read, and what their errors mean.
//!
//! | step | module |
//! | --- | --- |
//! | files behind paths; whether they have changed | `files` |
//! | names and types of columns from a sample, by pandas' rules | `inference`, `values`, `null_words` |
//! | what is known before reading: [`Inspection`] | `inspection` |
//! | byte ranges of partitions; where records begin | `partitions`, `records` |
//! | the table and its scan around DataFusion's `CsvSource` | `table`, `scan`, `layout`, `conversion`, `watched_store` |
//! | a scan in DataFusion's plan format | `codec` |
//! | errors with file, line, column and value; widenings | `problem` |
//!
//! A scan is as fast as DataFusion's, because values are parsed there. Around it, words for missing values and NaN become null. A
//! value that does not fit the type of its column, a word for a missing value among numbers, and a quote in a file that was cut
//! as if it had none end the scan with a [`Widening`](crate::Widening). Then the job is planned again with what has been learnt.

mod batches;
mod codec;
mod conversion;
mod dialect;
mod fields;
mod files;
mod inference;
mod inspection;
mod layout;
mod lines;
mod null_words;
mod numbers;
mod partitions;
mod plain_columns;
mod plain_reader;
mod problem;
mod records;
mod scan;
mod table;
mod values;
mod watched_store;

#[cfg(test)]
mod tests;

pub use codec::CsvScanCodec;
pub use files::{CsvFile, check_unchanged};
pub use inspection::{CsvColumn, Inspection, inspect};
pub use partitions::{CsvPartition, FileCut, KeptBlocks};
pub use problem::explain_scan_error;
pub use scan::CsvScan;
pub use table::{CsvTable, scan_by_engine, scan_of_partition, scan_partitions};
