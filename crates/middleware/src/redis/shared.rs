//! What all parts of the transport share.

use std::sync::Arc;

use redis::cmd;
use tokio::sync::mpsc;

use super::entry::add_letter;
use super::link::RedisLink;
use super::names::RedisNames;
use super::scripts::RedisScripts;
use crate::brokered::BrokerSettings;
use crate::brokered::correspondence::{Correspondence, Note};
use crate::brokered::letter::Letter;
use crate::brokered::pace::Pace;
use crate::brokered::reply::LetterError;

/// A stream of requests that nobody uses for so many seconds goes away.
pub(crate) const UNUSED_STREAM_SECONDS: u64 = 24 * 60 * 60;

/// The connections, names and open requests of one transport.
pub(crate) struct RedisShared {
    pub(crate) link: RedisLink,
    pub(crate) names: RedisNames,
    pub(crate) scripts: RedisScripts,
    pub(crate) settings: BrokerSettings,
    pub(crate) correspondence: Arc<Correspondence>,
    /// The stream of the letters that come to this transport.
    pub(crate) inbox: String,
}

impl RedisShared {
    pub(crate) fn patience(&self) -> Pace {
        Pace::for_at_most(self.settings.patience)
    }

    /// Puts a letter into an inbox.
    pub(crate) async fn post(&self, inbox: &str, letter: &Letter) -> Result<(), LetterError> {
        let mut command = cmd("XADD");
        command.arg(inbox).arg("NOMKSTREAM").arg("*");
        add_letter(&mut command, letter);
        let command = &command;
        let mut pace = Pace::endless();
        loop {
            let add =
                |mut connection| async move { command.query_async::<Option<String>>(&mut connection).await };
            let added = self.link.run(self.patience(), add).await.map_err(LetterError::Failed)?;
            if added.is_some() {
                return Ok(());
            }
            self.hope(&mut pace).await?;
        }
    }

    /// Waits for an inbox that is missing. Fails if it has been missing for too long.
    pub(crate) async fn hope(&self, pace: &mut Pace) -> Result<(), LetterError> {
        if self.link.is_in_grace() && pace.pause().await { Ok(()) } else { Err(LetterError::AskerGone) }
    }

    /// Carries out what nobody waits for.
    pub(crate) async fn carry_out(self: Arc<Self>, mut notes: mpsc::UnboundedReceiver<Note>) {
        while let Some(note) = notes.recv().await {
            match note {
                Note::Post { to, letter } => {
                    if let Err(error) = self.post(&to, &letter).await {
                        tracing::debug!(%to, kind = letter.kind.word(), ?error, "a letter did not get through");
                    }
                }
                Note::Withdraw(place) => {
                    let Some((entry, stream)) = place.split_once(' ') else { continue };
                    let remove = |mut connection| async move {
                        cmd("XDEL").arg(stream).arg(entry).query_async::<u64>(&mut connection).await
                    };
                    if let Err(error) = self.link.run(self.patience(), remove).await {
                        tracing::debug!(stream, %error, "a request could not be withdrawn");
                    }
                }
            }
        }
    }
}
