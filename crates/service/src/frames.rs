//! Reads frames from a byte stream, a batch at a time. Every connection and standard input use this reader.

use std::io;
use std::ops::RangeInclusive;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::codec::Decoder;

/// How many bytes one read asks for. It begins with the lower number, because there may be thousands of idle streams,
/// and grows to the upper one on busy streams.
const READ_BYTES: RangeInclusive<usize> = 512..=64 * 1024;

/// Reads frames, decoded by `D`, from `reader`.
///
/// No data is lost when one of its futures is dropped: the bytes that were read stay in the buffer.
#[derive(Debug)]
pub struct FrameReader<R, D> {
    reader: R,
    decoder: D,
    received: BytesMut,
    read_bytes: usize,
    is_at_end: bool,
}

impl<R, D> FrameReader<R, D>
where
    R: AsyncRead + Unpin,
    D: Decoder<Error = io::Error>,
{
    /// Returns a reader that has read nothing yet.
    #[must_use]
    pub fn new(reader: R, decoder: D) -> Self {
        Self { reader, decoder, received: BytesMut::new(), read_bytes: *READ_BYTES.start(), is_at_end: false }
    }

    /// Returns the next frame, or `None` at the end of the stream.
    ///
    /// # Errors
    /// Fails if the stream cannot be read, or if the decoder reports an error.
    pub async fn next(&mut self) -> io::Result<Option<D::Item>> {
        let mut one = Vec::with_capacity(1);
        self.next_batch(&mut one, 1).await?;
        Ok(one.pop())
    }

    /// Waits for frames, and appends those that have arrived to `batch`, at most `most` of them. None are appended at
    /// the end of the stream.
    ///
    /// # Errors
    /// Fails if the stream cannot be read, or if the decoder reports an error.
    pub async fn next_batch(&mut self, batch: &mut Vec<D::Item>, most: usize) -> io::Result<()> {
        loop {
            let before = batch.len();
            self.decode(batch, most)?;
            if batch.len() > before || self.is_at_end {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Appends the frames that have arrived to `batch`, at most `most` of them, without reading.
    ///
    /// # Errors
    /// Fails if the decoder reports an error.
    pub fn decode(&mut self, batch: &mut Vec<D::Item>, most: usize) -> io::Result<()> {
        let decode = if self.is_at_end { D::decode_eof } else { D::decode };
        for _ in 0..most {
            match decode(&mut self.decoder, &mut self.received)? {
                Some(item) => batch.push(item),
                None => break,
            }
        }
        if self.received.is_empty() && self.received.capacity() > 2 * self.read_bytes {
            self.received = BytesMut::new();
        }
        Ok(())
    }

    /// Reads once and returns the number of bytes read, which is 0 at the end of the stream.
    ///
    /// # Errors
    /// Fails if the stream cannot be read.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.received.reserve(self.read_bytes);
        let read = self.reader.read_buf(&mut self.received).await?;
        self.is_at_end = read == 0;
        self.adapt(read);
        Ok(read)
    }

    /// Returns whether the stream has ended. Frames that arrived before may still wait to be decoded.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Returns the bytes that were read and are not yet decoded.
    #[must_use]
    pub fn unfinished(&self) -> &[u8] {
        &self.received
    }

    /// Returns the decoder, which may know what the peer is sending.
    #[must_use]
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// Returns the decoder and the bytes that are not yet decoded, for callers that decode by other rules.
    pub fn decoder_and_unfinished(&mut self) -> (&mut D, &mut BytesMut) {
        (&mut self.decoder, &mut self.received)
    }

    /// Returns the stream, so that a connection can be written to.
    pub fn stream_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Returns the stream, and drops the bytes that are not yet decoded.
    #[must_use]
    pub fn into_stream(self) -> R {
        self.reader
    }

    /// Makes the next read larger if this one filled its space, and smaller if it used little of it.
    fn adapt(&mut self, read: usize) {
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 4).min(*READ_BYTES.end());
        } else if read < self.read_bytes / 8 {
            self.read_bytes = (self.read_bytes / 2).max(*READ_BYTES.start());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::codec::LinesCodec;

    use super::*;

    struct Lines(LinesCodec);

    impl Decoder for Lines {
        type Item = String;
        type Error = io::Error;

        fn decode(&mut self, received: &mut BytesMut) -> io::Result<Option<String>> {
            self.0.decode(received).map_err(io::Error::other)
        }

        fn decode_eof(&mut self, received: &mut BytesMut) -> io::Result<Option<String>> {
            self.0.decode_eof(received).map_err(io::Error::other)
        }
    }

    #[tokio::test]
    async fn frames_come_in_batches_until_the_end() {
        let mut reader = FrameReader::new(&b"a\nb\nc\nd"[..], Lines(LinesCodec::new()));
        let mut batch = Vec::new();
        reader.next_batch(&mut batch, 2).await.unwrap();
        assert_eq!(batch, ["a", "b"]);
        assert_eq!(reader.unfinished(), b"c\nd");
        assert_eq!(reader.next().await.unwrap().as_deref(), Some("c"));
        assert_eq!(reader.next().await.unwrap().as_deref(), Some("d"));
        assert!(reader.is_at_end());
        assert_eq!(reader.next().await.unwrap(), None);
    }
}
