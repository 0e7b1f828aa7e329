//! A request that was taken from a stream.

use std::sync::Arc;

use async_trait::async_trait;

use super::entry::letter_fields;
use super::held::HeldEntries;
use super::names::GROUP;
use super::shared::RedisShared;
use crate::brokered::letter::Letter;
use crate::brokered::pace::Pace;
use crate::brokered::reply::{Errand, LetterError};

/// A request that was taken from a stream.
pub(crate) struct RedisErrand {
    pub(crate) shared: Arc<RedisShared>,
    pub(crate) held: Arc<HeldEntries>,
    pub(crate) stream: String,
    pub(crate) entry: String,
    pub(crate) inbox: String,
}

#[async_trait]
impl Errand for RedisErrand {
    async fn post(&mut self, letter: Letter) -> Result<(), LetterError> {
        self.shared.post(&self.inbox, &letter).await
    }

    async fn complete(&mut self, end: Letter) -> Result<(), LetterError> {
        let Self { shared, held, stream, entry, inbox } = &*self;
        let (shared, end) = (&**shared, &end);
        let mut pace = Pace::endless();
        loop {
            let finish = |mut connection| async move {
                let mut invocation = shared.scripts.finish.key(inbox);
                invocation.key(stream).arg(GROUP).arg(entry);
                for (name, value) in letter_fields(end) {
                    invocation.arg(name).arg(value);
                }
                invocation.arg("body").arg(&end.body[..]);
                invocation.invoke_async::<bool>(&mut connection).await
            };
            if shared.link.run(shared.patience(), finish).await.map_err(LetterError::Failed)? {
                held.remove(stream, entry);
                return Ok(());
            }
            shared.hope(&mut pace).await?;
        }
    }

    fn give_back(self: Box<Self>) {
        self.held.give_back(self.stream, self.entry);
    }

    fn discard(self: Box<Self>) {
        self.held.forget(self.stream, self.entry);
    }
}
