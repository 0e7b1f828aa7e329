//! Keys. Nobody sends a key, and each purpose has a key of its own, derived from the cluster's with HKDF-SHA256
//! (RFC 5869):
//!
//! | key | derived from | info |
//! | --- | --- | --- |
//! | of a purpose | the cluster's key | `heartbeat`, `link` or `client` |
//! | name of a key ([`KeyId`]) | the purpose's key | `id` |
//!
//! So a client, which holds the client's key alone, cannot pose as a datanode or a headnode.

use std::fmt;
use std::str::FromStr;

use hkdf::Hkdf;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::Sha256;
use zeroize::ZeroizeOnDrop;

/// The length of a key in bytes.
pub const KEY_BYTES: usize = 32;
/// The length of a [`KeyId`] in bytes.
pub const KEY_ID_BYTES: usize = 8;
/// The salt of all derivations. Another version of them would have another one.
const SALT: &[u8] = b"distributed store, cluster key, version 1";

/// The bytes of a key. They are overwritten when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct SecretKey([u8; KEY_BYTES]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A text that is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("64 hexadecimal digits are expected")]
pub struct NotAKey;

impl FromStr for SecretKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let digits: &[u8; 2 * KEY_BYTES] = text.as_bytes().try_into().map_err(|_| NotAKey)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(NotAKey);
        let mut key = Self([0; KEY_BYTES]);
        for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| NotAKey)?;
        }
        Ok(key)
    }
}

impl SecretKey {
    /// Returns the bytes of the key.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Returns the key as a line of a file holds it: 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    fn derive<const BYTES: usize>(&self, info: &str) -> [u8; BYTES] {
        let mut derived = [0; BYTES];
        Hkdf::<Sha256>::new(Some(SALT), &self.0)
            .expand(info.as_bytes(), &mut derived)
            .expect("HKDF gives up to 8,160 bytes");
        derived
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key of a cluster. Each of its programs holds it, and can do everything with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterKey(pub SecretKey);

impl ClusterKey {
    /// Returns a new key from the randomness of the operating system.
    ///
    /// # Errors
    /// Fails if the operating system has no randomness.
    pub fn generate() -> Result<Self, rand::rngs::SysError> {
        let mut bytes = [0; KEY_BYTES];
        SysRng.try_fill_bytes(&mut bytes)?;
        Ok(Self(SecretKey(bytes)))
    }

    /// Returns the key of a purpose.
    #[must_use]
    pub fn of(&self, purpose: KeyPurpose) -> PurposeKey {
        PurposeKey::new(SecretKey(self.0.derive(purpose.as_str())))
    }
}

impl From<[u8; KEY_BYTES]> for ClusterKey {
    fn from(bytes: [u8; KEY_BYTES]) -> Self {
        Self(SecretKey(bytes))
    }
}

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPurpose {
    /// The datagrams of the heartbeat.
    Heartbeat,
    /// The connections between the programs of the cluster.
    Link,
    /// The connections of clients.
    Client,
}

impl KeyPurpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Link => "link",
            Self::Client => "client",
        }
    }
}

/// The key of one purpose, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurposeKey {
    /// The name of the key.
    pub id: KeyId,
    /// The key.
    pub secret: SecretKey,
}

impl PurposeKey {
    /// Returns the key with its name.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        Self { id: KeyId(secret.derive("id")), secret }
    }
}

/// The name of a key, which says nothing about the key. It is sent in front of what was made with the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac` and RFC 5869.
    const GOLDEN: [(&str, &str); 3] = [
        ("ed3f84482a9b2b81", "c73e5e87d83b078b55ce1b252375465b59cfdd04f73150fa2fbda6891ad99604"),
        ("a3dd5616a0ad8481", "65c7d7de4ef2d9772df34649c06464f81487fd1b24e2b1d8d5162f59c5fcac5e"),
        ("a604d7eb85221736", "32ec9f8a84192024733091d9224cd2687e3d908658c9f17364e6292e46c338f3"),
    ];

    #[test]
    fn golden_derivations() {
        let key = ClusterKey::from(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        assert_eq!(key.0.to_hex(), "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
        assert_eq!(key.0.to_hex().parse(), Ok(key.0.clone()));
        let derived = [KeyPurpose::Heartbeat, KeyPurpose::Link, KeyPurpose::Client]
            .map(|purpose| key.of(purpose))
            .map(|key| (key.id.to_string(), key.secret.to_hex()));
        let golden = GOLDEN.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
        assert_eq!(derived, golden);
        assert_eq!(format!("{key:?}"), "ClusterKey(SecretKey(…))");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let digits = "0".repeat(64);
        assert!(digits.parse::<SecretKey>().is_ok());
        for text in
            ["", "0", &digits[1..], &format!("{digits}0"), &digits.replace("00", "0g"), &"ñ".repeat(32)]
        {
            assert_eq!(text.parse::<SecretKey>(), Err(NotAKey), "{text:?}");
        }
    }

    #[test]
    fn new_keys_differ() {
        assert_ne!(ClusterKey::generate().unwrap(), ClusterKey::generate().unwrap());
    }
}
