//! Tasca 1: functions of WebAssembly modules that compute a column from the columns of a frame.
//!
//! A module is foreign code. It imports nothing, so that it can only compute; each batch of rows gets an instance of its own; and
//! [`WasmLimits`] bound what an instance may use. Whatever a module does, the host gets a column that was checked, or a [`WasmError`].
//! The interpreter is [wasmi](https://docs.rs/wasmi).
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`module`] | a module that was checked, by the SHA-256 of its bytes |
//! | [`store`] | the modules that a process keeps, within bounds |
//! | [`limits`] | what an instance and a task may use, and how a task is stopped |
//! | [`call`] | one function, ready to be called with columns |
//! | [`error`] | why a module is refused, and why a call failed |
//!
//! # What a module exports
//!
//! A function has one of two forms. The host tells them apart by the function's type.
//!
//! | form | type of the function | called | missing values |
//! | --- | --- | --- | --- |
//! | by row | one `i64` or `f64` for each column → `i64` or `f64` | once a row | a row with a missing argument is not called, and its result is missing |
//! | by batch | `(i32)` → `i32` | once a batch of rows | the function sees them and can give them |
//!
//! | dtype | by row | by batch |
//! | --- | --- | --- |
//! | `int64` | `i64` | kind 0: 8 bytes a value |
//! | `bool` | `i64`, 0 or 1 | kind 0, 0 or 1 |
//! | `date` | `i64`, days since 1970-01-01 | kind 0, the same |
//! | `datetime` | `i64`, microseconds since 1970-01-01 | kind 0, the same |
//! | `float64` | `f64` | kind 1: 8 bytes a value |
//! | `string` | no | kind 2: offsets, and UTF-8 |
//!
//! A result of NaN is missing, as everywhere in this DataFrame.
//!
//! For functions by batch the module also exports its `memory` and `alloc: (i32) → i32`, which gets a number of bytes and returns the
//! address of so many, a multiple of 8. The host calls `alloc` once, writes the batch there, and calls the function with the
//! address. All numbers are little-endian, and all addresses are addresses in the memory.
//!
//! | the batch, at the address that the function gets | |
//! | --- | --- |
//! | `u32` | rows |
//! | `u32` | columns |
//! | for each column: `u32` | kind |
//! | `u32` | address of one byte a row: 1 for a value, 0 for a missing one |
//! | `u32` | address of the values: `i64` or `f64` a row, or, for text, `u32` offsets, one more than rows |
//! | `u32` | address of the text to which the offsets belong; 0 for other kinds |
//!
//! | the result, at the address that the function returns | |
//! | --- | --- |
//! | `u32` | rows, as many as it got |
//! | `u32` | address of one byte a row, 1 or 0; or 0 if no value is missing |
//! | `u32` | address of the values, as above; their kind is that of the type that the job says |
//! | `u32` | address of the text to which the offsets belong |
//!
//! How rows are cut into batches is the host's affair, and globals and memory live for one batch: a function must give the same
//! for the same row.

pub mod call;
pub mod error;
mod instance;
mod layout;
pub mod limits;
pub mod module;
mod plain;
pub mod store;

pub use call::WasmCall;
pub use error::WasmError;
pub use limits::{StopOnDrop, TaskBudget, WasmLimits};
pub use module::{MAX_MODULE_BYTES, WasmModule, hash_of};
pub use plain::arrow_type;
pub use store::ModuleStore;
