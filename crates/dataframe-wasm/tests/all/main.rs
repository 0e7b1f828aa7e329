//! Modules that compute, and modules that do harm.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bounds;
mod forms;
mod hostile;
mod support;
