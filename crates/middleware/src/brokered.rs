//! What both brokers share: letters in inboxes, replies that are put together again, and back pressure.
//!
//! Each transport has one *inbox* at the broker. All that comes to it is a *letter*: a piece of a reply to a request
//! that it sent, or word from an asker about a reply that it sends itself.
//!
//! A replier may have a bounded number of bytes on their way: the asker says how many it has consumed, so that a long
//! reply fills neither the broker nor the asker, and one slow reader holds up no other one.

use std::time::Duration;

pub(crate) mod address;
pub(crate) mod correspondence;
pub(crate) mod letter;
pub(crate) mod pace;
pub(crate) mod reply;

/// What may be set about a broker. The defaults suit a cluster.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// The beginning of the names of all streams, queues and keys, so that several clusters share a broker. Default: `dataframe`.
    pub prefix: String,
    /// Redis, object store: a request whose taker has given no sign of life for so long is given to another one. Default: 5 s.
    pub takeover_after: Duration,
    /// Redis, object store: the same for requests to a master, which another master takes over. Default: 1 s.
    pub master_takeover_after: Duration,
    /// A request, or a piece of a reply, waits for so long for a broker that is away. Default: 20 s.
    pub patience: Duration,
    /// A request is given up after so many deliveries, because it may be what kills its takers. Default: 3.
    pub deliveries: u32,
    /// More requests than this do not wait at one endpoint. A further one fails. Default: 10,000.
    pub max_waiting: u32,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            prefix: "dataframe".to_owned(),
            takeover_after: Duration::from_secs(5),
            master_takeover_after: Duration::from_secs(1),
            patience: Duration::from_secs(20),
            deliveries: 3,
            max_waiting: 10_000,
        }
    }
}
