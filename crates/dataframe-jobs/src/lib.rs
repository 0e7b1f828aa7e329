//! Tasca 1: what the parts of a distributed DataFrame say to each other, and the scheduler. No sockets, files or clocks.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`operation`] | the language: a JSON list of DataFrame operations, the same on every middleware |
//! | [`message`] | requests to a master and to a worker, and the pieces of their replies |
//! | [`packet`] | the bytes of a message: one line of JSON, and a body |
//! | [`failure`] | why a job or a task failed, and who can do something about it |
//! | [`scheduler`] | which worker runs which task: a pure state machine |

pub mod failure;
pub mod message;
pub mod operation;
pub mod packet;
pub mod scheduler;
