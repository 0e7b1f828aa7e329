//! How two programs prove to each other that they hold one key, and agree on keys for one connection: Noise
//! (<https://noiseprotocol.org>) `NNpsk0_25519_ChaChaPoly_SHA256`.
//!
//! | from | bytes | content |
//! | --- | --- | --- |
//! | who connects | 43 | `{"noise":{"v":1,"key":"0123456789abcdef"}}` and a line end, with the name of the key |
//! | who connects | 48 | the first Noise message, with no payload; the line above is its prologue |
//! | who listens | 25 | `{"noise":{"v":1,"ok":1}}` and a line end; `"ok":0` if the key is not accepted, and then no more |
//! | who listens | 48 | the second Noise message, with no payload |
//! | who connects | 18 | a frame with no content: it proves that this is no recording |
//! | both | | frames: two bytes of length, big-endian, and a Noise message of that length |
//!
//! The lines are JSON, so that a program without a key answers them with an error that tells people what is wrong. The first
//! Noise message is encrypted with the key, so whoever lacks it costs the listener one decryption of 16 bytes. Whoever
//! replays a recorded first message costs it two multiplications on the curve, and gets no further.

use std::io;

use snow::{Builder, HandshakeState, TransportState};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::keyring::{Keyring, PurposeKeys};
use crate::secret::{KEY_ID_BYTES, KeyId, KeyPurpose, PurposeKey};

/// The Noise protocol.
pub const PROTOCOL: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
const HELLO_BEGINNING: &[u8] = br#"{"noise":{"v":1,"key":""#;
const HELLO_END: &[u8] = b"\"}}\n";
const HELLO_BYTES: usize = HELLO_BEGINNING.len() + 2 * KEY_ID_BYTES + HELLO_END.len();
const ACCEPTED: &[u8; 25] = b"{\"noise\":{\"v\":1,\"ok\":1}}\n";
const REFUSED: &[u8; 25] = b"{\"noise\":{\"v\":1,\"ok\":0}}\n";
/// A public key of the curve, and the code of no payload.
const NOISE_BYTES: usize = 32 + 16;
/// The code of no payload.
const PROOF_BYTES: usize = 16;
/// The length of a frame's length.
pub const LENGTH_BYTES: usize = 2;

/// Why two programs have no common key.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum HandshakeError {
    #[error(
        "the other side does not accept the key {0}: give both sides a key of the same cluster (for clients: store-client \
         key client --from CLUSTER-FILE)"
    )]
    Refused(KeyId),
    #[error(
        "the other side answers without a key: give it --key-file (and no --open-clients), or leave --key-file out here"
    )]
    NotKeyed,
    #[error(
        "the other side has shown a wrong proof of the key {0}: something on the way changes the bytes, or poses as it"
    )]
    WrongProof(KeyId),
    #[error("the other side closed the connection before it had shown that it holds the key: connect again")]
    Closed,
    #[error("no key is shown within the allowed time")]
    TooSlow,
    #[error("no key is shown")]
    NoKeyShown,
    #[error("the key that is shown is not accepted")]
    KeyNotAccepted,
    #[error("{0}")]
    Network(io::Error),
}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Network(error) => error,
            HandshakeError::Closed => Self::new(io::ErrorKind::ConnectionAborted, error),
            HandshakeError::TooSlow => Self::new(io::ErrorKind::TimedOut, error),
            _ => Self::new(io::ErrorKind::PermissionDenied, error),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Network(error) }
    }
}

/// The keys of one connection, and the key that they were agreed on with.
#[derive(Debug)]
pub struct AgreedKeys {
    /// Encrypts and decrypts.
    pub transport: TransportState,
    /// The key that both sides hold.
    pub id: KeyId,
}

/// Shows the first key of `purpose` to the other side of a connection that this side has made.
///
/// # Errors
/// Fails with a [`HandshakeError`].
///
/// # Panics
/// Never panics: a keyring holds a key of each purpose that its holder connects for.
pub async fn connect<S>(
    stream: &mut S,
    keys: &PurposeKeys,
    purpose: KeyPurpose,
) -> Result<AgreedKeys, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = keys.of(purpose).first().expect("the keyring is that of a holder who may connect");
    let hello = hello(key.id);
    let mut noise = noise(key, &hello, Builder::build_initiator);
    let mut first = hello.clone();
    first.resize(HELLO_BYTES + NOISE_BYTES, 0);
    noise.write_message(&[], &mut first[HELLO_BYTES..]).map_err(|_| HandshakeError::WrongProof(key.id))?;
    stream.write_all(&first).await?;
    stream.flush().await?;
    let mut reply = [0; ACCEPTED.len()];
    stream.read_exact(&mut reply).await?;
    match &reply {
        ACCEPTED => {}
        REFUSED => return Err(HandshakeError::Refused(key.id)),
        _ => return Err(HandshakeError::NotKeyed),
    }
    let mut second = [0; NOISE_BYTES];
    stream.read_exact(&mut second).await?;
    let wrong = |_| HandshakeError::WrongProof(key.id);
    noise.read_message(&second, &mut []).map_err(wrong)?;
    let mut transport = noise.into_transport_mode().map_err(wrong)?;
    let mut proof = [0; LENGTH_BYTES + PROOF_BYTES];
    proof[LENGTH_BYTES - 1] = PROOF_BYTES as u8;
    transport.write_message(&[], &mut proof[LENGTH_BYTES..]).map_err(wrong)?;
    stream.write_all(&proof).await?;
    stream.flush().await?;
    Ok(AgreedKeys { transport, id: key.id })
}

/// Lets the other side of a connection that was accepted show a key of `purpose`. It reads 109 bytes at most, and answers
/// nothing but what the table says.
///
/// # Errors
/// Fails with a [`HandshakeError`].
pub async fn accept<S>(
    stream: &mut S,
    keys: &Keyring,
    purpose: KeyPurpose,
) -> Result<AgreedKeys, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = [0; HELLO_BYTES + NOISE_BYTES];
    read_hello(stream, &mut first).await?;
    let Some(key) = parse_hello(&first).and_then(|id| keys.keys().find(purpose, id).cloned()) else {
        return refuse(stream).await;
    };
    let mut noise = noise(&key, &first[..HELLO_BYTES], Builder::build_responder);
    if noise.read_message(&first[HELLO_BYTES..], &mut []).is_err() {
        return refuse(stream).await;
    }
    let mut reply = [0; ACCEPTED.len() + NOISE_BYTES];
    reply[..ACCEPTED.len()].copy_from_slice(ACCEPTED);
    let wrong = |_| HandshakeError::WrongProof(key.id);
    noise.write_message(&[], &mut reply[ACCEPTED.len()..]).map_err(wrong)?;
    stream.write_all(&reply).await?;
    stream.flush().await?;
    let mut transport = noise.into_transport_mode().map_err(wrong)?;
    let mut proof = [0; LENGTH_BYTES + PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    if usize::from(u16::from_be_bytes([proof[0], proof[1]])) != PROOF_BYTES {
        return Err(HandshakeError::WrongProof(key.id));
    }
    transport.read_message(&proof[LENGTH_BYTES..], &mut []).map_err(wrong)?;
    Ok(AgreedKeys { transport, id: key.id })
}

async fn refuse<T>(stream: &mut (impl AsyncWrite + Unpin)) -> Result<T, HandshakeError> {
    stream.write_all(REFUSED).await?;
    Err(HandshakeError::KeyNotAccepted)
}

/// Reads the first line and message. Fails at the first byte that cannot belong to them.
async fn read_hello(stream: &mut (impl AsyncRead + Unpin), first: &mut [u8]) -> Result<(), HandshakeError> {
    let mut read = 0;
    while read < first.len() {
        match stream.read(&mut first[read..]).await? {
            0 if read == 0 => return Err(HandshakeError::Closed),
            0 => return Err(HandshakeError::NoKeyShown),
            bytes => read += bytes,
        }
        let known = read.min(HELLO_BEGINNING.len());
        if first[..known] != HELLO_BEGINNING[..known] {
            return Err(HandshakeError::NoKeyShown);
        }
    }
    Ok(())
}

fn hello(id: KeyId) -> Vec<u8> {
    [HELLO_BEGINNING, id.to_string().as_bytes(), HELLO_END].concat()
}

fn parse_hello(first: &[u8]) -> Option<KeyId> {
    let digits = first.strip_prefix(HELLO_BEGINNING)?.get(..2 * KEY_ID_BYTES)?;
    let mut id = KeyId([0; KEY_ID_BYTES]);
    for (byte, pair) in id.0.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    // Each key has one hello only, so that the prologue is the same on both sides.
    first.starts_with(&hello(id)).then_some(id)
}

fn noise<'a, F>(key: &'a PurposeKey, prologue: &'a [u8], build: F) -> HandshakeState
where
    F: FnOnce(Builder<'a>) -> Result<HandshakeState, snow::Error>,
{
    let parameters = PROTOCOL.parse().expect("the protocol is known");
    Builder::new(parameters)
        .psk(0, key.secret.bytes())
        .and_then(|builder| builder.prologue(prologue))
        .and_then(build)
        .expect("the protocol needs a key of 32 bytes and nothing else")
}
