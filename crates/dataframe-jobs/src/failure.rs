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
    /// The master does not have a module that the operations name. Whoever has it sends it, and then the job again.
    NoModule,
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

impl FailureCode {
    /// All codes.
    pub const ALL: [Self; 10] = [
        Self::BadJob,
        Self::NoModule,
        Self::WidenType,
        Self::File,
        Self::Poisonous,
        Self::Resources,
        Self::NoWorkers,
        Self::Refused,
        Self::Cancelled,
        Self::Internal,
    ];

    /// Returns the code in one word for programs, as in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BadJob => "bad-job",
            Self::NoModule => "no-module",
            Self::WidenType => "widen-type",
            Self::File => "file",
            Self::Poisonous => "poisonous",
            Self::Resources => "resources",
            Self::NoWorkers => "no-workers",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_messages() {
        for code in FailureCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.word());
        }
    }
}
