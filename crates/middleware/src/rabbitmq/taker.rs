//! Takes the requests to an endpoint.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::{Semaphore, mpsc};
use ulid::Ulid;

use super::errand::RabbitErrand;
use super::link::{LiveRabbit, answered};
use super::message::asker;
use super::shared::RabbitShared;
use crate::brokered::letter::{Letter, LetterKind};
use crate::brokered::pace::Pace;
use crate::brokered::reply::BrokeredReply;
use crate::{Incoming, PeerRole};

const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A message, and whether its request is given up.
type Taken = (lapin::Result<Delivery>, bool);

/// Takes the requests from the queues of one endpoint.
///
/// The broker sends up to `at_once` requests from each queue in advance. One that is for any worker may so wait behind the requests
/// for this worker alone, if those take long.
pub(crate) struct RabbitTaker {
    pub(crate) shared: Arc<RabbitShared>,
    pub(crate) queues: Vec<String>,
    pub(crate) at_once: u16,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) max_bytes: usize,
    pub(crate) keeps: Arc<dyn Any + Send + Sync>,
}

/// Declares what an endpoint needs.
pub(crate) async fn declare(
    shared: &RabbitShared,
    live: &LiveRabbit,
    queues: &[String],
) -> Result<(), String> {
    live.declare(&shared.names.given_up(), shared.names.given_up_arguments()).await?;
    for queue in queues {
        live.declare(queue, shared.names.request_arguments()).await?;
    }
    Ok(())
}

impl RabbitTaker {
    /// Takes requests until nobody wants them any more, on each connection that comes.
    pub(crate) async fn run(self) {
        let mut pace = Pace::endless();
        while !self.incoming.is_closed() {
            // Waiting without end fails only if the broker refuses, which may be mended there.
            if let Ok(live) = self.shared.link.live(0, FOR_EVER).await {
                match self.run_connection(&live, &mut pace).await {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(error, "the connection to RabbitMQ broke"),
                }
            }
            pace.pause().await;
        }
    }

    async fn run_connection(&self, live: &LiveRabbit, pace: &mut Pace) -> Result<(), String> {
        declare(&self.shared, live, &self.queues).await?;
        let channel = live.channel().await?;
        // The prefetch holds for each consumer: quorum queues know no other one. How many are handed out is counted here.
        answered(channel.basic_qos(self.at_once, BasicQosOptions::default())).await?;
        let mut streams = vec![consume(&channel, &self.shared.names.given_up(), true).await?];
        for queue in &self.queues {
            streams.push(consume(&channel, queue, false).await?);
        }
        *pace = Pace::endless();
        let mut all = select_all(streams);
        while let Some((delivery, is_given_up)) = all.next().await {
            let delivery = delivery.map_err(|error| error.to_string())?;
            if is_given_up {
                self.tell_asker(delivery).await;
            } else if !self.hand_out(delivery, &channel).await {
                return Ok(());
            }
        }
        Err("the queue was closed".to_owned())
    }

    /// Hands a request to who serves the endpoint. Returns false if nobody does any more.
    async fn hand_out(&self, delivery: Delivery, channel: &Channel) -> bool {
        let Some(asker) = asker(&delivery) else {
            tracing::warn!("a message is no request, and is dropped");
            let _ = answered(delivery.acker.ack(BasicAckOptions::default())).await;
            return true;
        };
        let slots = Arc::clone(&self.slots);
        let permit = slots.acquire_owned().await.expect("the semaphore is never closed");
        if !delivery.acker.usable() {
            // Its connection broke meanwhile. The broker delivers it again.
            return true;
        }
        let errand =
            Box::new(RabbitErrand::new(&self.shared, asker.inbox.clone(), delivery.acker, channel.clone()));
        let (correspondence, keeps) = (&self.shared.correspondence, Arc::clone(&self.keeps));
        let reply = BrokeredReply::new(correspondence, errand, asker, self.max_bytes, permit, keeps);
        let request = Bytes::from(delivery.data);
        self.incoming.send(Incoming { request, peer: PeerRole::Node, reply: Box::new(reply) }).await.is_ok()
    }

    /// Tells an asker that its request was delivered too often.
    async fn tell_asker(&self, delivery: Delivery) {
        let deliveries = self.shared.settings.deliveries;
        tracing::warn!(deliveries, "a request is given up: its takers were lost each time");
        if let Some(asker) = asker(&delivery) {
            let why =
                format!("the request was given to {deliveries} peers in turn, and each was lost with it");
            let letter = Letter {
                kind: LetterKind::Failed,
                ask: asker.ask,
                attempt: Ulid::generate(),
                number: 0,
                from: self.shared.correspondence.inbox().to_owned(),
                body: Bytes::from(why),
            };
            // If the asker is gone, nobody wants to know.
            let _ = self.shared.post(&asker.inbox, &letter).await;
        }
        let _ = answered(delivery.acker.ack(BasicAckOptions::default())).await;
    }
}

async fn consume(
    channel: &Channel,
    queue: &str,
    is_given_up: bool,
) -> Result<BoxStream<'static, Taken>, String> {
    let options = BasicConsumeOptions::default();
    let consumer =
        answered(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default())).await?;
    // A consumer that ends takes the others with it, so that all are made again.
    let end = futures_util::stream::once(async { Err(lapin::ErrorKind::FutureCompleted.into()) });
    Ok(consumer.chain(end).map(move |delivery| (delivery, is_given_up)).boxed())
}
