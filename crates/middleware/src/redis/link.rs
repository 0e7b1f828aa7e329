//! The connections to one Redis.

use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, ServerErrorKind,
};

use crate::TransportError;
use crate::brokered::address::without_password;
use crate::brokered::pace::Pace;

/// A server that cannot be connected to in this time is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A command that is not answered in this time has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a reader waits at the server for something to read.
pub(crate) const BLOCK: Duration = Duration::from_millis(1500);
/// After the connection broke, other programs need a moment to be there again. Their inboxes may be missing until then.
const GRACE: Duration = Duration::from_secs(5);

/// The connections to one Redis: one for commands, and further ones for readers that wait.
pub(crate) struct RedisLink {
    client: Client,
    commands: ConnectionManager,
    peer: String,
    broke_at: Mutex<Option<Instant>>,
}

impl RedisLink {
    /// Connects when it is first used.
    pub(crate) fn new(url: &str) -> Result<Self, TransportError> {
        let peer = without_password(url);
        let invalid = |error: RedisError| {
            let form = "redis://USER:PASSWORD@HOST:PORT/DATABASE, where only HOST is needed";
            TransportError::Invalid(format!("{peer} is not the address of a Redis ({error}): write {form}"))
        };
        let info = url.into_connection_info().map_err(invalid)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(invalid)?;
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_number_of_retries(0);
        let commands = client.get_connection_manager_lazy(settings).map_err(invalid)?;
        Ok(Self { client, commands, peer, broke_at: Mutex::default() })
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// A connection of its own for a reader that waits at the server.
    pub(crate) async fn reader(&self) -> RedisResult<MultiplexedConnection> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(BLOCK + ANSWER_WITHIN));
        self.client.get_multiplexed_async_connection_with_config(&settings).await
    }

    /// Runs a command, and again while the broker is away and `pace` allows it.
    pub(crate) async fn run<T, F>(
        &self,
        mut pace: Pace,
        mut command: impl FnMut(ConnectionManager) -> F,
    ) -> Result<T, TransportError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        loop {
            let error = match command(self.commands.clone()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !is_passing(&error) {
                return Err(self.refused(&error));
            }
            self.note_break();
            if !pace.pause().await {
                return Err(TransportError::Unreachable {
                    peer: self.peer.clone(),
                    cause: error.to_string(),
                });
            }
        }
    }

    /// An error that trying again does not help against.
    pub(crate) fn refused(&self, error: &RedisError) -> TransportError {
        TransportError::Unreachable { peer: self.peer.clone(), cause: format!("Redis refuses: {error}") }
    }

    /// Remembers that a connection broke.
    pub(crate) fn note_break(&self) {
        *self.broke_at.lock().expect("nothing panics while it holds this lock") = Some(Instant::now());
    }

    /// Whether a missing inbox may still come back, since connections broke a moment ago.
    pub(crate) fn is_in_grace(&self) -> bool {
        let broke_at = *self.broke_at.lock().expect("nothing panics while it holds this lock");
        broke_at.is_some_and(|at| at.elapsed() < GRACE)
    }
}

/// Whether an error may go away by itself.
pub(crate) fn is_passing(error: &RedisError) -> bool {
    let is_of_the_server = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain | ServerErrorKind::MasterDown
        )
    );
    is_of_the_server || error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}
