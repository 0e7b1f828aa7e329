//! Redis and a direct middleware: the master is reached through the broker, workers at their own addresses.
//!
//! So clients and workers need to know the broker alone, which keeps the list of the workers, while tasks and their results
//! take the short way.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::reply::check_length;
use crate::{Capabilities, Endpoint, Pieces, Requests, SharedTransport, Transport, TransportError};

/// Calls the master through a broker, and workers directly.
pub struct HybridTransport {
    broker: SharedTransport,
    direct: SharedTransport,
    name: &'static str,
}

impl HybridTransport {
    /// Makes a transport of two others, under a name of its own.
    #[must_use]
    pub fn new(broker: SharedTransport, direct: SharedTransport, name: &'static str) -> HybridTransport {
        HybridTransport { broker, direct, name }
    }

    fn side(&self, endpoint: &Endpoint) -> &SharedTransport {
        match endpoint {
            Endpoint::Master(_) => &self.broker,
            // The direct middleware refuses `AnyWorker` with its reason.
            Endpoint::Worker(_) | Endpoint::AnyWorker => &self.direct,
        }
    }
}

#[async_trait]
impl Transport for HybridTransport {
    fn capabilities(&self) -> Capabilities {
        let direct = self.direct.capabilities();
        let max_bytes = direct.max_bytes.min(self.broker.capabilities().max_bytes);
        Capabilities { name: self.name, max_bytes, ..direct }
    }

    async fn request(&self, to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError> {
        check_length("a request", request.len(), self.capabilities().max_bytes)?;
        self.side(to).request(to, request).await
    }

    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError> {
        self.side(endpoint).serve(endpoint, at_once).await
    }

    async fn announce(&self, name: &str, description: Bytes, ttl: Duration) -> Result<(), TransportError> {
        self.broker.announce(name, description, ttl).await
    }

    async fn announced(&self) -> Result<Vec<Bytes>, TransportError> {
        self.broker.announced().await
    }
}
