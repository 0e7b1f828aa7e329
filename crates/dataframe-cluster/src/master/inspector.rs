//! The files behind a source: those that the master sees, and those that only a worker has.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dataframe_engine::{FrameError, Inspection, Inspector};
use dataframe_jobs::message::{Reply, Request, WorkerState, WorkerStatus};
use dataframe_jobs::operation::{Operation, ReadCsv};
use middleware::Endpoint;
use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::context::MasterContext;
use crate::ask::{AskError, ask};

/// The beginning of a path that names a worker.
const WORKER: &str = "worker://";

/// Time for a worker to look at its files.
const INSPECTION: Duration = Duration::from_secs(30);

/// Looks at files, here or at the workers.
pub(super) struct ClusterInspector {
    context: Arc<MasterContext>,
    commands: mpsc::UnboundedSender<Command>,
}

impl ClusterInspector {
    /// Asks the workers that the coordinator knows.
    pub(super) fn new(context: Arc<MasterContext>, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { context, commands }
    }

    async fn nodes(&self) -> Vec<WorkerStatus> {
        let (answer, answered) = oneshot::channel();
        // A master that ends has no workers.
        let _ = self.commands.send(Command::Nodes(answer));
        answered.await.unwrap_or_default()
    }

    /// The workers that a path names, and the path there.
    async fn places(&self, path: &str) -> Result<(Vec<WorkerStatus>, String), FrameError> {
        let rest = &path[WORKER.len()..];
        let (name, file) = rest
            .split_once('/')
            .filter(|(name, file)| !name.is_empty() && !file.is_empty())
            .ok_or_else(|| {
            FrameError::BadJob(format!(
                "{path}: write worker://NAME/PATH, or worker://*/PATH for the file on each worker"
            ))
        })?;
        let mut workers = self.nodes().await;
        workers.retain(|node| node.state == WorkerState::Ready && (name == "*" || node.info.name == name));
        if workers.is_empty() {
            let cause = if name == "*" {
                "there is no worker".to_owned()
            } else {
                format!("there is no worker {name}")
            };
            return Err(FrameError::File(format!(
                "{path}: {cause}; `dataframe nodes list` shows the workers"
            )));
        }
        Ok((workers, file.to_owned()))
    }

    async fn ask_worker(&self, node: &WorkerStatus, read: ReadCsv) -> Result<Inspection, FrameError> {
        let direct = self.context.transport.capabilities().calls_workers_directly;
        let address = node.info.address.clone().filter(|_| direct).unwrap_or_else(|| node.info.name.clone());
        let request = Request::Inspect { operation: Operation::ReadCsv(read) };
        match ask(&self.context.transport, &Endpoint::Worker(address), &request, INSPECTION).await {
            Ok((Reply::Inspected, body)) => serde_json::from_slice(&body).map_err(|error| {
                FrameError::Internal(format!("{} described its files wrongly: {error}", node.info.name))
            }),
            Ok((other, _)) => Err(FrameError::Internal(format!("{} answered {other:?}", node.info.name))),
            Err(AskError::Failed(failure)) => Err(FrameError::from(failure)),
            Err(error) => {
                Err(FrameError::File(format!("{} cannot be asked for its files: {error}", node.info.name)))
            }
        }
    }
}

#[async_trait]
impl Inspector for ClusterInspector {
    async fn inspect(&self, read: &ReadCsv) -> Result<Inspection, FrameError> {
        let (on_workers, here): (Vec<_>, Vec<_>) =
            read.paths.iter().partition(|path| path.starts_with(WORKER));
        if on_workers.is_empty() {
            return self.context.engine.inspect(read).await;
        }
        if !here.is_empty() {
            let message = "paths on workers and other paths cannot be read together: read them apart, and join them with merge";
            return Err(FrameError::BadJob(message.to_owned()));
        }
        let mut inspections = Vec::new();
        for path in on_workers {
            let (workers, file) = self.places(path).await?;
            for node in workers {
                let read = ReadCsv { paths: vec![file.clone()], options: read.options.clone() };
                let inspection = self.ask_worker(&node, read).await?;
                inspections.push((Some(node.info.name.clone()), inspection));
            }
        }
        Inspection::join(inspections)
    }
}
