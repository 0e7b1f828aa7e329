//! Tasca 1: a cluster that computes DataFrames: a master, its workers, and their clients, over any middleware.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`master`] | takes workers in, cuts jobs into tasks, puts results together |
//! | [`worker`] | runs tasks |
//! | [`client`] | sends jobs to a master |
//! | [`local`] | a master in this process, and workers as its child processes |

mod arguments;
mod ask;
mod bytes_text;
pub mod client;
mod flight;
pub mod local;
pub mod master;
mod masters;
mod methods;
mod metrics;
mod pieces;
mod programs;
mod resident;
mod rows;
mod split;
mod spool;
mod threads;
pub mod worker;

pub use arguments::{
    MasterArguments, MiddlewareArguments, WasmArguments, WasmLimitArguments, WorkerArguments,
};
pub use bytes_text::parse_bytes;
pub use client::{ClusterClient, JobResult, OnProgress};
pub use local::LocalCluster;
pub use master::{Master, MasterConfig};
pub use masters::MasterAddresses;
pub use programs::{run_master, run_worker};
pub use rows::JobRows;
pub use worker::WorkerConfig;
