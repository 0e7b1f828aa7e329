//! Which connection may store: that of the headnode with the highest epoch, and of its connections the newest one.

use protocol::store::types::Epoch;
use tokio::sync::watch;
use tokio::time::Instant;

/// The present claim, as other parts of the datanode see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentClaim {
    /// The number of the claim in this run of the datanode. It is 0 before the first one.
    number: u64,
    /// The highest epoch that the datanode has met. `None` stands for none at all.
    pub epoch: Option<Epoch>,
    /// When the claim was made, or when the datanode started.
    pub since: Instant,
    /// Whether the connection that made the claim has ended.
    pub closed: bool,
}

/// All claims to this datanode. Clones are the same.
#[derive(Debug, Clone)]
pub struct ClaimChannel(watch::Sender<CurrentClaim>);

/// A connection's right to store, which ends when a newer connection claims it.
#[derive(Debug)]
pub struct Claim {
    number: u64,
    /// The epoch of the headnode.
    pub epoch: Option<Epoch>,
    claims: ClaimChannel,
    current: watch::Receiver<CurrentClaim>,
}

impl ClaimChannel {
    /// Returns claims none of which was made yet, where `epoch` is the highest epoch that the datanode has met.
    #[must_use]
    pub fn new(epoch: Option<Epoch>) -> Self {
        Self(watch::Sender::new(CurrentClaim { number: 0, epoch, since: Instant::now(), closed: false }))
    }

    /// Takes the right to store from every other connection, for a headnode with this epoch.
    #[must_use]
    pub fn take(&self, epoch: Option<Epoch>) -> Claim {
        let mut number = 0;
        self.0.send_modify(|current| {
            number = current.number + 1;
            *current = CurrentClaim { number, epoch, since: Instant::now(), closed: false };
        });
        Claim { number, epoch, claims: self.clone(), current: self.0.subscribe() }
    }

    /// Returns a channel that always holds the present claim.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<CurrentClaim> {
        self.0.subscribe()
    }
}

impl Claim {
    /// Returns whether no other connection has taken over.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.current.borrow().number == self.number
    }

    /// Waits until a newer connection takes over.
    pub async fn lost(&mut self) {
        let number = self.number;
        // This cannot fail, because the claim holds a sender.
        let _ = self.current.wait_for(|current| current.number != number).await;
    }
}

impl Drop for Claim {
    /// Notes that the connection has ended.
    fn drop(&mut self) {
        self.claims.0.send_if_modified(|current| {
            let is_current = current.number == self.number;
            current.closed |= is_current;
            is_current
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_newest_connection_counts() {
        let claims = ClaimChannel::new(None);
        let closed = || claims.watch().borrow().closed;
        assert!(!closed(), "nobody was connected yet");
        let old = claims.take(None);
        let new = claims.take(None);
        assert!(!old.is_current() && new.is_current());
        drop(old);
        assert!(!closed());
        drop(new);
        assert!(closed());
        let _back = claims.take(None);
        assert!(!closed());
    }
}
