//! Actividad 2, the store: who talks to whom, and what they say.
//!
//! | module | between | wire |
//! | --- | --- | --- |
//! | [`client_api`] | a client and the headnode | one JSON object or plain message a line, over TCP |
//! | [`node_api`] | the headnode and a datanode | one JSON object a line, over TCP |
//! | [`heartbeat`] | the headnode and all datanodes | one JSON object a datagram, over UDP |
//!
//! [`types`] holds what these messages are made of. [`json`] turns them into bytes and back.

pub mod client_api;
pub mod heartbeat;
pub mod json;
pub mod node_api;
pub mod types;
