//! All assignments: an append-only text file with one record per line, which survives crashes.
//!
//! "Saved" means on disk: [`Journal::append`] returns after the `fdatasync` of the record. Writers that wait at the
//! same time share one sync (group commit). No writer waits on a timer for others to join.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`disk`] | the seam: files of the operating system or of a simulated disk |
//! | [`record`] | one record per line: fields, escaping, optional CRC-32C |
//! | [`read`] | reads single records while others are appended |
//! | [`scan`](mod@scan) | reads all records; distinguishes a torn tail from damage |
//! | [`file`](mod@file) | the file: lock, recovery, write, sync, and what each error means |
//! | [`group`] | group commit: many writers share one file and one sync |
//! | [`plants`] | bugs on purpose, for the simulation of the store; programs are built without them |
//! | [`index`] | an index from identifiers to file offsets, for millions of entries |
//!
//! A record looks like this, with the checksum only in files opened with [`Checksum::Crc32c`]:
//!
//! ```text
//! 2026-11-21T09:30:00.123Z 172.18.0.3:40522 "Hola, servidor" crc32c=799ce397
//! ```
//!
//! This crate does not rotate files, compress them, or repair damage.

pub mod disk;
pub mod file;
pub mod group;
pub mod index;
pub mod plants;
pub mod read;
pub mod record;
pub mod scan;

pub use batching::Executor;
pub use disk::{Access, Disk, DiskFile, FileSystem, Storage};
pub use file::{JournalFile, OpenError, WriteFailure, torn_tails_of};
pub use group::{AppendError, Journal};
pub use index::OffsetIndex;
pub use read::{Records, record_at};
pub use record::{Batch, Checksum};
pub use scan::{Damage, Recovery};
