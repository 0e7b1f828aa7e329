//! The bytes of a message: a header, which is one line of JSON, and a body of any bytes.
//!
//! ```text
//! {"version":1,"bytes":7,"message":{"run":{...}}}\n<7 bytes>
//! ```
//!
//! A person with `redis-cli` or a debugger can read the header, and a client in any language can write one.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the messages. A peer with another one is refused by name.
pub const VERSION: u32 = 1;

/// The longest header. A list of operations with many values is part of a header.
pub const MAX_HEADER_BYTES: usize = 4 << 20;

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// No line end within [`MAX_HEADER_BYTES`].
    #[error("no line end within the first {MAX_HEADER_BYTES} bytes: this is no message of the DataFrame")]
    NoHeader,
    /// The header is not the JSON of such a message.
    #[error("the header is not a message of this kind: {0}")]
    Header(serde_json::Error),
    /// The peer speaks another version.
    #[error(
        "the message has version {0}, and this program speaks version {VERSION}: run the same release on both sides"
    )]
    Version(u32),
    /// The body is not as long as the header says.
    #[error("the header announces {announced} bytes, and {actual} bytes follow it")]
    Length {
        /// What the header says.
        announced: usize,
        /// What is there.
        actual: usize,
    },
}

#[derive(Serialize)]
struct OutgoingPacket<'a, H> {
    version: u32,
    bytes: usize,
    message: &'a H,
}

#[derive(Deserialize)]
struct PacketVersion {
    version: u32,
}

#[derive(Deserialize)]
struct IncomingPacket<H> {
    bytes: usize,
    message: H,
}

/// Encodes a message.
///
/// # Panics
/// Panics if `header` cannot be written as JSON, which no header of this crate can do.
pub fn encode<H: Serialize>(header: &H, body: &[u8]) -> Bytes {
    let outgoing = OutgoingPacket { version: VERSION, bytes: body.len(), message: header };
    let line = serde_json::to_vec(&outgoing).expect("headers have string keys only");
    let mut packet = BytesMut::with_capacity(line.len() + 1 + body.len());
    packet.put_slice(&line);
    packet.put_u8(b'\n');
    packet.put_slice(body);
    packet.freeze()
}

/// Decodes a message into its header and its body.
///
/// # Errors
/// Fails if the bytes are no message of this version with such a header.
pub fn decode<H: DeserializeOwned>(packet: &Bytes) -> Result<(H, Bytes), PacketError> {
    let end =
        packet.iter().take(MAX_HEADER_BYTES).position(|byte| *byte == b'\n').ok_or(PacketError::NoHeader)?;
    let line = &packet[..end];
    let version: PacketVersion = serde_json::from_slice(line).map_err(PacketError::Header)?;
    if version.version != VERSION {
        return Err(PacketError::Version(version.version));
    }
    let incoming: IncomingPacket<H> = serde_json::from_slice(line).map_err(PacketError::Header)?;
    let body = packet.slice(end + 1..);
    if body.len() != incoming.bytes {
        return Err(PacketError::Length { announced: incoming.bytes, actual: body.len() });
    }
    Ok((incoming.message, body))
}
