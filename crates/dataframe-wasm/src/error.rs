//! Why a module is refused, and why a call failed.

use std::ops::Range;

/// Why there is no column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WasmError {
    /// The module, or the function for these columns, cannot be used at all.
    #[error("{0}")]
    Refused(String),
    /// The function was called, and gave no column.
    #[error(
        "the function {function:?} of the module {} failed at {}{at}: {cause}",
        short(module),
        shown(rows)
    )]
    Failed {
        /// The module's hash.
        module: String,
        /// The function.
        function: String,
        /// The rows that were given to it, within their batch; they count from 0.
        rows: Range<usize>,
        /// Where the rows come from: empty, or words that begin with a comma.
        at: String,
        /// What happened.
        cause: String,
    },
    /// Nobody wants the column any more.
    #[error("the task was stopped")]
    Stopped,
}

/// The beginning of a hash, which is enough for a person to tell modules apart.
pub(crate) fn short(module: &str) -> &str {
    module.get(..12).unwrap_or(module)
}

fn shown(rows: &Range<usize>) -> String {
    match rows.len() {
        0 => "the beginning of a batch".to_owned(),
        1 => format!("row {} of a batch", rows.start + 1),
        _ => format!("rows {} to {} of a batch", rows.start + 1, rows.end),
    }
}
