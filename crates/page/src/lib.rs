//! All assignments: what people and monitors look at. A server inside a program that answers HTTP: a live page, metrics
//! and health.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`arguments`] | the flags `--page`, `--page-host` and `--metrics` |
//! | [`source`] | what a program tells about itself |
//! | `server` | listens, and serves each connection within its limits |
//! | `router` | which path has which answer, and which requests are refused |
//! | `live` | frames of the page as Server-Sent Events, each made once for all pages |
//! | `assets` | the files of the page, which are part of the program |
//! | `exposition` | metrics as text |
//! | [`latency`] | a histogram of durations that costs a few nanoseconds |
//! | [`bounded`] | metrics by name, for a bounded number of names |
//! | [`history`] | the values of the last ten minutes |
//! | `tail` | the end of a file |
//!
//! The server has its own thread. It reads what the program publishes, and it never makes the program wait. While nobody
//! looks, it only takes a sample of the counters every five seconds.
//!
//! It does not know what the numbers mean, and it changes nothing in the program: every request is a GET or a HEAD.

pub mod arguments;
mod assets;
pub mod bounded;
mod exposition;
pub mod history;
pub mod latency;
mod live;
mod router;
mod server;
pub mod source;
mod tail;

pub use arguments::{MetricsArguments, PageArguments, PageConfig};
pub use server::{PageListener, bind, serve};
pub use source::{Check, FrameStamp, Health, RawFile, Source, json};
