//! Letters by way of Redis for a transport whose requests go another way.

use std::sync::Arc;

use redis::cmd;
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::inbox::read_inbox;
use super::link::RedisLink;
use super::names::RedisNames;
use super::scripts::RedisScripts;
use super::shared::RedisShared;
use crate::TransportError;
use crate::brokered::BrokerSettings;
use crate::brokered::correspondence::Correspondence;
use crate::brokered::letter::Letter;
use crate::brokered::reply::LetterError;

/// Carries letters between the inboxes of one cluster.
pub(crate) struct FastStore {
    shared: Arc<RedisShared>,
    _reader: AbortOnDropHandle<()>,
}

impl FastStore {
    /// Begins to read the letters to `inbox`, which are for `correspondence`.
    ///
    /// # Errors
    /// Fails if the address is not one of a Redis.
    pub(crate) fn start(
        url: &str,
        settings: BrokerSettings,
        inbox: Ulid,
        correspondence: Arc<Correspondence>,
    ) -> Result<Self, TransportError> {
        let link = RedisLink::new(url)?;
        let names = RedisNames::new(&settings.prefix);
        let inbox = names.inbox(inbox);
        let scripts = RedisScripts::new();
        let shared = Arc::new(RedisShared { link, names, scripts, settings, correspondence, inbox });
        let reader = AbortOnDropHandle::new(tokio::spawn(read_inbox(Arc::clone(&shared))));
        Ok(Self { shared, _reader: reader })
    }

    /// Puts a letter into an inbox.
    pub(crate) async fn post(&self, to: Ulid, letter: &Letter) -> Result<(), LetterError> {
        self.shared.post(&self.shared.names.inbox(to), letter).await
    }

    /// Waits until letters can be put into the own inbox.
    ///
    /// # Errors
    /// Fails if Redis stays away.
    pub(crate) async fn is_ready(&self) -> Result<(), TransportError> {
        let shared = &*self.shared;
        let mut pace = shared.patience();
        loop {
            let look = |mut connection| async move {
                cmd("EXISTS").arg(&shared.inbox).query_async::<bool>(&mut connection).await
            };
            if shared.link.run(shared.patience(), look).await? {
                return Ok(());
            }
            if !pace.pause().await {
                return Err(shared
                    .correspondence
                    .unreachable("the stream for replies cannot be made in Redis"));
            }
        }
    }
}
