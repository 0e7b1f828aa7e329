//! What travels between the programs: message types and their codecs.
//!
//! Nothing here touches a socket, a file or a clock, so every byte can be tested on its own.
//!
//! | module | wire | used by |
//! | --- | --- | --- |
//! | [`mod@line`] | lines of UTF-8 text with a maximum, over TCP | everything that speaks TCP |
//! | [`greeting`] | the messages and replies of Actividad 1, one a line | `server`, `client` |
//! | [`store`] | Actividad 2, client and headnode: one JSON object or plain message a line, over TCP | `headnode`, `store-client` |
//! | [`storage`] | Actividad 2, headnode and datanode: one JSON object a line, over TCP | `headnode`, `datanode` |
//! | [`lottery`] | TP0, agencies and the lottery: messages that end in `\r\n`, over TCP | `lottery-server`, `lottery-agency` |
//! | [`heartbeat`] | Actividad 2, heartbeat: one JSON object a datagram, over UDP | `headnode`, `datanode` |
//!
//! [`types`] holds what these messages are made of, [`json`] their way to bytes and back.

pub mod greeting;
pub mod heartbeat;
pub mod json;
pub mod line;
pub mod lottery;
pub mod storage;
pub mod store;
pub mod types;
