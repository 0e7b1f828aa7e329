//! Tasca 1: starts real brokers for tests and benchmarks, each on a free port of loopback and in a temporary folder.
//!
//! A broker is killed when its value is dropped, and also when the process that started it ends in any way.
//! [`RedisServer::start`] and [`RabbitServer::start`] return `None` where the broker is not installed: the test is then
//! skipped, with a line on standard error that says so and counts. With `CI=true` in the environment it fails instead.
//! [`S3Server`] is part of this crate and always there.
//!
//! Everything here panics when something goes wrong: that is how a test fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod guarded;
mod rabbitmq;
mod redis;
mod s3;

pub use rabbitmq::RabbitServer;
pub use redis::RedisServer;
pub use s3::S3Server;
