//! Asks the headnode over TCP, with patience.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use cluster_key::{KeyedStream, Keyring};
use protocol::store::client_api::{ClientRequest, HeadnodeReply, StoreStatus};
use service::net::TcpStream;
use text::Shown;

use crate::addresses::HeadnodeAddresses;
use crate::backoff::{next_pause, pauses};
use crate::message::SessionOptions;
use crate::request::{RequestError, request};

/// Sends requests to the headnode one after the other, on as few connections as possible.
#[derive(Debug)]
pub struct HeadnodeClient {
    address: String,
    addresses: HeadnodeAddresses,
    options: SessionOptions,
    stream: Option<KeyedStream<TcpStream>>,
}

impl HeadnodeClient {
    /// Returns a client of the headnode at `address`. It connects with the first request.
    #[must_use]
    pub fn new(address: &str, options: SessionOptions) -> Self {
        let addresses = HeadnodeAddresses::new(address, None, options.reply_timeout);
        Self { address: address.to_owned(), addresses, options, stream: None }
    }

    /// Shows a client's key on each connection.
    #[must_use]
    pub fn with_keys(self, keys: Option<Keyring>) -> Self {
        Self { addresses: HeadnodeAddresses::new(&self.address, keys, self.options.reply_timeout), ..self }
    }

    /// Returns the reply to `ask`. While the headnode is not up, or if the connection breaks, it tries again for
    /// [`SessionOptions::wait`]: a request that only reads may be sent twice.
    ///
    /// # Errors
    /// Says why there is no reply, or what the headnode refused.
    pub async fn ask(&mut self, ask: ClientRequest) -> anyhow::Result<HeadnodeReply> {
        let started = tokio::time::Instant::now();
        let SessionOptions { wait, reply_timeout, .. } = self.options;
        let mut pauses = pauses(&mut rand::make_rng());
        loop {
            match self.try_once(&ask, reply_timeout).await {
                Ok(reply) => return Ok(reply),
                Err(error) if !error.is_about_connection() => return Err(error.into()),
                Err(error) if started.elapsed() >= wait => {
                    return Err(error).with_context(|| {
                        let address = &self.address;
                        format!(
                            "no reply from {address} within {wait:?}: check that the headnode runs there, or set \
                             --headnode"
                        )
                    });
                }
                Err(error) => {
                    let pause = next_pause(&mut pauses).min(wait.saturating_sub(started.elapsed()));
                    tracing::debug!(%error, ?pause, "no reply yet");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Returns the datanodes and totals.
    ///
    /// # Errors
    /// Those of [`ask`](Self::ask); also if the reply is about something else.
    pub async fn status(&mut self) -> anyhow::Result<StoreStatus> {
        as_status(self.ask(ClientRequest::Status).await?)
    }

    /// Returns the datanodes and totals as they are now: a headnode that is not up is not waited for.
    ///
    /// # Errors
    /// Says why there is no such reply within [`SessionOptions::reply_timeout`].
    pub async fn status_now(&mut self) -> anyhow::Result<StoreStatus> {
        let was_connected = self.stream.is_some();
        let reply_timeout = self.options.reply_timeout;
        let mut reply = self.try_once(&ClientRequest::Status, reply_timeout).await;
        if let Err(error) = &reply
            && was_connected
            && error.is_about_connection()
            && !matches!(error, RequestError::Late(_))
        {
            // The headnode closes a connection that was idle for long, which says nothing about a new one.
            reply = self.try_once(&ClientRequest::Status, reply_timeout).await;
        }
        as_status(reply.with_context(|| format!("no answer from {}", Shown(&self.address)))?)
    }

    async fn try_once(
        &mut self,
        ask: &ClientRequest,
        reply_timeout: Duration,
    ) -> Result<HeadnodeReply, RequestError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.addresses.connect().await.map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => RequestError::Late(reply_timeout),
                io::ErrorKind::PermissionDenied => RequestError::Unauthenticated(error.to_string()),
                _ => RequestError::Broken(error.to_string()),
            })?,
        };
        let reply = request(&mut stream, ask.clone(), reply_timeout).await?;
        self.stream = Some(stream);
        Ok(reply)
    }
}

fn as_status(reply: HeadnodeReply) -> anyhow::Result<StoreStatus> {
    match reply {
        HeadnodeReply::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

/// Returns the error that a reply is about something else than the request.
pub(crate) fn unexpected(reply: &HeadnodeReply) -> anyhow::Error {
    let mut shown = format!("{reply:?}");
    shown.truncate(shown.floor_char_boundary(100));
    anyhow!("the headnode answered something else: is it a headnode? {}", Shown(&shown))
}
