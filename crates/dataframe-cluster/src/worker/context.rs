//! What the parts of a worker share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use dataframe_engine::Engine;
use dataframe_jobs::message::{Reply, TaskId, WorkerInfo};
use dataframe_jobs::packet;
use middleware::{ReplySink, SharedTransport, TransportError};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::metrics::WorkerMetrics;
use crate::masters::MasterAddresses;
use crate::threads::ComputeThreads;

/// What all tasks of a worker share.
pub(super) struct WorkerContext {
    pub(super) info: WorkerInfo,
    pub(super) transport: SharedTransport,
    pub(super) engine: Engine,
    pub(super) threads: ComputeThreads,
    pub(super) data_dir: PathBuf,
    pub(super) attempts: Mutex<HashMap<TaskId, CancellationToken>>,
    pub(super) masters: MasterAddresses,
    /// Where messages are sent from: not a thread that computes.
    pub(super) network: Handle,
    pub(super) metrics: WorkerMetrics,
}

impl WorkerContext {
    pub(super) fn begin(&self, task: &TaskId) -> CancellationToken {
        let cancelled = CancellationToken::new();
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).insert(task.clone(), cancelled.clone());
        cancelled
    }

    pub(super) fn end(&self, task: &TaskId) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }

    pub(super) fn stop(&self, task: &TaskId) {
        if let Some(cancelled) = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).get(task) {
            cancelled.cancel();
        }
    }

    pub(super) fn running(&self) -> Vec<TaskId> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Sends the last piece of a reply.
pub(super) async fn send_last(
    reply: &mut dyn ReplySink,
    header: &Reply,
    body: &[u8],
) -> Result<(), TransportError> {
    reply.send(packet::encode(header, body)).await
}

/// Ends a reply.
pub(super) async fn end_reply(reply: Box<dyn ReplySink>) {
    if let Err(error) = reply.finish().await {
        tracing::debug!(%error, "the end of a reply did not get through");
    }
}
