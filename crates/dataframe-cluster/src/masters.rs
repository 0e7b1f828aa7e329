//! The masters of a cluster, one of which answers: a single one, or a pair of which one stands by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use middleware::Endpoint;

/// The addresses of the masters, and which of them is asked at the moment. Clones share it.
///
/// Where a broker stands between, there is one entry, which the middleware ignores: the broker knows which master takes requests.
#[derive(Debug, Clone)]
pub struct MasterAddresses {
    addresses: Arc<[String]>,
    current: Arc<AtomicUsize>,
}

impl MasterAddresses {
    /// The addresses in the order in which they are tried first.
    #[must_use]
    pub fn new(addresses: Vec<String>) -> Self {
        let addresses = if addresses.is_empty() { vec![String::new()] } else { addresses };
        Self { addresses: addresses.into(), current: Arc::default() }
    }

    /// How many masters there are.
    pub(crate) fn count(&self) -> usize {
        self.addresses.len()
    }

    /// The master that is asked now, and its place for [`MasterAddresses::leave`].
    pub(crate) fn current(&self) -> (usize, Endpoint) {
        let place = self.current.load(Ordering::Relaxed);
        (place, Endpoint::Master(self.addresses[place].clone()))
    }

    /// Turns to the next master, because the one at this place does not answer. Does nothing if somebody else has turned already.
    pub(crate) fn leave(&self, place: usize) {
        let next = (place + 1) % self.addresses.len();
        let _ = self.current.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The addresses as a text for people, empty where a broker stands between.
    pub(crate) fn shown(&self) -> String {
        self.addresses.join(" or ")
    }
}

impl From<String> for MasterAddresses {
    /// Reads `HOST:PORT` or `HOST:PORT,HOST:PORT`.
    fn from(addresses: String) -> Self {
        Self::new(addresses.split(',').map(|address| address.trim().to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(masters: &MasterAddresses) -> String {
        match masters.current().1 {
            Endpoint::Master(address) => address,
            other => panic!("{other:?} is no master"),
        }
    }

    #[test]
    fn whoever_finds_a_master_gone_turns_everybody_to_the_next_one_once() {
        let masters = MasterAddresses::from("a:1, b:2".to_owned());
        let other = masters.clone();
        let (place, _) = masters.current();
        masters.leave(place);
        other.leave(place);
        assert_eq!(address(&masters), "b:2");
        other.leave(other.current().0);
        assert_eq!(address(&masters), "a:1");
    }

    #[test]
    fn a_single_master_is_asked_again() {
        let masters = MasterAddresses::from("a:1".to_owned());
        masters.leave(0);
        assert_eq!(address(&masters), "a:1");
        assert_eq!(address(&MasterAddresses::new(Vec::new())), "");
    }
}
