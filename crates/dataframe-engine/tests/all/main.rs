//! Operations through files, plans and tasks: the frame of one process and that of tasks through bytes are the same to the byte.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod data;
mod meaning;
mod modules;
mod same;
mod shuffled;
mod stock;
