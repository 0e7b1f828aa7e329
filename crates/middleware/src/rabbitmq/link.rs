//! The connection to RabbitMQ, and who needs it. The library's own recovery is not used.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, PublisherConfirm,
};
use tokio::sync::watch;

use crate::TransportError;
use crate::brokered::address::without_password;

/// The broker does not answer a step in this time: the connection is taken for broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Seconds between signs of life. A side that hears nothing for two of them is dead for the other one.
const HEARTBEAT_SECONDS: u16 = 5;
/// After the connection broke, other programs need a moment to be there again. Their inboxes may be missing until then.
const GRACE: Duration = Duration::from_secs(5);

/// The code of AMQP for a user or a password that is not known.
const ACCESS_REFUSED: u16 = 403;

/// A connection that works.
pub(crate) struct LiveRabbit {
    connection: Connection,
    /// All publishing goes through one channel, whose messages the broker confirms.
    posts: Channel,
    pub(crate) generation: u64,
    declared: Mutex<HashSet<String>>,
}

/// What is known about the connection.
#[derive(Clone)]
enum RabbitState {
    Away(String),
    Refused(String),
    Live(Arc<LiveRabbit>),
}

/// The connection to one RabbitMQ, as it comes and goes.
pub(crate) struct RabbitLink {
    uri: AMQPUri,
    peer: String,
    state: watch::Sender<RabbitState>,
    /// The youngest connection that somebody found broken.
    suspect: watch::Sender<u64>,
    broke_at: Mutex<Option<Instant>>,
}

/// What the broker said about a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The broker has it.
    Taken,
    /// There is no such queue.
    NoQueue,
    /// The queue is full.
    Full,
}

/// Bounds the wait for one step at the broker.
pub(crate) async fn answered<T>(step: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WITHIN, step).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {ANSWER_WITHIN:?}")),
    }
}

impl RabbitLink {
    pub(crate) fn new(url: &str) -> Result<Self, TransportError> {
        let peer = without_password(url);
        let mut uri: AMQPUri = url.parse().map_err(|error| {
            let form = "amqp://USER:PASSWORD@HOST:PORT/VHOST, where only HOST is needed";
            TransportError::Invalid(format!(
                "{peer} is not the address of a RabbitMQ ({error}): write {form}"
            ))
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let state = watch::Sender::new(RabbitState::Away("it was not connected to yet".to_owned()));
        Ok(Self { uri, peer, state, suspect: watch::Sender::new(0), broke_at: Mutex::default() })
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn unreachable(&self, cause: impl Into<String>) -> TransportError {
        TransportError::Unreachable { peer: self.peer.clone(), cause: cause.into() }
    }

    /// Connects once. Others do not see the connection before [`RabbitLink::shows`] it.
    pub(crate) async fn connect(&self, generation: u64) -> Result<LiveRabbit, String> {
        let connecting = Connection::connect_uri(self.uri.clone(), ConnectionProperties::default());
        let connection = match tokio::time::timeout(ANSWER_WITHIN, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.failed(is_refusal(&error), error.to_string())),
            Err(_) => return Err(self.failed(false, format!("no connection within {ANSWER_WITHIN:?}"))),
        };
        let posts = answered(connection.create_channel()).await?;
        answered(posts.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(LiveRabbit { connection, posts, generation, declared: Mutex::default() })
    }

    fn failed(&self, is_refused: bool, cause: String) -> String {
        let state = if is_refused { RabbitState::Refused } else { RabbitState::Away };
        self.state.send_replace(state(cause.clone()));
        cause
    }

    /// Lets others use a connection.
    pub(crate) fn shows(&self, live: Arc<LiveRabbit>) {
        self.state.send_replace(RabbitState::Live(live));
    }

    /// Takes a broken connection away from others.
    pub(crate) fn hides(&self, cause: &str) {
        *self.broke_at.lock().expect("nothing panics while it holds this lock") = Some(Instant::now());
        let hide = |state: &mut RabbitState| {
            let is_live = matches!(state, RabbitState::Live(_));
            if is_live {
                *state = RabbitState::Away(cause.to_owned());
            }
            is_live
        };
        self.state.send_if_modified(hide);
    }

    /// Whether a missing inbox may still come back, since the connection broke a moment ago.
    pub(crate) fn is_in_grace(&self) -> bool {
        let broke_at = *self.broke_at.lock().expect("nothing panics while it holds this lock");
        broke_at.is_some_and(|at| at.elapsed() < GRACE)
    }

    /// Waits for a connection that is younger than `after`, for at most `patience`.
    pub(crate) async fn live(
        &self,
        after: u64,
        patience: Duration,
    ) -> Result<Arc<LiveRabbit>, TransportError> {
        let mut state = self.state.subscribe();
        let decided = state.wait_for(|state| match state {
            RabbitState::Away(_) => false,
            RabbitState::Refused(_) => true,
            RabbitState::Live(live) => live.generation > after,
        });
        let decided =
            tokio::time::timeout(patience, decided).await.map(|state| state.map(|state| state.clone()));
        match decided {
            Ok(Ok(RabbitState::Live(live))) => Ok(live),
            Ok(Ok(RabbitState::Refused(cause))) => {
                Err(self.unreachable(format!("RabbitMQ refuses: {cause}")))
            }
            _ => Err(self.unreachable(match &*self.state.borrow() {
                RabbitState::Away(cause) | RabbitState::Refused(cause) => cause.clone(),
                RabbitState::Live(_) => "the connection breaks again and again".to_owned(),
            })),
        }
    }

    /// Tells that a connection does not work.
    pub(crate) fn suspects(&self, generation: u64) {
        self.suspect.send_if_modified(|youngest| {
            let is_younger = generation > *youngest;
            *youngest = generation.max(*youngest);
            is_younger
        });
    }

    /// Waits until somebody finds the connection broken.
    pub(crate) async fn is_suspected(&self, generation: u64) {
        // The sender is a part of this value, so that waiting cannot fail.
        let _ = self.suspect.subscribe().wait_for(|youngest| *youngest >= generation).await;
    }
}

impl LiveRabbit {
    pub(crate) async fn channel(&self) -> Result<Channel, String> {
        answered(self.connection.create_channel()).await
    }

    /// Declares a durable queue, once for each connection.
    pub(crate) async fn declare(&self, queue: &str, arguments: FieldTable) -> Result<(), String> {
        if self.declared.lock().expect("nothing panics while it holds this lock").contains(queue) {
            return Ok(());
        }
        // A channel of its own, because the broker closes the channel if it refuses.
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        answered(channel.queue_declare(queue.into(), options, arguments)).await?;
        // The channel closes in any case when it is dropped.
        let _ = answered(channel.close(200, "done".into())).await;
        self.declared.lock().expect("nothing panics while it holds this lock").insert(queue.to_owned());
        Ok(())
    }

    /// Forgets that a queue was declared, because it is gone.
    pub(crate) fn is_gone(&self, queue: &str) {
        self.declared.lock().expect("nothing panics while it holds this lock").remove(queue);
    }

    /// Publishes a message to a queue. The broker confirms it later.
    pub(crate) async fn publish(
        &self,
        queue: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<PublisherConfirm, String> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        answered(self.posts.basic_publish("".into(), queue.into(), options, body, properties)).await
    }

    /// Says goodbye, as far as that is possible.
    pub(crate) async fn close(&self) {
        let _ = answered(self.connection.close(200, "done".into())).await;
    }
}

/// Whether the broker does not know the user or the password. Other refusals may come from a broker that is starting.
fn is_refusal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == ACCESS_REFUSED)
}

/// Waits until the broker confirms a message.
pub(crate) async fn confirmed(confirm: PublisherConfirm) -> Result<Posted, String> {
    Ok(match answered(confirm).await? {
        Confirmation::Ack(None) | Confirmation::NotRequested => Posted::Taken,
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Posted::NoQueue,
        Confirmation::Nack(None) => Posted::Full,
    })
}
