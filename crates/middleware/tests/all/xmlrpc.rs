//! XML-RPC.

use std::sync::Arc;

use async_trait::async_trait;
use middleware::SharedTransport;
use middleware::connect::Middleware;
use middleware::xmlrpc::XmlRpcTransport;

use crate::conformance::Setup;

/// Transports over XML-RPC.
pub struct XmlRpcSetup;

#[async_trait]
impl Setup for XmlRpcSetup {
    async fn transport(&self) -> SharedTransport {
        Arc::new(XmlRpcTransport::new())
    }
}

async fn setup() -> Option<XmlRpcSetup> {
    Some(XmlRpcSetup)
}

conformance!(setup().await);
conformance_of_direct!(XmlRpcSetup, Middleware::XmlRpc);
