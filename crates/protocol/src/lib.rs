//! All assignments: the messages between the programs and their codecs, grouped by who talks to whom.
//!
//! No code here uses a socket, a file or a clock, so every byte can be tested without them.
//!
//! | module | assignment | wire | spoken by |
//! | --- | --- | --- | --- |
//! | [`mod@line`] | all | lines of UTF-8 text with a maximum length, over TCP | every program that speaks TCP |
//! | [`actividad1`] | Actividad 1 | one message or reply per line | `server`, `client` |
//! | [`store`] | Actividad 2 | JSON lines and datagrams, in three protocols | `headnode`, `datanode`, `store-client` |
//! | [`lottery`] | TP0 | messages that end in `\r\n`, over TCP | `lottery-server`, `lottery-agency` |

pub mod actividad1;
pub mod line;
pub mod lottery;
pub mod store;
