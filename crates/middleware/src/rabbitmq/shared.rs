//! What all parts of the transport share.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::link::{Posted, RabbitLink, confirmed};
use super::message::letter_properties;
use super::names::RabbitNames;
use crate::TransportError;
use crate::brokered::BrokerSettings;
use crate::brokered::correspondence::{Correspondence, Note};
use crate::brokered::letter::Letter;
use crate::brokered::pace::Pace;
use crate::brokered::reply::LetterError;

/// The connection, names and open requests of one transport.
pub(crate) struct RabbitShared {
    pub(crate) link: RabbitLink,
    pub(crate) names: RabbitNames,
    pub(crate) settings: BrokerSettings,
    pub(crate) correspondence: Arc<Correspondence>,
}

impl RabbitShared {
    /// Puts a letter into an inbox, and waits until the broker has it.
    pub(crate) async fn post(&self, inbox: &str, letter: &Letter) -> Result<(), LetterError> {
        let mut broken = 0;
        let mut pace = Pace::for_at_most(self.settings.patience);
        loop {
            let live = self.link.live(broken, self.settings.patience).await.map_err(LetterError::Failed)?;
            let sent = match live.publish(inbox, &letter.body, letter_properties(letter)).await {
                Ok(confirm) => confirmed(confirm).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(Posted::Taken) => return Ok(()),
                Ok(Posted::NoQueue) if !self.link.is_in_grace() => return Err(LetterError::AskerGone),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error, "the connection to RabbitMQ broke");
                    self.link.suspects(live.generation);
                    broken = live.generation;
                }
            }
            if !pace.pause().await {
                return Err(LetterError::Failed(self.gave_up()));
            }
        }
    }

    pub(crate) fn gave_up(&self) -> TransportError {
        self.link.unreachable("RabbitMQ takes no messages for too long")
    }

    /// Carries out what nobody waits for. A message cannot be taken out of a queue: a request that nobody waits for is told so when
    /// its reply begins.
    pub(crate) async fn carry_out(self: Arc<Self>, mut notes: mpsc::UnboundedReceiver<Note>) {
        while let Some(note) = notes.recv().await {
            if let Note::Post { to, letter } = note
                && let Err(error) = self.post(&to, &letter).await
            {
                tracing::debug!(%to, kind = letter.kind.word(), ?error, "a letter did not get through");
            }
        }
    }
}
