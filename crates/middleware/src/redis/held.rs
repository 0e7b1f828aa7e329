//! The requests that a taker holds: their claims are renewed for as long as their replies are not finished.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redis::Script;
use tokio::runtime::Handle;

use super::names::GROUP;
use super::shared::{RedisShared, UNUSED_STREAM_SECONDS};
use crate::TransportError;

/// Claims are renewed this often in the time after which a request is given to another taker.
const RENEWALS: u32 = 3;
/// A claim that is as old as this is taken over at the next look.
const LONG_AGO_MILLISECONDS: u64 = 24 * 60 * 60 * 1000;
/// The most claims that are renewed in one step.
const RENEWED_AT_ONCE: usize = 1000;

/// The requests that one taker holds.
pub(crate) struct HeldEntries {
    shared: Arc<RedisShared>,
    consumer: String,
    streams: Vec<String>,
    /// Stream and entry of each.
    held: Mutex<BTreeSet<(String, String)>>,
}

impl HeldEntries {
    /// Begins to renew claims. That ends when nobody has the value any more.
    pub(crate) fn start(
        shared: Arc<RedisShared>,
        consumer: String,
        streams: Vec<String>,
        takeover_after: Duration,
    ) -> Arc<Self> {
        let every = takeover_after / RENEWALS;
        let held = Arc::new(Self { shared, consumer, streams, held: Mutex::default() });
        let weak = Arc::downgrade(&held);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(held) = weak.upgrade() else { return };
                held.renew().await;
            }
        });
        held
    }

    /// Notes a request as held. Returns false if it is held already.
    pub(crate) fn add(&self, stream: &str, entry: &str) -> bool {
        self.held().insert((stream.to_owned(), entry.to_owned()))
    }

    pub(crate) fn remove(&self, stream: &str, entry: &str) {
        self.held().remove(&(stream.to_owned(), entry.to_owned()));
    }

    /// Has the request delivered again soon.
    pub(crate) fn give_back(self: &Arc<Self>, stream: String, entry: String) {
        self.remove(&stream, &entry);
        let held = Arc::clone(self);
        self.in_background(async move { held.claim(&stream, &[entry], LONG_AGO_MILLISECONDS).await });
    }

    /// Acknowledges the request without a reply.
    pub(crate) fn forget(self: &Arc<Self>, stream: String, entry: String) {
        self.remove(&stream, &entry);
        let held = Arc::clone(self);
        self.in_background(async move {
            held.invoke(&held.shared.scripts.forget, &stream, &[GROUP.to_owned(), entry]).await
        });
    }

    fn in_background(&self, work: impl Future<Output = Result<(), TransportError>> + Send + 'static) {
        // At the end of a program there may be no runtime. The request is then taken over when its claim is old.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = work.await {
                tracing::debug!(%error, "a request could not be given back");
            }
        });
    }

    async fn renew(&self) {
        for stream in &self.streams {
            let entries: Vec<String> =
                self.held().iter().filter(|(of, _)| of == stream).map(|(_, entry)| entry.clone()).collect();
            for some in entries.chunks(RENEWED_AT_ONCE) {
                if let Err(error) = self.claim(stream, some, 0).await {
                    tracing::warn!(stream, %error, "the claims of requests could not be renewed");
                }
            }
        }
    }

    async fn claim(&self, stream: &str, entries: &[String], idle: u64) -> Result<(), TransportError> {
        let mut arguments = vec![GROUP.to_owned(), self.consumer.clone(), idle.to_string()];
        arguments.push(UNUSED_STREAM_SECONDS.to_string());
        arguments.extend_from_slice(entries);
        self.invoke(&self.shared.scripts.keep, stream, &arguments).await
    }

    async fn invoke(
        &self,
        script: &Script,
        stream: &str,
        arguments: &[String],
    ) -> Result<(), TransportError> {
        let run = |mut connection| async move {
            let mut invocation = script.key(stream);
            for argument in arguments {
                invocation.arg(argument);
            }
            invocation.invoke_async::<i64>(&mut connection).await
        };
        self.shared.link.run(self.shared.patience(), run).await.map(|_| ())
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        self.held.lock().expect("nothing panics while it holds this lock")
    }
}
