//! A connection with or without a key, and how a program makes one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::channel::SecureChannel;
use crate::handshake::{self, HandshakeError};
use crate::keyring::Keyring;
use crate::secret::KeyPurpose;

/// How long a handshake may take.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Waits for a connection, and shows the first key of `purpose` on it if there are `keys`.
///
/// # Errors
/// Fails as the connection does, or with a [`HandshakeError`] inside.
pub async fn connect<S>(
    connecting: impl Future<Output = io::Result<S>>,
    keys: Option<&Keyring>,
    purpose: KeyPurpose,
) -> io::Result<KeyedStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = connecting.await?;
    let Some(keys) = keys else { return Ok(KeyedStream::Plain(stream)) };
    let present = keys.keys();
    let shown = timeout(HANDSHAKE_TIME, handshake::connect(&mut stream, &present, purpose)).await;
    let agreed = shown.unwrap_or(Err(HandshakeError::TooSlow))?;
    Ok(KeyedStream::Secure(Box::new(SecureChannel::new(stream, agreed, keys.clone(), purpose))))
}

/// Returns the [`HandshakeError`] that a connection failed with, if that was the reason.
#[must_use]
pub fn handshake_error(error: &io::Error) -> Option<&HandshakeError> {
    error.get_ref()?.downcast_ref()
}

/// A connection with or without a key.
#[derive(Debug)]
pub enum KeyedStream<S> {
    /// The connection itself.
    Plain(S),
    /// The connection, encrypted.
    Secure(Box<SecureChannel<S>>),
}

impl<S: AsyncRead + Unpin> AsyncRead for KeyedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(channel) => Pin::new(channel).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for KeyedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(channel) => Pin::new(channel).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(channel) => Pin::new(channel).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(channel) => Pin::new(channel).poll_shutdown(context),
        }
    }
}
