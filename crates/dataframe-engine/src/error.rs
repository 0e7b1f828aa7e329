//! Why a frame cannot be computed, and what is learnt about the types of columns on the way.

use std::collections::BTreeSet;

use dataframe_jobs::failure::{Failure, FailureCode};
use dataframe_jobs::operation::Dtype;
use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};

/// Why a frame cannot be computed, grouped by who can do something about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The operations, an expression or the data are wrong. The same job fails again.
    #[error("{0}")]
    BadJob(String),
    /// The data does not fit what was inferred from a sample. The job is planned again with [`Widenings`].
    #[error("{0}")]
    Widen(Widening),
    /// A file is missing, cannot be read, or has changed since the job was planned.
    #[error("{0}")]
    File(String),
    /// There is not enough memory or disk.
    #[error("{0}")]
    Resources(String),
    /// A bug.
    #[error("{0}")]
    Internal(String),
    /// The cluster says no, for a reason that has nothing to do with the frame: no workers, a version, a poisonous task.
    #[error("{0}")]
    Cluster(Failure),
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        let (code, message) = match error {
            FrameError::BadJob(message) => (FailureCode::BadJob, message),
            FrameError::Widen(widening) => {
                let message = serde_json::to_string(&widening).expect("a widening has string keys only");
                (FailureCode::WidenType, message)
            }
            FrameError::File(message) => (FailureCode::File, message),
            FrameError::Resources(message) => (FailureCode::Resources, message),
            FrameError::Internal(message) => (FailureCode::Internal, message),
            FrameError::Cluster(failure) => return failure,
        };
        Self { code, message, worker: None }
    }
}

impl From<Failure> for FrameError {
    fn from(failure: Failure) -> Self {
        match failure.code {
            FailureCode::BadJob => Self::BadJob(failure.message),
            FailureCode::WidenType => match serde_json::from_str(&failure.message) {
                Ok(widening) => Self::Widen(widening),
                Err(error) => Self::Internal(format!(
                    "a worker asks for a wider type in words that this release does not know ({error}): {}",
                    failure.message
                )),
            },
            FailureCode::File => Self::File(failure.message),
            FailureCode::Resources => Self::Resources(failure.message),
            FailureCode::Internal => Self::Internal(failure.message),
            FailureCode::NoModule
            | FailureCode::Poisonous
            | FailureCode::NoWorkers
            | FailureCode::Refused
            | FailureCode::Cancelled => Self::Cluster(failure),
        }
    }
}

impl From<FrameError> for DataFusionError {
    fn from(error: FrameError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Something that a scan has found in a file, and that its sample did not show.
///
/// It holds for the whole `read_csv` to which the file belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Widening {
    /// A column has a value that needs a wider type.
    Column {
        /// The file in which the value is.
        file: String,
        /// The column.
        name: String,
        /// The type that can hold the value.
        dtype: Dtype,
    },
    /// A column has a value of its type in a spelling that the fast parser does not read: a word for a missing value,
    /// or blanks around a number.
    Spelling {
        /// The file in which the value is.
        file: String,
        /// The column.
        name: String,
    },
    /// A file that was cut anywhere has quotes, so that a newline need not end a record.
    Quotes {
        /// The file.
        file: String,
    },
}

impl Widening {
    /// The file in which it was found.
    pub fn file(&self) -> &str {
        match self {
            Self::Column { file, .. } | Self::Spelling { file, .. } | Self::Quotes { file } => file,
        }
    }
}

impl std::fmt::Display for Widening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Column { file, name, dtype } => {
                write!(f, "{file}: column {name:?} needs the type {}", dtype_name(*dtype))
            }
            Self::Spelling { file, name } => {
                write!(f, "{file}: column {name:?} has words for missing values, or blanks around its values")
            }
            Self::Quotes { file } => write!(f, "{file}: a quote follows after the sample"),
        }
    }
}

/// All widenings of a job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Widenings {
    found: BTreeSet<Widening>,
}

impl Widenings {
    /// Adds one. Returns `false` if it is known already: then planning again does not help, and the driver stops.
    pub fn add(&mut self, widening: Widening) -> bool {
        self.found.insert(widening)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Widening> {
        self.found.iter()
    }

    /// Whether nothing has been found so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// The name of a type, as users write it.
pub(crate) fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "bool",
        Dtype::Int64 => "int64",
        Dtype::Float64 => "float64",
        Dtype::Date => "date",
        Dtype::Datetime => "datetime",
        Dtype::String => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column() -> Widening {
        Widening::Column { file: "a.csv".into(), name: "x".into(), dtype: Dtype::Float64 }
    }

    #[test]
    fn errors_travel_as_failures() {
        let errors = [
            FrameError::BadJob("a".into()),
            FrameError::Widen(column()),
            FrameError::Widen(Widening::Quotes { file: "a.csv".into() }),
            FrameError::File("b".into()),
            FrameError::Resources("c".into()),
            FrameError::Internal("d".into()),
            FrameError::Cluster(Failure {
                code: FailureCode::NoWorkers,
                message: "e".into(),
                worker: Some("w1".into()),
            }),
        ];
        for error in errors {
            assert_eq!(FrameError::from(Failure::from(error.clone())), error);
        }
    }

    #[test]
    fn a_widening_has_a_fixed_form_on_the_wire() {
        let failure = Failure::from(FrameError::Widen(column()));
        assert_eq!(failure.message, r#"{"column":{"file":"a.csv","name":"x","dtype":"float64"}}"#);
    }

    #[test]
    fn a_widening_that_is_known_is_not_new() {
        let mut widenings = Widenings::default();
        assert!(widenings.is_empty());
        assert!(widenings.add(column()));
        assert!(!widenings.add(column()));
        assert!(widenings.add(Widening::Spelling { file: "a.csv".into(), name: "x".into() }));
        assert_eq!(widenings.iter().count(), 2);
    }
}
