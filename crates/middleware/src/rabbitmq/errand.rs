//! A request that was taken from a queue.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{Acker, Channel, PublisherConfirm};
use tokio::runtime::Handle;

use super::link::{Posted, answered, confirmed};
use super::message::letter_properties;
use super::shared::RabbitShared;
use crate::brokered::letter::Letter;
use crate::brokered::pace::Pace;
use crate::brokered::reply::{Errand, LetterError};

/// The most letters that are sent before the first one is confirmed.
const UNCONFIRMED: usize = 4;

/// A letter that the broker has not confirmed, and the connection that it was sent on.
struct SentLetter {
    letter: Letter,
    confirm: Result<PublisherConfirm, String>,
    generation: u64,
}

/// A request that was taken from a queue.
pub(crate) struct RabbitErrand {
    shared: Arc<RabbitShared>,
    inbox: String,
    acker: Acker,
    /// The request cannot be acknowledged on another channel than its own one.
    channel: Channel,
    sent: VecDeque<SentLetter>,
}

impl RabbitErrand {
    pub(crate) fn new(shared: &Arc<RabbitShared>, inbox: String, acker: Acker, channel: Channel) -> Self {
        Self { shared: Arc::clone(shared), inbox, acker, channel, sent: VecDeque::new() }
    }

    /// Sends a letter on a connection that is younger than `after`.
    async fn send(&mut self, letter: Letter, after: u64) -> Result<(), LetterError> {
        let patience = self.shared.settings.patience;
        let live = self.shared.link.live(after, patience).await.map_err(LetterError::Failed)?;
        let confirm = live.publish(&self.inbox, &letter.body, letter_properties(&letter)).await;
        self.sent.push_back(SentLetter { letter, confirm, generation: live.generation });
        Ok(())
    }

    /// Waits until at most `left` letters are not confirmed. Sends letters again that were lost with their connection: the asker
    /// knows them by their number.
    async fn settle(&mut self, left: usize) -> Result<(), LetterError> {
        let mut pace = Pace::for_at_most(self.shared.settings.patience);
        while self.sent.len() > left {
            let Some(SentLetter { letter, confirm, generation }) = self.sent.pop_front() else { break };
            let result = match confirm {
                Ok(confirm) => confirmed(confirm).await,
                Err(error) => Err(error),
            };
            let mut after = 0;
            match result {
                Ok(Posted::Taken) => continue,
                Ok(Posted::NoQueue) if !self.shared.link.is_in_grace() => return Err(LetterError::AskerGone),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error, "the connection to RabbitMQ broke");
                    self.shared.link.suspects(generation);
                    after = generation;
                }
            }
            if !pace.pause().await {
                return Err(LetterError::Failed(self.shared.gave_up()));
            }
            let rest = std::mem::take(&mut self.sent);
            self.send(letter, after).await?;
            for later in rest {
                self.send(later.letter, after).await?;
            }
        }
        Ok(())
    }

    fn acknowledge(self, is_given_back: bool) {
        // At the end of a program there may be no runtime. The broker then sees the connection end.
        let Ok(runtime) = Handle::try_current() else { return };
        let Self { acker, channel, sent, .. } = self;
        runtime.spawn(async move {
            let result = if is_given_back {
                answered(acker.nack(BasicNackOptions { requeue: true, multiple: false })).await
            } else {
                answered(acker.ack(BasicAckOptions::default())).await
            };
            if let Err(error) = result {
                tracing::debug!(error, "a request is given back by the end of its connection");
            }
            drop(channel);
            // The library collects confirmations that nobody waits for.
            for confirm in sent.into_iter().filter_map(|sent| sent.confirm.ok()) {
                let _ = confirmed(confirm).await;
            }
        });
    }
}

#[async_trait]
impl Errand for RabbitErrand {
    async fn post(&mut self, letter: Letter) -> Result<(), LetterError> {
        self.send(letter, 0).await?;
        self.settle(UNCONFIRMED).await
    }

    async fn complete(&mut self, end: Letter) -> Result<(), LetterError> {
        self.send(end, 0).await?;
        self.settle(0).await?;
        // If the connection broke, the broker delivers the request again, and its asker says that nobody waits for it.
        if let Err(error) = answered(self.acker.ack(BasicAckOptions::default())).await {
            tracing::debug!(error, "a finished request could not be acknowledged");
        }
        Ok(())
    }

    fn give_back(self: Box<Self>) {
        self.acknowledge(true);
    }

    fn discard(self: Box<Self>) {
        self.acknowledge(false);
    }
}
