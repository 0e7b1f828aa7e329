//! Lotería Nacional with the real programs: nothing acknowledged is lost or stored twice, and each learns its own only.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agency;
mod archive;
mod batches;
mod chaos;
mod crash_states;
mod page;
mod server;
mod shutdown;
mod support;
