//! The brokers: the suite of all middlewares, and what becomes of requests when a program or the broker is killed.

use std::sync::Arc;
use std::time::Duration;

use middleware::SharedTransport;
use middleware::brokered::BrokerSettings;
use middleware::rabbitmq::RabbitmqTransport;
use middleware::redis::RedisTransport;

#[macro_use]
mod faults;
mod latency;
mod objectstore;
mod rabbitmq;
mod redis;
mod s3;

/// Settings of a cluster that notices a lost program quickly.
fn quick(prefix: String) -> BrokerSettings {
    BrokerSettings { prefix, takeover_after: Duration::from_millis(900), ..BrokerSettings::default() }
}

/// A transport of a cluster that another process made.
fn transport(kind: &str, url: &str, prefix: &str) -> SharedTransport {
    let settings = quick(prefix.to_owned());
    match kind {
        "redis" => Arc::new(RedisTransport::new(url, settings).unwrap()),
        "objectstore" => objectstore::transport(url, settings),
        "rabbitmq" => Arc::new(RabbitmqTransport::new(url, settings).unwrap()),
        _ => panic!("{kind} is no middleware"),
    }
}
