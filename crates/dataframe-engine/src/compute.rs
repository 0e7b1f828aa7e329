//! The seam between a lazy frame and whoever computes it.

use async_trait::async_trait;
use dataframe_jobs::operation::Operation;

use crate::error::FrameError;
use crate::frame::Frame;

/// Computes frames: an engine in this process, or a cluster.
#[async_trait]
pub trait Compute: Send + Sync {
    /// Computes the frame that a list of operations describes.
    ///
    /// # Errors
    /// Fails if the operations are wrong, or if the data cannot be read with them.
    async fn compute(&self, operations: &[Operation]) -> Result<Frame, FrameError>;

    /// Tells how the list would be computed.
    ///
    /// # Errors
    /// Fails as [`Compute::compute`] does, except for what only the data shows.
    async fn explain(&self, operations: &[Operation]) -> Result<String, FrameError>;
}
