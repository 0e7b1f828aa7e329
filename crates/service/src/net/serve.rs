//! The accept loop, bounded, and a close that loses no reply.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Listener;
use crate::Shutdown;

/// Files that a program opens besides its connections: journals, logs, the runtime's own.
const OTHER_FILES: u64 = 64;
/// Connections over the limit that are being told so; further ones are closed without a word.
const REFUSALS: usize = 64;
/// How long to wait when the system has no more files or memory for connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a peer gets to take its last reply.
const LINGER: Duration = Duration::from_millis(500);
const DISCARD_BYTES: usize = 16 * 1024;

/// Raises the limit of open files so that `connections` fit.
///
/// # Errors
/// What the limit is and what to do, if they do not fit.
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

/// Accepts connections until `shutdown`, at most `max_connections` at a time, and runs `handle` for each in a task of
/// its own; returns when the last one has ended. A connection over the limit is sent `refusal` and closed.
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
    let mut doors = Doors::new(max_connections, refusal, shutdown.clone());
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => doors.admit(stream, peer, &handle),
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
    doors.tasks.close();
    doors.tasks.wait().await;
    tracing::info!("connections closed");
}

fn is_about_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Who gets in, and what the others are told.
struct Doors {
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    refusal: Arc<str>,
    refused: u64,
    tasks: TaskTracker,
    shutdown: Shutdown,
}

impl Doors {
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
        // One line for a whole flood of them.
        if self.refused == 0 {
            tracing::warn!(%peer, "too many connections: refusing until one ends");
        }
        self.refused += 1;
        let Ok(turn) = self.refusals.clone().try_acquire_owned() else { return };
        let refusal = self.refusal.clone();
        self.tasks.spawn(async move {
            let told = tokio::time::timeout(LINGER, stream.write_all(refusal.as_bytes())).await;
            if matches!(told, Ok(Ok(()))) {
                close(stream).await;
            }
            drop(turn);
        });
    }
}

/// Closes a connection so that the peer gets what was last written to it.
///
/// Closing while unread bytes wait would reset the connection, and the reset may overtake the reply (RFC 2525 § 2.17);
/// so first only our side is closed, and what the peer still sends is read and forgotten for a moment.
pub async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drain = async {
        stream.shutdown().await?;
        let mut discarded = vec![0; DISCARD_BYTES];
        while stream.read(&mut discarded).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    // A peer that is gone, or goes on sending for too long, has nothing more to get.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
