//! The threads that compute, apart from the thread that speaks with the network.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// The stack of a thread. Parsers and planners go down an expression as deep as the expression is; what they do not use takes no memory.
const STACK_BYTES: usize = 64 << 20;

/// A pool of threads for planning and computing. The program's own thread stays free for messages.
pub struct ComputeThreads {
    runtime: Option<Runtime>,
}

impl ComputeThreads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// Fails if the operating system refuses the threads.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count.max(1))
            .thread_name("compute")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a future on these threads. Dropping the handle stops it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        let runtime = self.runtime.as_ref().expect("the runtime is taken only when this is dropped");
        AbortOnDropHandle::new(runtime.spawn(work))
    }
}

impl Drop for ComputeThreads {
    /// Does not wait: a runtime must not block the thread of another one.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
