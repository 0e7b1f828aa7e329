//! Why a job or a task failed, in words for people and with a code for programs.

use serde::{Deserialize, Serialize};

/// A failure, with the words of whoever noticed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Who can do something about it.
    pub code: FailureCode,
    /// What happened: cause, place (file, line, expression) and way out.
    pub message: String,
    /// The worker that said so, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCode {
    /// The operations, an expression or the data are wrong. The same job fails again.
    BadJob,
    /// A value does not fit the type that was inferred for its column. The master widens the type and plans again.
    WidenType,
    /// A file has changed since the job was planned, or cannot be read.
    File,
    /// A task has killed its workers.
    Poisonous,
    /// There is not enough memory or disk.
    Resources,
    /// No worker came within `--wait`.
    NoWorkers,
    /// The request or the worker is refused: a version, a name taken, the master's own address.
    Refused,
    /// The caller gave the job up.
    Cancelled,
    /// A bug.
    Internal,
}
