//! XML-RPC methods for clients in any language, with the names of the assignment's public solution.

mod master;
mod values;
mod worker;

pub(crate) use master::MasterMethods;
pub(crate) use worker::worker_methods;
