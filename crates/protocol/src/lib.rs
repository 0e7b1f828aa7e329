//! What travels between the programs: message types and their codecs.
//!
//! Nothing here touches a socket, a file or a clock, so every byte can be tested on its own.
//!
//! | module | wire | used by |
//! | --- | --- | --- |
//! | [`mod@line`] | lines of UTF-8 text with a maximum, over TCP | everything that speaks TCP |
//! | [`greeting`] | the messages and replies of Actividad 1, one a line | `server`, `client` |

pub mod greeting;
pub mod line;
