//! A bounded accept loop, and a way to close a connection that loses no reply.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::network::Listener;
use crate::Shutdown;

/// Files that a program opens besides its connections: journals, logs and files of the runtime.
const OTHER_FILES: u64 = 64;
/// How many connections over the limit may be receiving the refusal at the same time. Further ones are closed without
/// it.
const REFUSALS: usize = 64;
/// Pause before the next attempt when the operating system has no more files or memory for connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a peer to read its last reply.
const LINGER: Duration = Duration::from_millis(500);
const DISCARD_BYTES: usize = 16 * 1024;

/// Raises the limit of open files of the process so that `connections` fit.
///
/// # Errors
/// Fails with a text for people, which states the limit and what to do, if they do not fit.
pub fn make_room_for(connections: usize) -> Result<(), String> {
    let needed = connections as u64 + REFUSALS as u64 + OTHER_FILES;
    let allowed = rlimit::increase_nofile_limit(needed)
        .map_err(|error| format!("cannot raise the file limit: {error}"))?;
    if allowed >= needed {
        return Ok(());
    }
    Err(format!(
        "--max-connections {connections} needs {needed} open files, and the system allows {allowed}: \
         raise the hard limit (ulimit -Hn) or choose at most {}",
        allowed.saturating_sub(needed - connections as u64)
    ))
}

/// Accepts connections until `shutdown`, at most `max_connections` at a time, and runs `handle` for each in its own
/// task. Waits until the last connection has ended. A connection over the limit is sent `refusal` and closed.
pub async fn serve<L, F, Fut>(
    mut listener: L,
    max_connections: usize,
    refusal: String,
    shutdown: &Shutdown,
    handle: F,
) where
    L: Listener,
    F: Fn(L::Stream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut limit = ConnectionLimit::new(max_connections, refusal, shutdown.clone());
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => limit.admit(stream, peer, &handle),
            Err(error) if is_about_one_peer(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for the moment");
                tokio::select! {
                    () = shutdown.requested() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    tracing::info!("listener closed");
    limit.tasks.close();
    limit.tasks.wait().await;
    tracing::info!("connections closed");
}

fn is_about_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Admits connections up to a limit, and refuses the others.
struct ConnectionLimit {
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    refusal: Arc<str>,
    refused: u64,
    tasks: TaskTracker,
    shutdown: Shutdown,
}

impl ConnectionLimit {
    fn new(max_connections: usize, refusal: String, shutdown: Shutdown) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(max_connections)),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            refusal: refusal.into(),
            refused: 0,
            tasks: TaskTracker::new(),
            shutdown,
        }
    }

    fn admit<S, F, Fut>(&mut self, stream: S, peer: SocketAddr, handle: &F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn(S, SocketAddr) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return self.refuse(stream, peer) };
        if self.refused > 0 {
            tracing::info!(refused = self.refused, "connections are accepted again");
            self.refused = 0;
        }
        let held = self.shutdown.hold("connections");
        let served = handle(stream, SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        self.tasks.spawn(async move {
            served.await;
            drop((slot, held));
        });
    }

    fn refuse<S>(&mut self, mut stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // One event is logged for a whole flood of refused connections.
        if self.refused == 0 {
            tracing::warn!(%peer, "too many connections: refusing until one ends");
        }
        self.refused += 1;
        let Ok(turn) = self.refusals.clone().try_acquire_owned() else { return };
        let refusal = self.refusal.clone();
        self.tasks.spawn(async move {
            let sent = tokio::time::timeout(LINGER, stream.write_all(refusal.as_bytes())).await;
            if matches!(sent, Ok(Ok(()))) {
                close(stream).await;
            }
            drop(turn);
        });
    }
}

/// Closes a connection so that the peer still receives what was last written.
///
/// If unread bytes waited, closing would reset the connection, and the reset may overtake the reply (RFC 2525 § 2.17).
/// So the server first closes only its own direction. For a moment it then reads and drops what the peer still sends.
pub async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drain = async {
        stream.shutdown().await?;
        let mut discarded = vec![0; DISCARD_BYTES];
        while stream.read(&mut discarded).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    // A peer that has disconnected, or that sends for too long, gets nothing more.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
