//! What the parts of a master share.

use std::path::PathBuf;
use std::time::Duration;

use dataframe_engine::Engine;
use middleware::SharedTransport;

use super::results::Results;
use crate::threads::ComputeThreads;

/// What the parts of a master share.
pub(crate) struct MasterContext {
    pub(crate) transport: SharedTransport,
    pub(crate) engine: Engine,
    pub(crate) threads: ComputeThreads,
    pub(crate) results: Results,
    /// Where spools make their files.
    pub(crate) spool_dir: PathBuf,
    pub(crate) lease: Duration,
}
