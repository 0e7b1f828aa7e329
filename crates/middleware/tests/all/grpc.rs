//! gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use middleware::SharedTransport;
use middleware::connect::Middleware;
use middleware::grpc::GrpcTransport;

use crate::conformance::Setup;

/// Transports over gRPC.
pub struct GrpcSetup;

#[async_trait]
impl Setup for GrpcSetup {
    async fn transport(&self) -> SharedTransport {
        Arc::new(GrpcTransport::new())
    }
}

async fn setup() -> Option<GrpcSetup> {
    Some(GrpcSetup)
}

conformance!(setup().await);
conformance_of_direct!(GrpcSetup, Middleware::Grpc);
