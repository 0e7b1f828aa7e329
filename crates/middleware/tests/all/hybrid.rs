//! A hybrid of any two transports. Here gRPC stands for the broker; the directory is in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use middleware::grpc::GrpcTransport;
use middleware::hybrid::HybridTransport;
use middleware::xmlrpc::XmlRpcTransport;
use middleware::{Capabilities, Endpoint, Pieces, Requests, SharedTransport, Transport, TransportError};

use crate::conformance::Setup;

struct HybridSetup;

#[async_trait]
impl Setup for HybridSetup {
    async fn transport(&self) -> SharedTransport {
        hybrid()
    }
}

fn hybrid() -> SharedTransport {
    let broker = Arc::new(WithDirectory { calls: GrpcTransport::new(), announced: Mutex::default() });
    Arc::new(HybridTransport::new(broker, Arc::new(XmlRpcTransport::new()), "hybrid-xmlrpc"))
}

async fn setup() -> Option<HybridSetup> {
    Some(HybridSetup)
}

conformance!(setup().await);

/// gRPC with a directory.
struct WithDirectory {
    calls: GrpcTransport,
    announced: Mutex<Vec<Bytes>>,
}

#[async_trait]
impl Transport for WithDirectory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "redis",
            shared_queue: true,
            max_bytes: 1 << 20,
            calls_workers_directly: false,
            starts_functions: false,
        }
    }

    async fn request(&self, to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError> {
        assert!(matches!(to, Endpoint::Master(_)), "workers are called directly, and not {to:?}");
        self.calls.request(to, request).await
    }

    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError> {
        assert!(matches!(endpoint, Endpoint::Master(_)), "workers serve directly, and not {endpoint:?}");
        self.calls.serve(endpoint, at_once).await
    }

    async fn announce(&self, _: &str, description: Bytes, _: Duration) -> Result<(), TransportError> {
        self.announced.lock().unwrap().push(description);
        Ok(())
    }

    async fn announced(&self) -> Result<Vec<Bytes>, TransportError> {
        Ok(self.announced.lock().unwrap().clone())
    }
}

#[tokio::test]
async fn the_directory_is_the_brokers() {
    let hybrid = hybrid();
    hybrid.announce("a", Bytes::from_static(b"{}"), Duration::from_secs(1)).await.unwrap();
    assert_eq!(hybrid.announced().await.unwrap(), ["{}"]);
    let expected = Capabilities {
        name: "hybrid-xmlrpc",
        shared_queue: false,
        calls_workers_directly: true,
        starts_functions: false,
        max_bytes: 1 << 20,
    };
    assert_eq!(hybrid.capabilities(), expected);
    let refused = hybrid.request(&Endpoint::AnyWorker, Bytes::new()).await.err();
    assert!(matches!(refused, Some(TransportError::Invalid(_))), "{refused:?}");
}
