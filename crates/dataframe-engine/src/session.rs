//! How DataFusion is set up.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{exact, functions};

/// How many of the greatest users of memory an error names.
const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(3).expect("3 is not 0");

/// How much of the machine a session may use.
pub(crate) struct SessionLimits {
    pub(crate) threads: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) spill_folder: Option<PathBuf>,
}

/// A session with this crate's functions and settings.
pub(crate) fn session(limits: SessionLimits) -> Result<SessionContext> {
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(bytes) = limits.memory_bytes {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        // Each operator that can spill gets its share, so that one of them does not starve the others.
        let pool = TrackConsumersPool::new(FairSpillPool::new(bytes), NAMED_CONSUMERS);
        runtime = runtime.with_memory_pool(Arc::new(pool));
    }
    if let Some(folder) = limits.spill_folder {
        std::fs::create_dir_all(&folder)?;
        let mode = DiskManagerMode::Directories(vec![folder]);
        runtime = runtime.with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode));
    }
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(settings(limits.threads, limits.memory_bytes))
        .with_runtime_env(runtime.build_arc()?)
        .build();
    let context = SessionContext::new_with_state(state);
    for function in functions::own() {
        context.register_udf(function);
    }
    for aggregate in exact::aggregates() {
        context.register_udaf(aggregate.as_ref().clone());
    }
    Ok(context)
}

/// What a sort sets aside for merging what it has spilled, if there is so much.
const MERGE_BYTES: u64 = 10 << 20;
/// Several sorts run at the same time, and none may take this share of the memory before it has a row.
const MERGE_SHARE: u64 = 16;
/// Less memory than this has no room for several batches of the usual size, which are in memory when spilled rows are merged.
const TIGHT_MEMORY: u64 = 128 << 20;
/// How many rows a batch has where memory is tight.
const TIGHT_BATCH_ROWS: usize = 1024;

fn settings(threads: usize, memory_bytes: Option<u64>) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(threads);
    if memory_bytes.is_some_and(|bytes| bytes < TIGHT_MEMORY) {
        config = config.with_batch_size(TIGHT_BATCH_ROWS);
    }
    let options = config.options_mut();
    let merging = memory_bytes.map_or(MERGE_BYTES, |bytes| MERGE_BYTES.min(bytes / MERGE_SHARE));
    options.execution.sort_spill_reservation_bytes = usize::try_from(merging).unwrap_or(usize::MAX);
    // Names of columns are what the files say.
    options.sql_parser.enable_ident_normalization = false;
    // The rows of partition 0 come before those of partition 1, and a partition is one task: nobody else cuts files.
    options.optimizer.repartition_file_scans = false;
    options.optimizer.enable_round_robin_repartition = false;
    options.execution.enable_file_stream_work_stealing = false;
    // A filter that changes while the plan runs cannot cross to another process, and CSV files gain nothing by it.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // A subquery becomes a join, which can be cut like any other.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    config
}
