//! The names of streams and keys.

use ulid::Ulid;

use crate::brokered::address::checked_name;
use crate::{Endpoint, TransportError};

/// The consumer group of each stream of requests.
pub(crate) const GROUP: &str = "takers";

/// The names of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct RedisNames {
    prefix: String,
}

impl RedisNames {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The stream that a request to an endpoint is added to.
    pub(crate) fn stream(&self, endpoint: &Endpoint) -> Result<String, TransportError> {
        let prefix = &self.prefix;
        Ok(match endpoint {
            Endpoint::Master(_) => format!("{prefix}:master"),
            Endpoint::AnyWorker => format!("{prefix}:tasks"),
            Endpoint::Worker(name) => format!("{prefix}:worker:{}", checked_name(name)?),
        })
    }

    pub(crate) fn inbox(&self, of: Ulid) -> String {
        format!("{}:replies:{of}", self.prefix)
    }

    pub(crate) fn announced(&self, name: &str) -> Result<String, TransportError> {
        Ok(format!("{}:announced:{}", self.prefix, checked_name(name)?))
    }

    /// The pattern of all keys of announced workers.
    pub(crate) fn all_announced(&self) -> String {
        let mut pattern = String::new();
        for character in self.prefix.chars() {
            if "*?[]^-\\".contains(character) {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern + ":announced:*"
    }
}
