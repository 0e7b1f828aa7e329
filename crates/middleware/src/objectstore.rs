//! Requests by way of an object store: a folder, or a bucket of S3, is all that the parts of a cluster share.
//!
//! | object | what |
//! | --- | --- |
//! | `requests/master/ASK-INBOX`, `requests/tasks/…`, `requests/worker-NAME/…` | a request; whoever finishes its reply deletes it |
//! | `claims/ASK-DELIVERY` | whoever puts it, if it is not there, has the request; it is renewed until the reply is whole |
//! | `replies/INBOX/ASK-ATTEMPT-NUMBER-KIND-FROM` | a letter to one program; the asker deletes what it has read |
//! | `replies/INBOX/ASK-result` | the end of a reply, put if it is not there: the only mark of success. Whoever comes second has worked in vain |
//! | `inboxes/INBOX` | says that the owner of an inbox is there, by changing |
//!
//! ASK, ATTEMPT, INBOX and FROM are ULIDs. Nobody is told that something has come: all look again and again, after pauses from 5 to
//! 100 ms. A claim that does not change any more is followed by one with the next number. Letters may go through a Redis instead,
//! the *fast store*; requests, claims and results never do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::PathPart;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use crate::brokered::BrokerSettings;
use crate::brokered::address::checked_prefix;
use crate::brokered::correspondence::Correspondence;
use crate::brokered::pace::Pace;
use crate::redis::fast_store::FastStore;
use crate::reply::check_length;
use crate::{Capabilities, Endpoint, Incoming, Pieces, Requests, Transport, TransportError};

mod bucket;
mod claims;
mod errand;
mod inbox;
mod names;
mod poll;
mod renewal;
mod shared;
mod sweep;
mod taker;

use bucket::Bucket;
use errand::StoreErrand;
use names::{INBOXES, REQUESTS, RequestName, folder_of};
pub use shared::OBJECTSTORE_MAX_BYTES;
use shared::StoreShared;
use taker::StoreTaker;

/// The most bytes of one reply that lie in the bucket. Whoever replies with less does not wait for its reader.
const WINDOW: u64 = 32 << 20;
/// How long a count of waiting requests is good.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Time for the last words of a process.
const SETTLE: Duration = Duration::from_secs(5);

/// Requests by way of an object store.
pub struct ObjectStoreTransport {
    shared: Arc<StoreShared>,
    running: Arc<Vec<AbortOnDropHandle<()>>>,
    sweeper: Mutex<Option<AbortOnDropHandle<()>>>,
    is_present: AtomicBool,
    presence: tokio::sync::Mutex<Option<AbortOnDropHandle<()>>>,
    waiting: Mutex<HashMap<String, (Instant, usize)>>,
}

impl ObjectStoreTransport {
    /// Opens a bucket: `s3://BUCKET/PREFIX`, `file:///FOLDER`, or a folder by its path. Credentials, endpoint and region of S3 are
    /// those of the environment, `AWS_ACCESS_KEY_ID` and so on. `fast_store` is the URL of a Redis for letters.
    ///
    /// # Errors
    /// Fails if the bucket or the fast store cannot be what the URL says.
    ///
    /// # Panics
    /// If it is called outside of a tokio runtime.
    pub fn new(
        url: &str,
        fast_store: Option<&str>,
        settings: BrokerSettings,
    ) -> Result<Self, TransportError> {
        checked_prefix(&settings.prefix)?;
        let bucket = Bucket::open(url, PathPart::from(settings.prefix.as_str()))?;
        let inbox = Ulid::generate();
        let peer = bucket.shown().to_owned();
        let (correspondence, notes) = Correspondence::with_window(inbox.to_string(), peer, WINDOW);
        let fast = match fast_store {
            Some(url) => Some(FastStore::start(url, settings.clone(), inbox, Arc::clone(&correspondence))?),
            None => None,
        };
        let shared = Arc::new(StoreShared::new(bucket, settings, correspondence, inbox, fast));
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(inbox::read_inbox(Arc::clone(&shared)))),
            AbortOnDropHandle::new(tokio::spawn(renewal::renew_claims(Arc::clone(&shared)))),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).carry_out(notes))),
        ];
        let (sweeper, is_present, presence, waiting) = Default::default();
        Ok(Self { shared, running: Arc::new(tasks), sweeper, is_present, presence, waiting })
    }

    /// Makes sure that repliers see this asker, before it asks first.
    async fn be_present(&self) -> Result<(), TransportError> {
        if self.is_present.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut presence = self.presence.lock().await;
        if presence.is_none() {
            self.shared.show_presence().await?;
            if let Some(fast) = &self.shared.fast {
                fast.is_ready().await?;
            }
            let stay = Arc::clone(&self.shared).stay_present();
            *presence = Some(AbortOnDropHandle::new(tokio::spawn(stay)));
            self.is_present.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Refuses a request to a folder where too many wait.
    async fn check_room(&self, folder: &str) -> Result<(), TransportError> {
        let most = self.shared.settings.max_waiting as usize;
        if self.counted(folder).is_some_and(|count| count <= most) {
            return Ok(());
        }
        let names = self.shared.bucket.names(&format!("{REQUESTS}/{folder}"), self.shared.patience()).await?;
        let count = names.len() + 1;
        if count <= most {
            self.counts().insert(folder.to_owned(), (Instant::now(), count));
            return Ok(());
        }
        let why = format!("{most} requests wait in {folder} already: nobody takes them");
        Err(self.shared.correspondence.unreachable(why))
    }

    /// The number of requests that wait with this one, as far as a look a moment ago tells.
    fn counted(&self, folder: &str) -> Option<usize> {
        let mut waiting = self.counts();
        waiting.retain(|_, (since, _)| since.elapsed() < COUNT_EVERY);
        let (_, count) = waiting.get_mut(folder)?;
        *count += 1;
        Some(*count)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, usize)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for ObjectStoreTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "objectstore",
            shared_queue: true,
            calls_workers_directly: false,
            starts_functions: true,
            max_bytes: OBJECTSTORE_MAX_BYTES,
        }
    }

    async fn request(&self, to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError> {
        check_length("a request", request.len(), OBJECTSTORE_MAX_BYTES)?;
        let folder = folder_of(to)?;
        self.be_present().await?;
        self.check_room(&folder).await?;
        let mut reply = self.shared.correspondence.open(self.running.clone());
        let name = RequestName { ask: reply.ask(), inbox: self.shared.inbox, folder };
        reply.lies_at(name.path());
        self.shared.bucket.put(&name.path(), &request, self.shared.patience()).await?;
        Ok(Box::pin(reply))
    }

    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError> {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        let folder = folder_of(endpoint)?;
        // Wrong credentials are told at once by a look at an object, and not by a list.
        self.shared.bucket.has(&format!("{INBOXES}/{}", self.shared.inbox), Pace::endless()).await?;
        if matches!(endpoint, Endpoint::Master(_)) {
            let mut sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
            let sweep = || tokio::spawn(sweep::sweep_for_ever(Arc::clone(&self.shared)));
            sweeper.get_or_insert_with(|| AbortOnDropHandle::new(sweep()));
        }
        let takeover_after = match endpoint {
            Endpoint::Master(_) => self.shared.settings.master_takeover_after,
            Endpoint::Worker(_) | Endpoint::AnyWorker => self.shared.settings.takeover_after,
        };
        let (incoming, receiver) = mpsc::channel(at_once);
        let taker = StoreTaker {
            shared: Arc::clone(&self.shared),
            folder,
            slots: Arc::new(Semaphore::new(at_once)),
            incoming,
            takeover_after,
            keeps: self.running.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(taker.run()));
        Ok(Box::new(StoreRequests { receiver, _task: task }))
    }

    async fn take_up(&self, ticket: &str) -> Result<Option<Incoming>, TransportError> {
        let (request, delivery) = RequestName::of_ticket(ticket)
            .ok_or_else(|| TransportError::Invalid(format!("{ticket:?} is no ticket of a request")))?;
        let shared = Arc::clone(&self.shared);
        let body = shared.bucket.get(&request.path(), OBJECTSTORE_MAX_BYTES, shared.patience()).await?;
        let Some(body) = body else { return Ok(None) };
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a new semaphore has its permit");
        let errand = StoreErrand { shared, request, delivery, is_guest: true, is_long: false };
        let keeps: Arc<dyn std::any::Any + Send + Sync> = self.running.clone();
        Ok(Some(taker::incoming(errand, body, permit, &keeps)))
    }

    async fn settle(&self) {
        self.shared.unsettled.close();
        // A bucket that stays away is not waited for by a process that ends.
        let _ = tokio::time::timeout(SETTLE, self.shared.unsettled.wait()).await;
    }

    async fn clear(&self) -> Result<(), TransportError> {
        sweep::clear(&self.shared).await
    }
}

/// The requests to one endpoint.
struct StoreRequests {
    receiver: mpsc::Receiver<Incoming>,
    _task: AbortOnDropHandle<()>,
}

#[async_trait]
impl Requests for StoreRequests {
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
