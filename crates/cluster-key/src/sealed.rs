//! Datagrams that prove who sent them.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | the name of the key |
//! | 32 | HMAC-SHA256 (RFC 2104), with the heartbeat's key, of all other bytes |
//! | 16 | the sender's run: a number that is random for each run |
//! | 8 | the number of the datagram within that run, from 1, big-endian |
//! | the rest | what the datagram would be without a key |
//!
//! The receiver looks at the content only after name, code and number are right. So a datagram of others costs it one
//! comparison if its key has no known name, and one HMAC otherwise. A datagram that was received before is refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::keyring::Keyring;
use crate::replay::ReplayGuard;
use crate::secret::{KEY_ID_BYTES, KeyId, KeyPurpose, PurposeKey};

const CODE_BYTES: usize = 32;
const RUN_BYTES: usize = 16;
/// How many bytes a sealed datagram is longer than its content.
pub const SEAL_BYTES: usize = KEY_ID_BYTES + CODE_BYTES + RUN_BYTES + 8;
/// How many runs of senders are remembered at least.
const RUNS: usize = 100_000;

/// Seals the datagrams of one run of a program, and opens those that it receives.
#[derive(Debug)]
pub struct DatagramSeal {
    keys: Keyring,
    run: u128,
    last_number: AtomicU64,
    received: Mutex<ReplayGuard>,
}

/// Why a datagram is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unsealed {
    #[error("it names no key that is accepted")]
    UnknownKey,
    #[error("its code is wrong")]
    WrongCode,
    #[error("it was received before")]
    Replayed,
}

impl DatagramSeal {
    /// Returns the seal of the run `run`, which has to be random.
    #[must_use]
    pub fn new(keys: Keyring, run: u128) -> Self {
        let received = Mutex::new(ReplayGuard::new(RUNS));
        Self { keys, run, last_number: AtomicU64::new(0), received }
    }

    /// Reads the file of keys again.
    pub fn reload_keys(&self) {
        self.keys.reload();
    }

    /// Returns the bytes to send.
    ///
    /// # Panics
    /// Never panics: a keyring of a cluster holds at least one key.
    #[must_use]
    pub fn seal(&self, content: &[u8]) -> Vec<u8> {
        let keys = self.keys.keys();
        let key = keys.of(KeyPurpose::Heartbeat).first().expect("a keyring of a cluster holds a key");
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut sealed = Vec::with_capacity(SEAL_BYTES + content.len());
        sealed.extend_from_slice(&key.id.0);
        sealed.extend_from_slice(&[0; CODE_BYTES]);
        sealed.extend_from_slice(&self.run.to_be_bytes());
        sealed.extend_from_slice(&number.to_be_bytes());
        sealed.extend_from_slice(content);
        let code = code(key, &sealed).finalize().into_bytes();
        sealed[KEY_ID_BYTES..KEY_ID_BYTES + CODE_BYTES].copy_from_slice(&code);
        sealed
    }

    /// Returns the content of a datagram.
    ///
    /// # Errors
    /// Fails with [`Unsealed`] if the datagram is not from a holder of the key, or if it was received before.
    pub fn open<'a>(&self, sealed: &'a [u8]) -> Result<&'a [u8], Unsealed> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID_BYTES>().ok_or(Unsealed::UnknownKey)?;
        let keys = self.keys.keys();
        let key = keys.find(KeyPurpose::Heartbeat, KeyId(*id)).ok_or(Unsealed::UnknownKey)?;
        let (sent_code, rest) = rest.split_first_chunk::<CODE_BYTES>().ok_or(Unsealed::WrongCode)?;
        let (run, rest) = rest.split_first_chunk::<RUN_BYTES>().ok_or(Unsealed::WrongCode)?;
        let (number, content) = rest.split_first_chunk::<8>().ok_or(Unsealed::WrongCode)?;
        // The comparison takes the same time wherever the first difference is.
        code(key, sealed).verify(sent_code.into()).map_err(|_| Unsealed::WrongCode)?;
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if !received.is_new(u128::from_be_bytes(*run), u64::from_be_bytes(*number)) {
            return Err(Unsealed::Replayed);
        }
        Ok(content)
    }
}

/// Returns the code of everything in `sealed` but the place of the code itself.
fn code(key: &PurposeKey, sealed: &[u8]) -> Hmac<Sha256> {
    let mut code = Hmac::<Sha256>::new_from_slice(key.secret.bytes()).expect("HMAC takes keys of any length");
    code.update(&sealed[..KEY_ID_BYTES]);
    code.update(&sealed[KEY_ID_BYTES + CODE_BYTES..]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ClusterKey;

    /// Computed with Python's `hmac`.
    const GOLDEN: &str = "ed3f84482a9b2b81ebb1b4117b5c0c6ca4708793ef7dccf886869f287cb750579cdfae57b7b6ca410000000000000000000000000000010200000000000000017b7d";

    fn keyring(bytes: &[u8]) -> Keyring {
        Keyring::of_cluster(bytes.iter().map(|byte| ClusterKey::from([*byte; 32])).collect())
    }

    #[test]
    fn golden_datagram() {
        let key = ClusterKey::from(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let seal = DatagramSeal::new(Keyring::of_cluster(vec![key]), 0x0102);
        let sealed = seal.seal(b"{}");
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert_eq!(sealed.len(), SEAL_BYTES + 2);
        assert_eq!(seal.open(&sealed), Ok(&b"{}"[..]));
        assert_eq!(seal.open(&sealed), Err(Unsealed::Replayed));
    }

    /// RFC 4231, test case 2: the library computes what the standard says.
    #[test]
    fn known_vector_of_hmac() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let code: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(code, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn every_accepted_key_opens_and_the_first_one_seals() {
        let old = DatagramSeal::new(keyring(&[1]), 1);
        let added = DatagramSeal::new(keyring(&[1, 2]), 2);
        let promoted = DatagramSeal::new(keyring(&[2, 1]), 3);
        let removed = DatagramSeal::new(keyring(&[2]), 4);
        let opens = |by: &DatagramSeal, of: &DatagramSeal| by.open(&of.seal(b"x")).is_ok();
        for (one, other) in [(&old, &added), (&added, &promoted), (&promoted, &removed)] {
            assert!(opens(one, other) && opens(other, one));
        }
        assert!(!opens(&old, &promoted) && !opens(&removed, &added));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (sender, receiver) = (DatagramSeal::new(keyring(&[1]), 1), DatagramSeal::new(keyring(&[1]), 2));
        let sealed = sender.seal(br#"{"v":1,"probe":{"round":7,"token":81,"attempt":1,"spread_ms":0}}"#);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.open(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(receiver.open(&sealed[..length]).is_err(), "cut to {length}");
        }
        assert!(receiver.open(&[&sealed[..], b" "].concat()).is_err(), "longer");
        assert!(receiver.open(&sealed).is_ok(), "and the whole one is still new");
    }
}
