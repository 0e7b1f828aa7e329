//! Everything behind `read_csv`: which files and columns there are, how files are cut, how they are read, and what their errors mean.
//!
//! | step | module |
//! | --- | --- |
//! | files behind paths; whether they have changed; their bytes | `files`, `objects`, `file_bytes` |
//! | names and types of columns from a sample, by pandas' rules | `inference`, `values`, `null_words` |
//! | what is known before reading: [`Inspection`] | `inspection` |
//! | byte ranges of partitions; where records begin | `partitions`, `records` |
//! | the table and its scan | `table`, `scan`, `layout`, `conversion` |
//! | this crate's reader of a part of a file: its lines, its fields, their values | `plain_reader`, `lines`, `fields`, `plain_columns`, `numbers` |
//! | DataFusion's reader, and when it takes over | `watched_store`, `batches` |
//! | a scan in DataFusion's plan format | `codec` |
//! | errors with file, line, column and value; widenings | `problem` |
//!
//! Two readers make batches of a part of a file. The one of this crate takes files that are not compressed. It finds separators, the ends
//! of lines and quotes 64 bytes at a time, skips the columns that the plan does not need, and writes numbers from bytes into Arrow's
//! buffers. DataFusion's reader looks at each byte, knows every irregular way of writing, and tells what is wrong and where. So all that
//! is irregular is left to it: a quote inside a field, too many fields, a value that does not fit, bytes that are not UTF-8, a record of
//! more than 4 MiB. It then begins the part anew, and the batches that the plan has got already are left out. Both readers give the
//! same batches to the bit, so that nobody can tell which one it was; a property test and a fuzz target compare them.
//!
//! Behind both readers, words for missing values and NaN become null. A value that does not fit the type of its column, a word for a
//! missing value among numbers, and a quote in a file that was cut as if it had none end the scan with a
//! [`Widening`](crate::Widening). Then the job is planned again with what has been learnt.

mod batches;
mod codec;
mod conversion;
mod dialect;
mod fields;
mod file_bytes;
mod files;
mod inference;
mod inspection;
mod layout;
mod lines;
mod null_words;
mod numbers;
mod objects;
mod partitions;
mod plain_columns;
mod plain_reader;
mod problem;
mod records;
mod scan;
mod stock;
mod table;
mod values;
mod watched_store;

#[cfg(test)]
mod tests;

pub use codec::CsvScanCodec;
pub use files::{CsvFile, check_unchanged, list_files};
pub use inspection::{CsvColumn, Inspection, inspect};
pub use partitions::{CsvPartition, FileCut, KeptBlocks};
pub use problem::explain_scan_error;
pub use scan::CsvScan;
pub use stock::StockSource;
pub(crate) use stock::without_nan;
pub use table::{CsvTable, scan_by_engine, scan_of_partition, scan_partitions};
