//! The echo server and its clients as processes: what they say, what they write on standard output, how they end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod clients;
mod configuration;
mod metrics;
mod parallel;
mod servers;
mod support;
