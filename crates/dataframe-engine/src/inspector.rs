//! Looking at files before a job on them is planned.

use async_trait::async_trait;
use dataframe_jobs::operation::ReadCsv;

use crate::csv::Inspection;
use crate::error::FrameError;

/// Looks at the files of a source. The engine does it itself; a master asks the workers for files that only they have.
#[async_trait]
pub trait Inspector: Send + Sync {
    /// Finds the files and infers their types.
    ///
    /// # Errors
    /// Fails if there is no file, or if one cannot be read.
    async fn inspect(&self, read: &ReadCsv) -> Result<Inspection, FrameError>;
}
