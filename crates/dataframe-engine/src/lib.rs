//! Tasca 1: a DataFrame with the names and the meaning of Dask, planned and run by Apache DataFusion.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`csv`] | the files behind `read_csv`, their types, and the table that reads them |
//! | [`dataframe`] | the lazy [`DataFrame`] with Dask's names |
//! | [`distributed`] | plans that are cut into tasks, and what is left to do with the tasks' results |
//! | [`engine`] | one process' memory, threads and functions; plans and runs operations |
//! | [`error`] | why an operation fails, and what widens a type |
//! | [`frame`] | a computed frame, and the formats in which it is written |
//! | [`shuffle`] | rows that go from the tasks of one stage to those of the next |
//! | [`sql_text`] | queries in SQL that name their files |
//! | [`stock`] | plans for a cluster of DataFusion that has no code of this crate |

mod codec;
pub mod compute;
pub mod csv;
pub mod dataframe;
pub mod distributed;
pub mod engine;
pub mod error;
mod exact;
mod failures;
pub mod frame;
mod functions;
mod in_order;
pub mod inspector;
mod operations;
mod position;
mod results;
mod session;
pub mod shuffle;
pub mod sql_text;
pub mod stock;
mod wasm;

pub use compute::Compute;
pub use csv::Inspection;
pub use dataframe::DataFrame;
pub use dataframe_wasm::{
    MAX_MODULE_BYTES, ModuleStore, StopOnDrop, TaskBudget, WasmError, WasmLimits, WasmModule,
};
pub use datafusion::DATAFUSION_VERSION;
pub use datafusion::execution::SendableRecordBatchStream;
pub use distributed::{DistributedPlan, PlannedExchange, PlannedTask, ShuffleSettings, TaskSizing};
pub use engine::{Engine, EngineConfig, SpillMeter, TaskRun};
pub use error::{FrameError, Widening, Widenings};
pub use frame::{Frame, OutputFormat, RowBatches};
pub use inspector::Inspector;
pub use operations::dtype_of;
pub use shuffle::{HashExchange, RowSplitter, ShuffleSource, rows_bytes};
pub use stock::{StockCluster, StockCompute};
