//! The names and the arguments of queues.

use lapin::types::{AMQPValue, FieldTable};
use ulid::Ulid;

use crate::brokered::BrokerSettings;
use crate::brokered::address::checked_name;
use crate::{Endpoint, TransportError};

/// A queue of requests that nobody uses for so long goes away.
const UNUSED_QUEUE_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;
/// The inbox of a program that is gone goes away after so long.
const INBOX_MILLISECONDS: i64 = 60 * 1000;
/// The most requests that were given up and wait until a server tells their askers.
const MAX_GIVEN_UP: i64 = 1000;

/// The names of one cluster's queues.
#[derive(Debug, Clone)]
pub(crate) struct RabbitNames {
    prefix: String,
    deliveries: u32,
    max_waiting: u32,
}

impl RabbitNames {
    pub(crate) fn new(settings: &BrokerSettings) -> Self {
        let BrokerSettings { prefix, deliveries, max_waiting, .. } = settings;
        Self { prefix: prefix.clone(), deliveries: *deliveries, max_waiting: *max_waiting }
    }

    /// The queue of an endpoint.
    pub(crate) fn queue(&self, endpoint: &Endpoint) -> Result<String, TransportError> {
        let prefix = &self.prefix;
        Ok(match endpoint {
            Endpoint::Master(_) => format!("{prefix}.master"),
            Endpoint::AnyWorker => format!("{prefix}.tasks"),
            Endpoint::Worker(name) => format!("{prefix}.worker.{}", checked_name(name)?),
        })
    }

    pub(crate) fn inbox(&self, of: Ulid) -> String {
        format!("{}.replies.{of}", self.prefix)
    }

    /// The queue of requests that were delivered too often.
    pub(crate) fn given_up(&self) -> String {
        format!("{}.lost", self.prefix)
    }

    /// A quorum queue counts how often it delivers a request, and survives a broker that is killed.
    pub(crate) fn request_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        insert_text(&mut arguments, "x-queue-type", "quorum");
        insert_text(&mut arguments, "x-overflow", "reject-publish");
        insert_text(&mut arguments, "x-dead-letter-exchange", "");
        insert_text(&mut arguments, "x-dead-letter-routing-key", &self.given_up());
        insert_number(&mut arguments, "x-delivery-limit", i64::from(self.deliveries.saturating_sub(1)));
        insert_number(&mut arguments, "x-max-length", i64::from(self.max_waiting));
        insert_number(&mut arguments, "x-expires", UNUSED_QUEUE_MILLISECONDS);
        arguments
    }

    pub(crate) fn given_up_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        insert_number(&mut arguments, "x-max-length", MAX_GIVEN_UP);
        insert_number(&mut arguments, "x-expires", UNUSED_QUEUE_MILLISECONDS);
        arguments
    }
}

pub(crate) fn inbox_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    insert_number(&mut arguments, "x-expires", INBOX_MILLISECONDS);
    arguments
}

fn insert_text(arguments: &mut FieldTable, name: &'static str, value: &str) {
    arguments.insert(name.into(), AMQPValue::LongString(value.into()));
}

fn insert_number(arguments: &mut FieldTable, name: &'static str, value: i64) {
    arguments.insert(name.into(), AMQPValue::LongLongInt(value));
}
