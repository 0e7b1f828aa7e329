//! Requests by way of Redis: streams with consumer groups.
//!
//! | stream or key | what |
//! | --- | --- |
//! | `dataframe:master`, `dataframe:tasks`, `dataframe:worker:NAME` | requests `{id, reply_to, body}`; who finishes a reply acknowledges and deletes its entry |
//! | `dataframe:replies:ULID` | the inbox of one program: `{kind, id, attempt, number, from, body}` |
//! | `dataframe:announced:NAME` | a worker's description, which goes away by itself |
//!
//! A taker renews its claims. Requests of a taker that is lost are taken over by `XAUTOCLAIM`. Nobody sleeps for a result: all wait
//! in blocking reads.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use crate::brokered::BrokerSettings;
use crate::brokered::address::checked_prefix;
use crate::brokered::correspondence::Correspondence;
use crate::brokered::pace::Pace;
use crate::{Capabilities, Endpoint, Incoming, Pieces, Requests, Transport, TransportError};

mod entry;
mod errand;
pub(crate) mod fast_store;
mod held;
mod inbox;
mod link;
mod names;
mod scripts;
mod shared;
mod taker;

use held::HeldEntries;
use inbox::read_inbox;
use link::RedisLink;
use names::RedisNames;
use scripts::RedisScripts;
use shared::{RedisShared, UNUSED_STREAM_SECONDS};
use taker::{RedisTaker, make_group};

/// The longest piece and the longest request, in bytes.
pub const REDIS_MAX_BYTES: usize = 1 << 20;
/// How many keys Redis looks at in one step of a walk over all keys.
const SCAN_COUNT: usize = 1000;

/// Requests by way of Redis.
pub struct RedisTransport {
    shared: Arc<RedisShared>,
    running: Arc<Vec<AbortOnDropHandle<()>>>,
}

impl RedisTransport {
    /// Begins to connect to a Redis, such as `redis://127.0.0.1:6379`. A broker that is away is connected to when it is there.
    ///
    /// # Errors
    /// Fails if the address is not one of a Redis.
    ///
    /// # Panics
    /// If it is called outside of a tokio runtime.
    pub fn new(url: &str, settings: BrokerSettings) -> Result<Self, TransportError> {
        checked_prefix(&settings.prefix)?;
        let link = RedisLink::new(url)?;
        let names = RedisNames::new(&settings.prefix);
        let inbox = names.inbox(Ulid::generate());
        let (correspondence, notes) = Correspondence::new(inbox.clone(), link.peer().to_owned());
        let scripts = RedisScripts::new();
        let shared = Arc::new(RedisShared { link, names, scripts, settings, correspondence, inbox });
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(read_inbox(Arc::clone(&shared)))),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).carry_out(notes))),
        ];
        Ok(Self { shared, running: Arc::new(tasks) })
    }

    /// Adds a request to a stream. Returns the entry, or nothing while the inbox is not there.
    async fn ask(&self, stream: &str, ask: Ulid, request: &Bytes) -> Result<Option<String>, TransportError> {
        let shared = &*self.shared;
        let added = |mut connection| async move {
            let mut invocation = shared.scripts.ask.key(stream);
            invocation.key(shared.correspondence.inbox()).arg(ask.to_string()).arg(&request[..]);
            invocation.arg(shared.settings.max_waiting).arg(UNUSED_STREAM_SECONDS);
            invocation.invoke_async::<String>(&mut connection).await
        };
        match shared.link.run(shared.patience(), added).await?.as_str() {
            "no inbox" => Ok(None),
            "full" => {
                let most = shared.settings.max_waiting;
                Err(shared
                    .correspondence
                    .unreachable(format!("{most} requests wait in {stream} already: nobody takes them")))
            }
            entry => Ok(Some(entry.to_owned())),
        }
    }
}

#[async_trait]
impl Transport for RedisTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "redis",
            shared_queue: true,
            calls_workers_directly: false,
            starts_functions: false,
            max_bytes: REDIS_MAX_BYTES,
        }
    }

    async fn request(&self, to: &Endpoint, request: Bytes) -> Result<Pieces, TransportError> {
        if request.len() > REDIS_MAX_BYTES {
            let length = request.len();
            let most = format!("at most {REDIS_MAX_BYTES} are allowed over Redis");
            return Err(TransportError::Invalid(format!("the request has {length} bytes, and {most}")));
        }
        let stream = self.shared.names.stream(to)?;
        let mut reply = self.shared.correspondence.open(self.running.clone());
        let mut pace = self.shared.patience();
        loop {
            if let Some(entry) = self.ask(&stream, reply.ask(), &request).await? {
                reply.lies_at(format!("{entry} {stream}"));
                return Ok(Box::pin(reply));
            }
            if !pace.pause().await {
                return Err(self.shared.correspondence.unreachable("the stream for replies cannot be made"));
            }
        }
    }

    async fn serve(&self, endpoint: &Endpoint, at_once: usize) -> Result<Box<dyn Requests>, TransportError> {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        let streams = vec![self.shared.names.stream(endpoint)?];
        for stream in &streams {
            let make = |mut connection| async move { make_group(&mut connection, stream).await };
            self.shared.link.run(Pace::endless(), make).await?;
        }
        let consumer = format!("{}-{}", streams[0], Ulid::generate());
        let (incoming, receiver) = mpsc::channel(at_once);
        let takeover_after = match endpoint {
            Endpoint::Master(_) => self.shared.settings.master_takeover_after,
            Endpoint::Worker(_) | Endpoint::AnyWorker => self.shared.settings.takeover_after,
        };
        let taker = RedisTaker {
            shared: Arc::clone(&self.shared),
            held: HeldEntries::start(
                Arc::clone(&self.shared),
                consumer.clone(),
                streams.clone(),
                takeover_after,
            ),
            takeover_after,
            streams,
            consumer,
            slots: Arc::new(Semaphore::new(at_once)),
            incoming,
            max_bytes: REDIS_MAX_BYTES,
            keeps: self.running.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(taker.run()));
        Ok(Box::new(RedisRequests { receiver, _task: task }))
    }

    async fn announce(&self, name: &str, description: Bytes, ttl: Duration) -> Result<(), TransportError> {
        let key = &self.shared.names.announced(name)?;
        let (description, milliseconds) = (&description, ttl.as_millis().max(1) as u64);
        let set = |mut connection| async move {
            let mut command = redis::cmd("SET");
            command.arg(key).arg(&description[..]).arg("PX").arg(milliseconds);
            command.query_async::<()>(&mut connection).await
        };
        self.shared.link.run(self.shared.patience(), set).await
    }

    async fn announced(&self) -> Result<Vec<Bytes>, TransportError> {
        let pattern = &self.shared.names.all_announced();
        let (mut cursor, mut keys) = (0, Vec::new());
        loop {
            let scan = |mut connection| async move {
                let mut command = redis::cmd("SCAN");
                command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
                command.query_async::<(u64, Vec<String>)>(&mut connection).await
            };
            let (next, some) = self.shared.link.run(self.shared.patience(), scan).await?;
            keys.extend(some);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = &keys;
        let get = |mut connection| async move {
            redis::cmd("MGET").arg(keys).query_async::<Vec<Option<Vec<u8>>>>(&mut connection).await
        };
        let found = self.shared.link.run(self.shared.patience(), get).await?;
        Ok(found.into_iter().flatten().map(Bytes::from).collect())
    }
}

/// The requests to one endpoint.
struct RedisRequests {
    receiver: mpsc::Receiver<Incoming>,
    _task: AbortOnDropHandle<()>,
}

#[async_trait]
impl Requests for RedisRequests {
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
