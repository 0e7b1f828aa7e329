//! TP0: an echo server with N clients, then the Lotería Nacional.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`start`] | start and end of all four programs: arguments, configuration, logs, signals, exit codes |
//! | `config` | `config.ini` of the servers, `config.yaml` of the clients, the environment over both |
//! | `action_log` | the `action: … | result: …` lines on standard output |
//! | `listener` | a server's listening socket, with action lines for its connections and its end |
//! | [`echo`] | exercises 1 to 4: `echo-server` and `echo-client` |
//! | [`lottery`] | exercises 5 to 8: `lottery-server` and `lottery-agency` |
//! | `monitor` | what the metrics and the health of both servers have in common |
//! | `go_duration` | durations as Go reads and prints them |

#![allow(missing_docs, reason = "a program's own library: only its binaries use it")]

mod action_log;
mod config;
pub mod echo;
mod go_duration;
mod listener;
pub mod lottery;
mod monitor;
pub mod start;
