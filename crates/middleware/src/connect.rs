//! Makes the transport that a command line names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::brokered::BrokerSettings;
use crate::grpc::{GrpcTransport, Routes};
use crate::hybrid::HybridTransport;
use crate::objectstore::ObjectStoreTransport;
use crate::rabbitmq::RabbitmqTransport;
use crate::redis::RedisTransport;
use crate::xmlrpc::{Methods, XmlRpcTransport};
use crate::{MutualTls, SharedTransport, TransportError};

/// A middleware by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Middleware {
    /// `grpc`: calls by gRPC.
    Grpc,
    /// `xmlrpc`: calls by XML-RPC.
    XmlRpc,
    /// `redis`: streams of a Redis server.
    Redis,
    /// `rabbitmq`: queues of a RabbitMQ server.
    RabbitMq,
    /// `objectstore`: a folder or a bucket of S3.
    ObjectStore,
    /// `hybrid-grpc`, also `hybrid`: the master by Redis, workers by gRPC.
    HybridGrpc,
    /// `hybrid-xmlrpc`: the master by Redis, workers by XML-RPC.
    HybridXmlRpc,
}

impl Middleware {
    /// All of them.
    pub const ALL: [Middleware; 7] = [
        Middleware::Grpc,
        Middleware::XmlRpc,
        Middleware::Redis,
        Middleware::RabbitMq,
        Middleware::ObjectStore,
        Middleware::HybridGrpc,
        Middleware::HybridXmlRpc,
    ];

    /// The name on command lines, which is [`crate::Capabilities::name`] too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Middleware::Grpc => "grpc",
            Middleware::XmlRpc => "xmlrpc",
            Middleware::Redis => "redis",
            Middleware::RabbitMq => "rabbitmq",
            Middleware::ObjectStore => "objectstore",
            Middleware::HybridGrpc => "hybrid-grpc",
            Middleware::HybridXmlRpc => "hybrid-xmlrpc",
        }
    }

    /// Whether a broker is needed. A bucket is one.
    #[must_use]
    pub fn has_broker(self) -> bool {
        self.example_broker().is_some()
    }

    /// Whether somebody is called at an address, so that certificates are of use: workers, and without a broker the master.
    #[must_use]
    pub fn calls_directly(self) -> bool {
        match self {
            Middleware::Grpc | Middleware::XmlRpc | Middleware::HybridGrpc | Middleware::HybridXmlRpc => true,
            Middleware::Redis | Middleware::RabbitMq | Middleware::ObjectStore => false,
        }
    }

    /// A URL of the broker that is needed, as an example.
    #[must_use]
    pub fn example_broker(self) -> Option<&'static str> {
        match self {
            Middleware::Grpc | Middleware::XmlRpc => None,
            Middleware::Redis | Middleware::HybridGrpc | Middleware::HybridXmlRpc => {
                Some("redis://127.0.0.1:6379")
            }
            Middleware::RabbitMq => Some("amqp://guest:guest@127.0.0.1:5672"),
            Middleware::ObjectStore => Some("file:///var/tmp/bucket"),
        }
    }
}

impl fmt::Display for Middleware {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Middleware {
    type Err = String;

    fn from_str(name: &str) -> Result<Middleware, String> {
        let name = if name == "hybrid" { "hybrid-grpc" } else { name };
        Middleware::ALL.into_iter().find(|middleware| middleware.name() == name).ok_or_else(|| {
            let names = Middleware::ALL.map(Middleware::name).join(", ");
            format!("{name:?} is no middleware: one of {names} is, and hybrid, which is hybrid-grpc")
        })
    }
}

/// What a transport is made from.
#[derive(Clone, Default)]
pub struct TransportSettings {
    /// The broker, where there is one: `redis://HOST:6379`, `amqp://USER:PASSWORD@HOST:5672`, `s3://BUCKET/PREFIX` or a folder.
    pub broker_url: Option<String>,
    /// A Redis for letters between the parts of a cluster whose broker is a bucket: `redis://HOST:6379`.
    pub fast_store_url: Option<String>,
    /// How a broker is used.
    pub broker: BrokerSettings,
    /// What XML-RPC serves besides requests, at every address that is served by XML-RPC.
    pub methods: Methods,
    /// What gRPC serves besides requests, at every address that is served by gRPC.
    pub services: Routes,
    /// The certificates for the connections of gRPC and XML-RPC. Without them there is no TLS.
    pub tls: Option<MutualTls>,
}

impl TransportSettings {
    fn broker_url(&self, middleware: Middleware) -> Result<&str, TransportError> {
        let example = middleware.example_broker().unwrap_or_default();
        self.broker_url.as_deref().ok_or_else(|| {
            TransportError::Invalid(format!("{middleware} needs a broker: give its URL, such as {example}"))
        })
    }
}

/// Makes a transport. Direct ones connect when they are used first.
///
/// # Errors
/// Fails if the middleware needs a broker and the settings name none, or if the broker's URL is wrong. A broker that is away is
/// waited for later, when it is used.
pub async fn connect(
    middleware: Middleware,
    settings: TransportSettings,
) -> Result<SharedTransport, TransportError> {
    if settings.fast_store_url.is_some() && middleware != Middleware::ObjectStore {
        return Err(TransportError::Invalid(format!(
            "a fast store is for {}, not for {middleware}",
            Middleware::ObjectStore
        )));
    }
    let direct: SharedTransport = match middleware {
        Middleware::Redis => return redis(middleware, &settings),
        Middleware::RabbitMq => return rabbitmq(middleware, &settings),
        Middleware::ObjectStore => return objectstore(middleware, &settings),
        Middleware::Grpc | Middleware::HybridGrpc => {
            Arc::new(GrpcTransport::with_services(settings.services.clone(), settings.tls.clone()))
        }
        Middleware::XmlRpc | Middleware::HybridXmlRpc => {
            Arc::new(XmlRpcTransport::with_methods(settings.methods.clone(), settings.tls.clone()))
        }
    };
    if !middleware.has_broker() {
        return Ok(direct);
    }
    let broker = redis(middleware, &settings)?;
    Ok(Arc::new(HybridTransport::new(broker, direct, middleware.name())))
}

fn redis(middleware: Middleware, settings: &TransportSettings) -> Result<SharedTransport, TransportError> {
    let url = settings.broker_url(middleware)?;
    Ok(Arc::new(RedisTransport::new(url, settings.broker.clone())?))
}

fn rabbitmq(middleware: Middleware, settings: &TransportSettings) -> Result<SharedTransport, TransportError> {
    let url = settings.broker_url(middleware)?;
    Ok(Arc::new(RabbitmqTransport::new(url, settings.broker.clone())?))
}

fn objectstore(
    middleware: Middleware,
    settings: &TransportSettings,
) -> Result<SharedTransport, TransportError> {
    let (url, fast_store) = (settings.broker_url(middleware)?, settings.fast_store_url.as_deref());
    Ok(Arc::new(ObjectStoreTransport::new(url, fast_store, settings.broker.clone())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for middleware in Middleware::ALL {
            assert_eq!(middleware.to_string().parse(), Ok(middleware));
        }
        assert_eq!("hybrid".parse(), Ok(Middleware::HybridGrpc));
        let error = "corba".parse::<Middleware>().unwrap_err();
        assert!(error.contains("\"corba\"") && error.contains("xmlrpc"), "{error}");
    }

    #[tokio::test]
    async fn a_broker_without_url_is_refused_with_an_example() {
        let refused = connect(Middleware::HybridXmlRpc, TransportSettings::default()).await.err();
        assert!(
            matches!(&refused, Some(TransportError::Invalid(text)) if text.contains("redis://")),
            "{refused:?}"
        );
    }
}
