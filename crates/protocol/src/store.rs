//! Actividad 2, the store: its three protocols and their messages.
//!
//! | module | between | wire |
//! | --- | --- | --- |
//! | [`client_api`] | a client and the headnode | one JSON object or plain message per line, over TCP |
//! | [`node_api`] | the headnode and a datanode | one JSON object per line, over TCP |
//! | [`heartbeat`] | the headnode and all datanodes | one JSON object per datagram, over UDP |
//!
//! [`types`] holds the types of the fields in these messages. [`json`] converts messages to bytes and back.

pub mod client_api;
pub mod heartbeat;
pub mod json;
pub mod node_api;
pub mod types;
