//! All assignments, what lasts: an append-only text file of one-line records.
//!
//! "Saved" means on disk: [`Journal::append`] returns after `fdatasync` of the record. Writers that wait at the same
//! time share one sync (group commit); nobody waits on a timer for others to join.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`record`] | one record, one line: fields, escaping, optional CRC-32C |
//! | [`read`] | reads single records while others are appended |
//! | [`scan`](mod@scan) | reads records back; tells a torn tail from damage |
//! | [`file`](mod@file) | the file: lock, recovery, write, sync, what an error means |
//! | [`group`] | many writers, one file: group commit |
//! | [`index`] | where in a file each identifier stands, for millions of them |
//!
//! A record looks like this, with the checksum only in files opened with [`Checksum::Crc32c`]:
//!
//! ```text
//! 2026-11-21T09:30:00.123Z 172.18.0.3:40522 "Hola, servidor" crc32c=799ce397
//! ```
//!
//! What it does not do: rotate files, compress them, or repair damage.

pub mod file;
pub mod group;
pub mod index;
pub mod read;
pub mod record;
pub mod scan;

pub use batching::Executor;
pub use file::{Failure, JournalFile, OpenError, Storage, torn_tails_of};
pub use group::{AppendError, Journal};
pub use index::Index;
pub use read::{Records, record_at};
pub use record::{Batch, Checksum};
pub use scan::{Damage, Recovery};
