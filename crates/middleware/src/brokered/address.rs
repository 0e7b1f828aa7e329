//! Addresses of brokers as they may be shown, and names that may be part of a queue's name.

use crate::TransportError;

/// The longest name of a worker, in bytes. Names of queues have at most 255.
const MAX_NAME: usize = 128;
/// The longest prefix of a cluster's names, in bytes.
const MAX_PREFIX: usize = 64;

/// Replaces the password of a URL by `***`. The URL may be wrong in any way.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = match rest[..end].rfind('@') {
        Some(_) => rest.split_at(end),
        // A password may hold a slash that is not escaped.
        None => rest.rfind('@').map_or((rest, ""), |_| (rest, "")),
    };
    let Some((user, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    format!("{scheme}://{user}:***@{host}{path}")
}

/// Checks the name of a worker.
pub(crate) fn checked_name(name: &str) -> Result<&str, TransportError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(TransportError::Invalid(format!(
            "the worker name {name:?} is not allowed: a name has 1 to {MAX_NAME} bytes and no control characters"
        )));
    }
    Ok(name)
}

/// Checks the prefix of a cluster's names.
pub(crate) fn checked_prefix(prefix: &str) -> Result<(), TransportError> {
    if prefix.is_empty() || prefix.len() > MAX_PREFIX || prefix.chars().any(|c| c.is_control() || c == ' ') {
        return Err(TransportError::Invalid(format!(
            "the prefix {prefix:?} is not allowed: a prefix has 1 to {MAX_PREFIX} bytes, no spaces and no control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("redis://host:6379", "redis://host:6379"),
            ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
            ("amqp://user:secret@host:5672/%2f", "amqp://user:***@host:5672/%2f"),
            ("amqp://user:se@cr@et@host", "amqp://user:***@host"),
            ("amqp://user:se/cret@host", "amqp://user:***@host"),
            ("amqp://user@host/a@b", "amqp://user:***@host/a@b"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn names_are_bounded() {
        assert!(checked_name("worker-1").is_ok());
        assert!(checked_name("").is_err());
        assert!(checked_name("a\nb").is_err());
        assert!(checked_name(&"x".repeat(MAX_NAME + 1)).is_err());
    }
}
