//! Takes the requests to an endpoint: whoever puts the claim of a request, if there is none, has it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use ulid::Ulid;

use super::errand::StoreErrand;
use super::names::{RELEASED, REQUESTS, RequestName};
use super::poll::PollPace;
use super::renewal::RENEWALS;
use super::shared::{MAX_NOTE, OBJECTSTORE_MAX_BYTES, StoreShared};
use crate::brokered::letter::{Letter, LetterKind};
use crate::brokered::pace::Pace;
use crate::brokered::reply::{Asker, BrokeredReply};
use crate::{Incoming, PeerRole, TransportError};

/// The most requests that are claimed in one step.
const CLAIMED_AT_ONCE: usize = 16;
/// The claims of others are looked at no more seldom than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A claim of somebody else, as it was seen last.
struct OtherClaim {
    delivery: u32,
    said: Bytes,
    since: Instant,
    looked: Option<Instant>,
}

/// Takes the requests of one folder.
pub(crate) struct StoreTaker {
    pub(crate) shared: Arc<StoreShared>,
    pub(crate) folder: String,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) incoming: mpsc::Sender<Incoming>,
    /// A request whose claim has not changed for so long is taken over.
    pub(crate) takeover_after: Duration,
    pub(crate) keeps: Arc<dyn Any + Send + Sync>,
}

impl StoreTaker {
    /// Takes requests until nobody wants them any more. A bucket that is away is waited for.
    pub(crate) async fn run(self) {
        let (mut pace, mut others) = (PollPace::default(), HashMap::new());
        loop {
            let mut permits = self.room().await;
            let taken = match self.take_some(permits.num_permits(), &mut others).await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::debug!(%error, "requests could not be taken");
                    Vec::new()
                }
            };
            if taken.is_empty() {
                drop(permits);
                pace.pause().await;
                continue;
            }
            pace.quicken();
            for (errand, body) in taken {
                let permit = permits.split(1).expect("no more are taken than there is room for");
                let incoming = incoming(errand, body, permit, &self.keeps);
                if self.incoming.send(incoming).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Waits for room for one request, and takes what room there is.
    async fn room(&self) -> OwnedSemaphorePermit {
        const OPEN: &str = "the semaphore is never closed";
        let mut permits = Arc::clone(&self.slots).acquire_owned().await.expect(OPEN);
        let more = u32::try_from(self.slots.available_permits().min(CLAIMED_AT_ONCE - 1)).unwrap_or(0);
        if let Ok(further) = Arc::clone(&self.slots).try_acquire_many_owned(more) {
            permits.merge(further);
        }
        permits
    }

    async fn take_some(
        &self,
        room: usize,
        others: &mut HashMap<Ulid, OtherClaim>,
    ) -> Result<Vec<(StoreErrand, Bytes)>, TransportError> {
        let bucket = &self.shared.bucket;
        let names = bucket.names(&format!("{REQUESTS}/{}", self.folder), Pace::endless()).await?;
        let listed = names.iter().filter_map(|name| RequestName::parse(&self.folder, name));
        let (mut known, mut free) = (HashMap::new(), Vec::new());
        for request in listed.filter(|request| !self.shared.held.has(request.ask)) {
            let other = others.remove(&request.ask);
            if free.len() < room && other.as_ref().is_none_or(|other| self.is_due(other)) {
                free.push((request, other));
            } else if let Some(other) = other {
                known.insert(request.ask, other);
            }
        }
        *others = known;
        let tries = free
            .into_iter()
            .map(|(request, other)| async move { (request.ask, self.try_to_take(request, other).await) });
        let mut taken = Vec::new();
        for (ask, outcome) in join_all(tries).await {
            match outcome {
                Ok(Attempted::Taken(errand, body)) => taken.push((errand, body)),
                Ok(Attempted::IsOf(other)) => drop(others.insert(ask, other)),
                Ok(Attempted::Gone) => {}
                // The others are taken all the same.
                Err(error) => tracing::debug!(%ask, %error, "a request could not be taken"),
            }
        }
        Ok(taken)
    }

    fn is_due(&self, other: &OtherClaim) -> bool {
        let every = (self.takeover_after / RENEWALS).min(LOOK_EVERY);
        other.looked.is_none_or(|looked| looked.elapsed() >= every)
    }

    /// Puts the next claim, if nobody holds the request.
    async fn try_to_take(
        &self,
        request: RequestName,
        other: Option<OtherClaim>,
    ) -> Result<Attempted, TransportError> {
        let Some(mut other) = other else { return self.claim(request, 1).await };
        let (claim, now) = (request.claim(other.delivery), Instant::now());
        let Some(said) = self.shared.bucket.get(&claim, MAX_NOTE, self.shared.patience()).await? else {
            return Ok(Attempted::Gone);
        };
        if other.said != said {
            (other.said, other.since) = (said, now);
        }
        other.looked = Some(now);
        let is_lost = other.since.elapsed() >= self.takeover_after;
        if other.said != RELEASED && !is_lost {
            return Ok(Attempted::IsOf(other));
        }
        let delivery = other.delivery + 1;
        if delivery > self.shared.settings.deliveries {
            return self.give_up(&request, other.delivery).await.map(|()| Attempted::Gone);
        }
        tracing::info!(request = request.path(), is_lost, "a request is taken over");
        self.claim(request, delivery).await
    }

    async fn claim(&self, request: RequestName, delivery: u32) -> Result<Attempted, TransportError> {
        let (shared, claim, now) = (&self.shared, request.claim(delivery), Instant::now());
        if !shared.bucket.create(&claim, &shared.beat(), shared.patience()).await? {
            return Ok(Attempted::IsOf(OtherClaim {
                delivery,
                said: Bytes::new(),
                since: now,
                looked: None,
            }));
        }
        shared.held.add(request.ask, claim.clone(), self.takeover_after / RENEWALS);
        let held = HeldUntilTaken { shared, ask: request.ask, is_taken: false };
        let body = match shared.bucket.get(&request.path(), OBJECTSTORE_MAX_BYTES, shared.patience()).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                // It was answered or withdrawn since the look at the folder.
                shared.bucket.delete(&[claim], shared.patience()).await?;
                return Ok(Attempted::Gone);
            }
            Err(TransportError::Protocol { cause, .. }) => {
                tracing::warn!(cause, "a request is too long, and is dropped");
                shared.bucket.delete(&[request.path(), claim], shared.patience()).await?;
                return Ok(Attempted::Gone);
            }
            Err(error) => return Err(error),
        };
        held.taken();
        let shared = Arc::clone(shared);
        Ok(Attempted::Taken(StoreErrand { shared, request, delivery, is_guest: false, is_long: false }, body))
    }

    /// Gives up a request that was delivered too often.
    async fn give_up(&self, request: &RequestName, deliveries: u32) -> Result<(), TransportError> {
        let (shared, path) = (&self.shared, request.path());
        tracing::warn!(request = path, deliveries, "a request is given up: its takers were lost each time");
        let why = format!("the request was given to {deliveries} peers in turn, and each was lost with it");
        let letter = Letter {
            kind: LetterKind::Failed,
            ask: request.ask,
            attempt: Ulid::generate(),
            number: 0,
            from: shared.inbox.to_string(),
            body: Bytes::from(why),
        };
        // If the asker is gone, nobody wants to know.
        let _ = shared.post(request.inbox, &letter, true).await;
        shared.bucket.delete(&[path], shared.patience()).await?;
        let claims: Vec<_> = (1..=deliveries).map(|delivery| request.claim(delivery)).collect();
        shared.bucket.delete(&claims, shared.patience()).await
    }
}

/// What became of a try to take a request.
enum Attempted {
    Taken(StoreErrand, Bytes),
    IsOf(OtherClaim),
    Gone,
}

/// Stops to renew a claim whose request was not taken in the end.
struct HeldUntilTaken<'a> {
    shared: &'a StoreShared,
    ask: Ulid,
    is_taken: bool,
}

impl HeldUntilTaken<'_> {
    fn taken(mut self) {
        self.is_taken = true;
    }
}

impl Drop for HeldUntilTaken<'_> {
    fn drop(&mut self) {
        if !self.is_taken {
            self.shared.held.remove(self.ask);
        }
    }
}

/// The request of an errand, with the sink of its reply.
pub(crate) fn incoming(
    errand: StoreErrand,
    request: Bytes,
    permit: OwnedSemaphorePermit,
    keeps: &Arc<dyn Any + Send + Sync>,
) -> Incoming {
    let correspondence = Arc::clone(&errand.shared.correspondence);
    let asker = Asker { ask: errand.request.ask, inbox: errand.request.inbox.to_string() };
    let (errand, keeps) = (Box::new(errand), Arc::clone(keeps));
    let reply = BrokeredReply::new(&correspondence, errand, asker, OBJECTSTORE_MAX_BYTES, permit, keeps);
    Incoming { request, peer: PeerRole::Node, reply: Box::new(reply) }
}
