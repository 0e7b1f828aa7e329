//! The tests of the crate in one program.

mod door;
mod junk;
mod language;
mod messages;
mod modules;
mod rules;
mod simulation;
