//! Accepts connections, and lets each show its key before the program sees it.
//!
//! Those that have shown none yet take none of the program's places. They have [`PLACES`] of their own, [`HANDSHAKE_TIME`]
//! each, and no more than 109 bytes of each are read. A connection that comes when all places are taken gets the place of the
//! one that has waited longest. So a flood of silent connections displaces only itself, and a holder of the key, who shows it
//! at once, gets in.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use service::net::{self, Listener};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::channel::SecureChannel;
use crate::handshake::{self, HandshakeError};
use crate::keyring::Keyring;
use crate::secret::KeyPurpose;
use crate::stream::{HANDSHAKE_TIME, KeyedStream};

/// How many connections may be about to show their key.
pub const PLACES: usize = 64;

/// Who may connect to a program that has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// The purpose of the key that has to be shown. `None` opens the door to everybody.
    pub purpose: Option<KeyPurpose>,
    /// The line for those who show none.
    pub refusal: String,
}

/// What a connection has to show, and to whom.
#[derive(Debug, Clone)]
struct Lock {
    keys: Keyring,
    purpose: KeyPurpose,
    refusal: Arc<str>,
}

/// A connection that has shown its key, and the address of the other side.
type HandshakeOutcome<S> = Result<(KeyedStream<S>, SocketAddr), HandshakeError>;

/// A listener whose connections have shown the key that the door asks for.
#[derive(Debug)]
pub struct KeyedListener<L: Listener> {
    listener: L,
    lock: Option<Lock>,
    handshakes: JoinSet<HandshakeOutcome<L::Stream>>,
    /// The handshakes, from the oldest to the newest. Some of them may have ended.
    waiting: VecDeque<AbortHandle>,
    refused: u64,
}

impl<L: Listener> KeyedListener<L> {
    /// Returns a listener for the holder of `keys`. The door is open if there are none.
    pub fn new(listener: L, keys: Option<Keyring>, door: Door) -> Self {
        let lock = keys.zip(door.purpose).map(|(keys, purpose)| Lock {
            keys,
            purpose,
            refusal: door.refusal.into(),
        });
        Self { listener, lock, handshakes: JoinSet::new(), waiting: VecDeque::new(), refused: 0 }
    }

    fn begin(&mut self, lock: Lock, stream: L::Stream, peer: SocketAddr) {
        self.waiting.retain(|handshake| !handshake.is_finished());
        if self.waiting.len() >= PLACES
            && let Some(oldest) = self.waiting.pop_front()
        {
            oldest.abort();
            self.note_refusal(&HandshakeError::TooSlow);
        }
        let handshake = async move { Ok((lock.open(stream).await?, peer)) };
        self.waiting.push_back(self.handshakes.spawn(handshake));
    }

    /// Counts a refused connection. One event is logged for many of them.
    fn note_refusal(&mut self, reason: &HandshakeError) {
        self.refused += 1;
        if self.refused.is_power_of_two() {
            tracing::warn!(%reason, refused = self.refused, "connections that show no accepted key: refused");
        }
    }
}

impl Lock {
    /// Waits until the other side has shown a key.
    async fn open<S>(self, mut stream: S) -> Result<KeyedStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shown = timeout(HANDSHAKE_TIME, handshake::accept(&mut stream, &self.keys, self.purpose)).await;
        match shown.unwrap_or(Err(HandshakeError::TooSlow)) {
            Ok(agreed) => {
                let channel = SecureChannel::new(stream, agreed, self.keys, self.purpose);
                Ok(KeyedStream::Secure(Box::new(channel)))
            }
            Err(error) => {
                if matches!(error, HandshakeError::NoKeyShown | HandshakeError::TooSlow) {
                    // The connection closes whether or not the other side reads this.
                    let _ = timeout(HANDSHAKE_TIME, stream.write_all(self.refusal.as_bytes())).await;
                }
                if !matches!(error, HandshakeError::Closed | HandshakeError::Network(_)) {
                    net::close(stream).await;
                }
                Err(error)
            }
        }
    }
}

impl<L: Listener> Listener for KeyedListener<L> {
    type Stream = KeyedStream<L::Stream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, SocketAddr)> {
        let Some(lock) = self.lock.clone() else {
            let (stream, peer) = self.listener.accept().await?;
            return Ok((KeyedStream::Plain(stream), peer));
        };
        loop {
            tokio::select! {
                // The order is fixed, so that a simulation can be repeated.
                biased;
                Some(ended) = self.handshakes.join_next() => match ended {
                    Ok(Ok(shown)) => return Ok(shown),
                    // Whoever only looks whether somebody listens here, as health checks do, is refused nothing.
                    Ok(Err(HandshakeError::Closed)) => {}
                    Ok(Err(error)) => self.note_refusal(&error),
                    // It gave way to a newer one.
                    Err(_) => {}
                },
                accepted = self.listener.accept() => {
                    let (stream, peer) = accepted?;
                    self.begin(lock.clone(), stream, peer);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
