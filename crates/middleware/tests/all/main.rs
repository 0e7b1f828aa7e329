//! One suite for every middleware, and what only some of them promise.
//!
//! A middleware takes part with an implementation of `conformance::Setup` and one line `conformance!(…)`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[macro_use]
mod conformance;
#[macro_use]
mod direct;

mod answering;
mod brokers;
mod child;
mod grpc;
mod hybrid;
mod load;
mod python;
mod tls;
mod xmlrpc;
