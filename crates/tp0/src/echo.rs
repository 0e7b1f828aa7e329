//! Exercises 1 to 4: one line in, the same line back.
//!
//! | from | line | meaning |
//! | --- | --- | --- |
//! | client | at most 64 KiB of UTF-8 | a message |
//! | server | the same bytes | its echo; the server closes the connection, unless `--keep-connections` is given |
//! | server | `ERROR message-too-long: …`, `ERROR invalid-utf8: …`, `ERROR idle-timeout: …`, `ERROR too-many-connections: …` | no echo: why; then it closes |
//!
//! A stream that ends in the middle of a line gets no echo.

pub mod client;
mod connection;
mod metrics;
pub mod server;
