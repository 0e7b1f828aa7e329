//! Runs the real `dataframe`: command line, lines of the prompt, the demo, and the prompt in a terminal.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod buckets;
mod commands;
mod demo;
mod other_engine;
mod prompt;
mod support;
