//! A byte stream that only the two ends of a connection can read and change.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use snow::TransportState;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::handshake::{AgreedKeys, LENGTH_BYTES};
use crate::keyring::Keyring;
use crate::secret::{KeyId, KeyPurpose};

/// The longest Noise message.
const MAX_MESSAGE: usize = u16::MAX as usize;
/// The length of the code that closes each Noise message.
const CODE_BYTES: usize = 16;
/// The longest content of a frame.
const MAX_CONTENT: usize = MAX_MESSAGE - CODE_BYTES;
/// How many bytes one read asks for: first this many, because many connections are idle, and more on busy ones.
const FIRST_READ: usize = 1024;
const LARGEST_READ: usize = MAX_MESSAGE + LENGTH_BYTES;
/// Memory that an idle connection keeps for each direction, in bytes.
const KEPT_BYTES: usize = 8 * 1024;

/// A connection over `S` whose two ends have agreed on keys. What is read and written is what the ends say to each other.
///
/// As with a TCP connection, nothing needs to be flushed: a write is ready when `S` has taken all bytes of it. A write that is
/// pending has to be tried again with the same bytes, which may be followed by more, as `write_all` and `write_buf` do.
#[derive(Debug)]
pub struct SecureChannel<S> {
    stream: S,
    transport: TransportState,
    keys: ChannelKey,
    /// Received, and not decrypted yet.
    incoming: BytesMut,
    /// Decrypted, and not read yet.
    content: BytesMut,
    read_bytes: usize,
    /// Encrypted, and not sent yet.
    outgoing: BytesMut,
    /// How many of the caller's bytes are in `outgoing` without the caller knowing.
    untold: usize,
}

/// The key that both ends hold. A channel whose key is removed ends.
#[derive(Debug)]
struct ChannelKey {
    keys: Keyring,
    purpose: KeyPurpose,
    id: KeyId,
    seen_version: u64,
}

impl ChannelKey {
    fn check(&mut self) -> io::Result<()> {
        let version = self.keys.version();
        if version != self.seen_version {
            if self.keys.keys().find(self.purpose, self.id).is_none() {
                let reason = format!("the key {} of this connection is not accepted any more", self.id);
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
            }
            self.seen_version = version;
        }
        Ok(())
    }
}

impl<S> SecureChannel<S> {
    /// Returns the channel over `stream`, whose ends have agreed on `agreed`.
    pub fn new(stream: S, agreed: AgreedKeys, keys: Keyring, purpose: KeyPurpose) -> Self {
        // The version is another one than any, so that the first check looks at the keys.
        let seen_version = keys.version().wrapping_sub(1);
        Self {
            stream,
            transport: agreed.transport,
            keys: ChannelKey { keys, purpose, id: agreed.id, seen_version },
            incoming: BytesMut::new(),
            content: BytesMut::new(),
            read_bytes: FIRST_READ,
            outgoing: BytesMut::new(),
            untold: 0,
        }
    }

    /// Decrypts the frames that have arrived, as far as `buffer` has room. Content for which it has no room is kept.
    fn decrypt(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        // The caller may have filled a part of the buffer itself.
        let before = buffer.filled().len();
        while let Some((message, frame)) = whole_frame(&self.incoming) {
            let length = message.len().saturating_sub(CODE_BYTES);
            let forged = |_| io::Error::new(io::ErrorKind::InvalidData, "a frame is not from the other end");
            if length <= buffer.remaining() {
                let room = buffer.initialize_unfilled_to(length);
                self.transport.read_message(message, room).map_err(forged)?;
                buffer.advance(length);
                self.incoming.advance(frame);
                continue;
            }
            if buffer.filled().len() > before {
                break;
            }
            self.content.resize(length, 0);
            self.transport.read_message(message, &mut self.content).map_err(forged)?;
            self.incoming.advance(frame);
            self.give_content(buffer);
            break;
        }
        if self.incoming.is_empty() && self.incoming.capacity() > KEPT_BYTES {
            self.incoming = BytesMut::new();
        }
        Ok(())
    }

    fn give_content(&mut self, buffer: &mut ReadBuf<'_>) {
        let given = self.content.len().min(buffer.remaining());
        buffer.put_slice(&self.content[..given]);
        self.content.advance(given);
        if self.content.is_empty() {
            self.content = BytesMut::new();
        }
    }

    /// Puts the beginning of `bytes` into `outgoing` as one frame.
    fn encrypt(&mut self, bytes: &[u8]) -> io::Result<()> {
        let content = &bytes[..bytes.len().min(MAX_CONTENT)];
        let message = content.len() + CODE_BYTES;
        self.outgoing.resize(LENGTH_BYTES + message, 0);
        let (length, room) = self.outgoing.split_at_mut(LENGTH_BYTES);
        length.copy_from_slice(&u16::try_from(message).map_err(io::Error::other)?.to_be_bytes());
        self.transport.write_message(content, room).map_err(io::Error::other)?;
        self.untold = content.len();
        Ok(())
    }
}

/// Returns the Noise message in the first frame, and the length of the frame, if all of it has arrived.
fn whole_frame(incoming: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = incoming.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    Some((rest.get(..length)?, LENGTH_BYTES + length))
}

impl<S: AsyncRead + Unpin> SecureChannel<S> {
    /// Receives more, and returns whether there was any.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.incoming.reserve(self.read_bytes);
        // Whether it is polled again or dropped, `read_buf` loses nothing.
        let received = ready!(pin!(self.stream.read_buf(&mut self.incoming)).poll(context))?;
        if received >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 4).min(LARGEST_READ);
        } else if received < self.read_bytes / 8 {
            self.read_bytes = (self.read_bytes / 2).max(FIRST_READ);
        }
        Poll::Ready(Ok(received > 0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SecureChannel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let channel = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        loop {
            channel.keys.check()?;
            channel.give_content(buffer);
            if buffer.filled().len() == before {
                channel.decrypt(buffer)?;
            }
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            if !ready!(channel.poll_fill(context))? {
                return Poll::Ready(if channel.incoming.is_empty() {
                    Ok(())
                } else {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended inside a frame"))
                });
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> SecureChannel<S> {
    /// Sends what is encrypted.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.outgoing))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(sent);
        }
        if self.outgoing.capacity() > KEPT_BYTES {
            self.outgoing = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SecureChannel<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let channel = &mut *self;
        channel.keys.check()?;
        if channel.untold == 0 && !bytes.is_empty() {
            ready!(channel.poll_send(context))?;
            channel.encrypt(bytes)?;
        }
        if channel.untold > bytes.len() {
            let reason = "a write that was pending was given up, and another one was begun";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        ready!(channel.poll_send(context))?;
        Poll::Ready(Ok(std::mem::take(&mut channel.untold)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
