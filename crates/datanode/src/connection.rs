//! A headnode's connection: batches of requests, answered in order.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use journal::timestamp;
use protocol::json::{self, MAX_FRAME_BYTES, VERSION};
use protocol::line::{AtEof, LineCodec, Rejection};
use protocol::storage::{Failure, Reply, Request};
use service::Shutdown;
use service::exchange::{Ended, Exchange, Limits};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Identity;
use crate::store::{Claim, Message, Store};

/// Requests that are answered together.
const BATCH_REQUESTS: usize = 1024;
/// A headnode may have nothing to store for days; one that is gone is noticed by TCP itself, or is taken over from.
const IDLE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const SEND: Duration = Duration::from_secs(10);

/// What all connections share.
pub struct Context {
    pub identity: Arc<Identity>,
    pub store: Arc<Store>,
    pub shutdown: Shutdown,
}

/// What is sent to a connection too many.
pub fn refusal() -> String {
    let reason = "too many connections: close some of them".to_owned();
    let mut line = Vec::new();
    json::encode(&Reply::Failed { code: Failure::TooManyConnections, reason }, &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// Serves one headnode until it ends, breaks the rules, is taken over from, or the datanode shuts down.
pub async fn serve<S>(stream: S, peer: SocketAddr, context: Arc<Context>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let codec = LineCodec::new(MAX_FRAME_BYTES, AtEof::Reject);
    let mut exchange = Exchange::new(stream, codec, Limits { idle: IDLE, send: SEND });
    let mut connection = Connection { peer, context: &context, claim: None, trusted: true };
    match connection.run(&mut exchange).await {
        // Somebody only looked whether this datanode listens, as health checks do every second.
        Ok(()) if connection.claim.is_none() => tracing::debug!(%peer, "connection closed"),
        Ok(()) => tracing::info!(%peer, "connection closed"),
        Err(error) => tracing::warn!(%peer, %error, "connection broken"),
    }
    exchange.close().await;
}

struct Connection<'a> {
    peer: SocketAddr,
    context: &'a Context,
    /// Since the hello.
    claim: Option<Claim>,
    /// What comes can still be told apart.
    trusted: bool,
}

impl Connection<'_> {
    async fn run<S>(&mut self, exchange: &mut Exchange<S, LineCodec>) -> Result<(), Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut lines = Vec::new();
        let mut replies = Vec::new();
        while self.trusted {
            tokio::select! {
                biased;
                () = lost(&mut self.claim) => {
                    tracing::warn!(peer = %self.peer, "a newer connection of a headnode has taken over; if two headnodes are meant, give each its own --group");
                    return Ok(());
                }
                taken = exchange.next_batch(&mut lines, BATCH_REQUESTS, &self.context.shutdown) => taken?,
            }
            if lines.is_empty() {
                return Ok(());
            }
            for reply in self.answer(lines.drain(..)).await {
                json::encode(&reply, &mut replies);
            }
            exchange.send(&mut replies).await?;
        }
        Ok(())
    }

    /// Answers a batch of lines, up to the first that cannot be trusted. Messages that follow each other are stored
    /// together.
    async fn answer(&mut self, lines: impl Iterator<Item = Result<String, Rejection>>) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut messages = Vec::new();
        for line in lines {
            let request = line
                .map_err(|rejection| rejection.to_string())
                .and_then(|line| json::decode(line.as_bytes()).map_err(|malformed| malformed.to_string()));
            if let Ok(Request::Store { id, client, message }) = request {
                messages.push(Message { id, client, text: message });
                continue;
            }
            self.store(&mut messages, &mut replies).await;
            replies.push(match request {
                Ok(request) => self.answer_one(request).await,
                Err(reason) => self.refuse(Failure::Malformed, reason),
            });
            if !self.trusted {
                return replies;
            }
        }
        self.store(&mut messages, &mut replies).await;
        replies
    }

    async fn store(&mut self, messages: &mut Vec<Message>, replies: &mut Vec<Reply>) {
        if messages.is_empty() {
            return;
        }
        let messages = mem::take(messages);
        match &self.claim {
            Some(claim) => {
                let time = timestamp(Utc::now());
                replies.extend(self.context.store.store(claim, messages, &time).await);
            }
            None => replies.push(self.refuse(Failure::Malformed, "hello must come first".to_owned())),
        }
    }

    async fn answer_one(&mut self, request: Request) -> Reply {
        match request {
            Request::Hello { v, .. } if v != VERSION => {
                self.refuse(Failure::Malformed, format!("version {v} is not spoken here; use {VERSION}"))
            }
            Request::Hello { datanode, incarnation, headnode, .. } => {
                let identity = &self.context.identity;
                if (&datanode, incarnation) != (&identity.name, identity.incarnation) {
                    let reason = format!("this is {} in its run {}", identity.name, identity.incarnation);
                    return self.refuse(Failure::WrongDatanode, reason);
                }
                self.claim = Some(self.context.store.claim().await);
                tracing::info!(peer = %self.peer, %headnode, "headnode connected");
                Reply::Welcome { v: VERSION, records: self.context.store.records() }
            }
            Request::Fetch { id } => self.context.store.fetch(id).await,
            Request::Inventory { from } => self.context.store.inventory(from).await,
            Request::Store { .. } => unreachable!("messages are collected and stored together"),
        }
    }

    fn refuse(&mut self, code: Failure, reason: String) -> Reply {
        tracing::warn!(peer = %self.peer, reason, "connection refused");
        self.trusted = false;
        Reply::Failed { code, reason }
    }
}

async fn lost(claim: &mut Option<Claim>) {
    match claim {
        Some(claim) => claim.lost().await,
        None => std::future::pending().await,
    }
}
