//! Requests by way of RabbitMQ: durable queues, whose messages are acknowledged when their replies are finished.
//!
//! | queue | what |
//! | --- | --- |
//! | `dataframe.master`, `dataframe.tasks`, `dataframe.worker.NAME` | requests; a quorum queue, which counts deliveries |
//! | `dataframe.replies.ULID` | the inbox of one program: pieces of replies, and what askers say |
//! | `dataframe.lost` | requests that were delivered too often; their askers are told |
//!
//! The broker confirms all that is published. The connection is made again by this module.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use crate::brokered::BrokerSettings;
use crate::brokered::address::checked_prefix;
use crate::brokered::correspondence::Correspondence;
use crate::brokered::pace::Pace;
use crate::{Capabilities, Endpoint, Incoming, Pieces, Requests, Transport, TransportError};

mod errand;
mod inbox;
mod link;
mod message;
mod names;
mod shared;
mod taker;

use inbox::keep_connected;
use link::{LiveRabbit, Posted, RabbitLink, confirmed};
use message::request_properties;
use names::RabbitNames;
use shared::RabbitShared;
use taker::{RabbitTaker, declare};

/// The longest piece and the longest request, in bytes.
pub const RABBITMQ_MAX_BYTES: usize = 1 << 20;
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Requests by way of RabbitMQ.
pub struct RabbitmqTransport {
    shared: Arc<RabbitShared>,
    running: Arc<Vec<AbortOnDropHandle<()>>>,
}

impl RabbitmqTransport {
    /// Begins to connect to a RabbitMQ, such as `amqp://guest:guest@127.0.0.1:5672`. A broker that is away is connected to when it is
    /// there.
    ///
    /// # Errors
    /// Fails if the address is not one of a RabbitMQ.
    ///
    /// # Panics
    /// If it is called outside of a tokio runtime.
    pub fn new(url: &str, settings: BrokerSettings) -> Result<Self, TransportError> {
        checked_prefix(&settings.prefix)?;
        let link = RabbitLink::new(url)?;
        let names = RabbitNames::new(&settings);
        let (correspondence, notes) =
            Correspondence::new(names.inbox(Ulid::generate()), link.peer().to_owned());
        let shared = Arc::new(RabbitShared { link, names, settings, correspondence });
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(keep_connected(Arc::clone(&shared)))),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).carry_out(notes))),
        ];
        Ok(Self { shared, running: Arc::new(tasks) })
    }

    /// Tries once to put a request into a queue.
    async fn try_ask(
        &self,
        live: &LiveRabbit,
        queue: &str,
        ask: Ulid,
        request: &Bytes,
    ) -> Result<Posted, String> {
        live.declare(queue, self.shared.names.request_arguments()).await?;
        let properties = request_properties(ask, self.shared.correspondence.inbox());
        let posted = confirmed(live.publish(queue, request, properties).await?).await?;
        if posted == Posted::NoQueue {
            live.is_gone(queue);
        }
        Ok(posted)
    }
}

#[async_trait]
impl Transport for RabbitmqTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "rabbitmq",
            shared_queue: true,
            calls_workers_directly: false,
            starts_functions: false,
            max_bytes: RABBITMQ_MAX_BYTES,
        }
    }

    async fn request(&self, to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError> {
        if request.len() > RABBITMQ_MAX_BYTES {
            let length = request.len();
            let most = format!("at most {RABBITMQ_MAX_BYTES} are allowed over RabbitMQ");
            return Err(TransportError::Invalid(format!("the request has {length} bytes, and {most}")));
        }
        let shared = &self.shared;
        let queue = shared.names.queue(to)?;
        let reply = shared.correspondence.open(self.running.clone());
        let mut pace = Pace::for_at_most(shared.settings.patience);
        let mut broken = 0;
        loop {
            let live = shared.link.live(broken, shared.settings.patience).await?;
            match self.try_ask(&live, &queue, reply.ask(), &request).await {
                Ok(Posted::Taken) => return Ok(Box::pin(reply)),
                Ok(Posted::Full) => {
                    let most = shared.settings.max_waiting;
                    let cause = format!("{most} requests wait in {queue} already: nobody takes them");
                    return Err(shared.link.unreachable(cause));
                }
                Ok(Posted::NoQueue) => {}
                Err(error) => {
                    tracing::debug!(error, "the connection to RabbitMQ broke");
                    shared.link.suspects(live.generation);
                    broken = live.generation;
                }
            }
            if !pace.pause().await {
                return Err(shared.gave_up());
            }
        }
    }

    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError> {
        let at_once = u16::try_from(at_once.max(1)).unwrap_or(u16::MAX);
        let queues = vec![self.shared.names.queue(endpoint)?];
        let mut pace = None;
        loop {
            let live = self.shared.link.live(0, FOR_EVER).await?;
            let Err(error) = declare(&self.shared, &live, &queues).await else { break };
            // A broker that came late is no reason to lose patience with it.
            let pace = pace.get_or_insert_with(|| Pace::for_at_most(self.shared.settings.patience));
            if !pace.pause().await {
                return Err(self.shared.link.unreachable(format!("RabbitMQ refuses the queues: {error}")));
            }
        }
        let (incoming, receiver) = mpsc::channel(usize::from(at_once));
        let taker = RabbitTaker {
            shared: Arc::clone(&self.shared),
            queues,
            at_once,
            slots: Arc::new(Semaphore::new(usize::from(at_once))),
            incoming,
            max_bytes: RABBITMQ_MAX_BYTES,
            keeps: self.running.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(taker.run()));
        Ok(Box::new(RabbitRequests { receiver, _task: task }))
    }
}

/// The requests to one endpoint.
struct RabbitRequests {
    receiver: mpsc::Receiver<Incoming>,
    _task: AbortOnDropHandle<()>,
}

#[async_trait]
impl Requests for RabbitRequests {
    async fn next(&mut self) -> Incoming {
        match self.receiver.recv().await {
            Some(incoming) => incoming,
            None => std::future::pending().await,
        }
    }

    fn address(&self) -> Option<String> {
        None
    }
}
