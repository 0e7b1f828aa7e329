//! Connects, and connects again, and reads the inbox.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use lapin::Consumer;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use super::link::{LiveRabbit, answered};
use super::message::into_letter;
use super::names::inbox_arguments;
use super::shared::RabbitShared;
use crate::brokered::pace::Pace;

/// The most letters that are on their way to this program at once.
const LETTERS: u16 = 64;
const LOST: &str = "the broker was started again, and a part of the reply may be lost";

/// Keeps a connection for ever.
pub(crate) async fn keep_connected(shared: Arc<RabbitShared>) {
    let mut had_inbox = false;
    let mut pace = Pace::endless();
    let mut said = String::new();
    for generation in 1.. {
        let result = match shared.link.connect(generation).await {
            Ok(live) => read(&shared, Arc::new(live), &mut had_inbox, &mut pace).await,
            Err(error) => Err(error),
        };
        let cause = result.err().unwrap_or_else(|| "the connection was closed".to_owned());
        shared.link.hides(&cause);
        // The same complaint again and again helps nobody.
        if said != cause {
            tracing::warn!(peer = shared.link.peer(), cause, "RabbitMQ is away, and is connected to again");
            said = cause;
        }
        pace.pause().await;
    }
}

/// Reads the inbox until the connection breaks.
async fn read(
    shared: &RabbitShared,
    live: Arc<LiveRabbit>,
    had_inbox: &mut bool,
    pace: &mut Pace,
) -> Result<(), String> {
    let mut consumer = prepare(shared, &live, had_inbox).await?;
    shared.link.shows(Arc::clone(&live));
    *pace = Pace::endless();
    let result = loop {
        let letter = tokio::select! {
            letter = consumer.next() => letter,
            () = shared.link.is_suspected(live.generation) => break Err("a message could not be published".to_owned()),
        };
        if let Err(error) = receive(shared, &mut consumer, letter).await {
            break Err(error);
        }
    };
    tokio::spawn(async move { live.close().await });
    result
}

/// Takes a letter and all that are there with it, and acknowledges them together.
async fn receive(
    shared: &RabbitShared,
    consumer: &mut Consumer,
    first: Option<lapin::Result<lapin::message::Delivery>>,
) -> Result<(), String> {
    let mut next = Some(first);
    let mut last = None;
    while let Some(letter) = next {
        let delivery = letter.ok_or("the inbox was closed")?.map_err(|error| error.to_string())?;
        last = Some(delivery.acker.clone());
        match into_letter(delivery) {
            Some(letter) => shared.correspondence.receive(letter),
            None => tracing::warn!("something in the inbox is no letter, and is dropped"),
        }
        next = consumer.next().now_or_never();
    }
    if let Some(last) = last {
        answered(last.ack(BasicAckOptions { multiple: true })).await?;
    }
    Ok(())
}

/// Makes the inbox if it is not there. If it was there in an earlier connection, what it held is lost.
async fn prepare(shared: &RabbitShared, live: &LiveRabbit, had_inbox: &mut bool) -> Result<Consumer, String> {
    let inbox = shared.correspondence.inbox();
    if *had_inbox {
        // The broker closes the channel if there is no such queue.
        let probe = live.channel().await?;
        let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        if answered(probe.queue_declare(inbox.into(), look, FieldTable::default())).await.is_err() {
            tracing::info!(peer = shared.link.peer(), "RabbitMQ was started again");
            shared.correspondence.fail_started(LOST);
        }
    }
    let channel = live.channel().await?;
    let options = QueueDeclareOptions::default();
    answered(channel.queue_declare(inbox.into(), options, inbox_arguments())).await?;
    *had_inbox = true;
    answered(channel.basic_qos(LETTERS, BasicQosOptions::default())).await?;
    let options = BasicConsumeOptions::default();
    answered(channel.basic_consume(inbox.into(), "".into(), options, FieldTable::default())).await
}
