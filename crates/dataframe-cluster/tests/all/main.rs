//! Real masters and workers, over every middleware, with real brokers.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bounds;
mod cluster;
mod faults;
mod flight;
mod functions;
mod jobs;
mod membership;
mod methods;
mod modules;
mod page;
mod pair;
mod shuffles;
mod tls;
mod work;
