//! Takes the requests to an endpoint.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value, cmd};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use ulid::Ulid;

use super::entry::{RedisEntry, entries_of_stream, entries_of_streams, items, text};
use super::errand::RedisErrand;
use super::held::HeldEntries;
use super::link::{BLOCK, is_passing};
use super::names::GROUP;
use super::shared::RedisShared;
use crate::brokered::letter::{Letter, LetterKind};
use crate::brokered::pace::Pace;
use crate::brokered::reply::BrokeredReply;
use crate::{Incoming, PeerRole};

/// The beginning of a walk over the claims, and its end.
const BEGINNING: &str = "0-0";
/// A consumer without requests that has not come for so long is removed.
const GONE_AFTER: Duration = Duration::from_secs(600);
/// Time between two looks for such consumers.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// Takes the requests from the streams of one endpoint.
pub(crate) struct RedisTaker {
    pub(crate) shared: Arc<RedisShared>,
    pub(crate) held: Arc<HeldEntries>,
    pub(crate) streams: Vec<String>,
    pub(crate) consumer: String,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) max_bytes: usize,
    /// A request whose taker is silent for so long is taken over.
    pub(crate) takeover_after: Duration,
    pub(crate) keeps: Arc<dyn Any + Send + Sync>,
}

impl RedisTaker {
    /// Takes requests until nobody wants them any more. Connects again by itself.
    pub(crate) async fn run(self) {
        let mut pace = Pace::endless();
        loop {
            let Err(error) = self.run_connection(&mut pace).await else { return };
            self.shared.link.note_break();
            if is_passing(&error) || error.code() == Some("NOGROUP") {
                tracing::debug!(%error, "the connection to Redis broke");
            } else {
                tracing::warn!(peer = self.shared.link.peer(), %error, "Redis refuses to give requests");
            }
            pace.pause().await;
        }
    }

    /// Takes requests until the connection breaks. Ends without an error when nobody wants them any more.
    async fn run_connection(&self, pace: &mut Pace) -> RedisResult<()> {
        let mut connection = self.shared.link.reader().await?;
        for stream in &self.streams {
            make_group(&mut connection, stream).await?;
        }
        *pace = Pace::endless();
        let takeover_every = self.takeover_after / 3;
        let (mut next_takeover, mut next_tidying) = (Instant::now(), Instant::now() + TIDY_EVERY);
        let mut may_have_more = true;
        loop {
            let (permits, room) = self.room().await;
            // Before anything is taken that a broken connection would leave with nobody.
            if Instant::now() >= next_tidying {
                self.tidy(&mut connection).await?;
                next_tidying = Instant::now() + TIDY_EVERY;
            }
            let mut entries = Vec::new();
            if Instant::now() >= next_takeover {
                entries = self.take_over(&mut connection, room).await?;
                next_takeover = Instant::now() + takeover_every;
            }
            if entries.is_empty() {
                let read = if may_have_more && self.streams.len() > 1 {
                    self.read_now(&mut connection, room).await?
                } else {
                    self.read_or_wait(&mut connection, room).await?
                };
                entries = entries_of_streams(read);
                entries.retain(|entry| self.held.add(&entry.stream, &entry.id));
                may_have_more = !entries.is_empty();
            }
            if !self.hand_out(entries, permits).await {
                return Ok(());
            }
        }
    }

    /// Waits for room for one request, and says for how many there is room.
    async fn room(&self) -> (OwnedSemaphorePermit, u32) {
        const OPEN: &str = "the semaphore is never closed";
        let mut permits = Arc::clone(&self.slots).acquire_owned().await.expect(OPEN);
        let more = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        if let Ok(further) = Arc::clone(&self.slots).try_acquire_many_owned(more) {
            permits.merge(further);
        }
        let room = u32::try_from(permits.num_permits()).unwrap_or(u32::MAX);
        (permits, room)
    }

    /// Reads what is there, from the first stream first.
    async fn read_now(&self, connection: &mut MultiplexedConnection, room: u32) -> RedisResult<Value> {
        let mut invocation = self.shared.scripts.take.prepare_invoke();
        for stream in &self.streams {
            invocation.key(stream);
        }
        invocation.arg(GROUP).arg(&self.consumer).arg(room).invoke_async(connection).await
    }

    /// Waits at the server until something is there. It rarely happens that each of two streams gives as much as there is room for.
    async fn read_or_wait(&self, connection: &mut MultiplexedConnection, room: u32) -> RedisResult<Value> {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(room);
        let block = BLOCK.min(self.takeover_after / 3).as_millis() as u64;
        command.arg("BLOCK").arg(block.max(1)).arg("STREAMS").arg(&self.streams);
        for _ in &self.streams {
            command.arg(">");
        }
        command.query_async(connection).await
    }

    /// Takes over requests whose takers are lost. If the connection breaks meanwhile, it takes over none: they are left to the
    /// next attempt, of this program or of another one.
    async fn take_over(
        &self,
        connection: &mut MultiplexedConnection,
        room: u32,
    ) -> RedisResult<Vec<RedisEntry>> {
        let mut taken = Vec::new();
        let claimed = self.claim_lost(connection, room, &mut taken).await;
        if claimed.is_err() {
            taken.iter().for_each(|entry: &RedisEntry| self.held.remove(&entry.stream, &entry.id));
        }
        claimed.map(|()| taken)
    }

    async fn claim_lost(
        &self,
        connection: &mut MultiplexedConnection,
        room: u32,
        taken: &mut Vec<RedisEntry>,
    ) -> RedisResult<()> {
        for stream in &self.streams {
            let mut from = BEGINNING.to_owned();
            loop {
                let left = (room as usize).saturating_sub(taken.len());
                if left == 0 {
                    return Ok(());
                }
                let mut command = cmd("XAUTOCLAIM");
                let idle = self.takeover_after.as_millis() as u64;
                command
                    .arg(stream)
                    .arg(GROUP)
                    .arg(&self.consumer)
                    .arg(idle)
                    .arg(&from)
                    .arg("COUNT")
                    .arg(left);
                let mut reply = items(command.query_async(connection).await?).into_iter();
                from = reply.next().and_then(text).unwrap_or_else(|| BEGINNING.to_owned());
                let entries =
                    reply.next().map(|entries| entries_of_stream(stream, entries)).unwrap_or_default();
                for entry in entries {
                    // A request that this program still works on is not taken a second time.
                    if !self.held.add(stream, &entry.id) {
                        continue;
                    }
                    match self.is_given_up(connection, &entry).await {
                        Ok(true) => {}
                        Ok(false) => {
                            tracing::info!(
                                stream,
                                id = entry.id,
                                "a request is taken over from a lost taker"
                            );
                            taken.push(entry);
                        }
                        Err(error) => {
                            self.held.remove(stream, &entry.id);
                            return Err(error);
                        }
                    }
                }
                if from == BEGINNING {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives up a request that was delivered too often.
    async fn is_given_up(
        &self,
        connection: &mut MultiplexedConnection,
        entry: &RedisEntry,
    ) -> RedisResult<bool> {
        let RedisEntry { stream, id, .. } = entry;
        let mut command = cmd("XPENDING");
        command.arg(stream).arg(GROUP).arg(id).arg(id).arg(1);
        let pending: Vec<(String, String, u64, u32)> = command.query_async(connection).await?;
        let deliveries = pending.first().map_or(0, |pending| pending.3);
        if deliveries <= self.shared.settings.deliveries {
            return Ok(false);
        }
        let read: Value = cmd("XRANGE").arg(stream).arg(id).arg(id).query_async(connection).await?;
        let request = entries_of_stream(stream, read).pop().and_then(|mut entry| entry.take_request());
        let earlier = deliveries - 1;
        tracing::warn!(stream, id, earlier, "a request is given up: its takers were lost each time");
        if let Some((asker, _)) = request {
            let why = format!("the request was given to {earlier} peers in turn, and each was lost with it");
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
        self.held.forget(stream.clone(), id.clone());
        Ok(true)
    }

    async fn tidy(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        for stream in &self.streams {
            let mut invocation = self.shared.scripts.tidy.key(stream);
            invocation.arg(GROUP).arg(GONE_AFTER.as_millis() as u64);
            let _: i64 = invocation.invoke_async(connection).await?;
        }
        Ok(())
    }

    /// Hands requests to who serves the endpoint. Returns false if nobody does any more.
    async fn hand_out(&self, entries: Vec<RedisEntry>, mut permits: OwnedSemaphorePermit) -> bool {
        for mut entry in entries {
            let Some((asker, request)) = entry.take_request() else {
                tracing::warn!(
                    stream = entry.stream,
                    id = entry.id,
                    "an entry is no request, and is dropped"
                );
                self.held.forget(entry.stream, entry.id);
                continue;
            };
            let permit = match permits.split(1) {
                Some(permit) => permit,
                None => self.room().await.0.split(1).expect("there is room for one"),
            };
            let errand = Box::new(RedisErrand {
                shared: Arc::clone(&self.shared),
                held: Arc::clone(&self.held),
                stream: entry.stream,
                entry: entry.id,
                inbox: asker.inbox.clone(),
            });
            let correspondence = &self.shared.correspondence;
            let keeps = Arc::clone(&self.keeps);
            let reply = BrokeredReply::new(correspondence, errand, asker, self.max_bytes, permit, keeps);
            if self
                .incoming
                .send(Incoming { request, peer: PeerRole::Node, reply: Box::new(reply) })
                .await
                .is_err()
            {
                return false;
            }
        }
        !self.incoming.is_closed()
    }
}

/// Makes the stream and its group if they are not there.
pub(crate) async fn make_group(
    connection: &mut impl redis::aio::ConnectionLike,
    stream: &str,
) -> RedisResult<()> {
    let mut command = cmd("XGROUP");
    command.arg("CREATE").arg(stream).arg(GROUP).arg("0").arg("MKSTREAM");
    let made: Result<(), RedisError> = command.query_async(connection).await;
    match made {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        made => made,
    }
}
