//! Connections that have not sent a hello yet. Their number is bounded, and silent ones lock no headnode out.
//!
//! A connection that comes when all places are taken gets the place of the one that has waited longest. So a flood of
//! silent connections displaces only itself, and a headnode, which sends its hello at once, always gets in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// How many connections may be without a hello at the same time.
pub const PLACES: usize = 32;

/// The connections without a hello, from the oldest to the newest.
#[derive(Debug, Default)]
pub struct Lobby(Mutex<WaitingConnections>);

#[derive(Debug, Default)]
struct WaitingConnections {
    next: u64,
    places: VecDeque<(u64, CancellationToken)>,
}

/// A place in the lobby. Dropping it frees the place.
#[derive(Debug)]
pub struct LobbyPlace {
    lobby: Arc<Lobby>,
    number: u64,
    evicted: CancellationToken,
}

impl Lobby {
    /// Takes a place. If no place is free, the connection that has waited longest loses its place.
    pub fn enter(self: &Arc<Self>) -> LobbyPlace {
        let evicted = CancellationToken::new();
        let mut waiting = self.lock();
        if waiting.places.len() >= PLACES
            && let Some((_, oldest)) = waiting.places.pop_front()
        {
            oldest.cancel();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.places.push_back((number, evicted.clone()));
        drop(waiting);
        LobbyPlace { lobby: self.clone(), number, evicted }
    }

    fn lock(&self) -> MutexGuard<'_, WaitingConnections> {
        // No code that holds the lock can panic in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LobbyPlace {
    /// Waits until another connection gets this place.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for LobbyPlace {
    fn drop(&mut self) {
        self.lobby.lock().places.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_a_place_left_is_free_again() {
        let lobby = Arc::new(Lobby::default());
        let mut places: Vec<_> = (0..PLACES).map(|_| lobby.enter()).collect();
        let newcomer = lobby.enter();
        let evicted = |place: &LobbyPlace| place.evicted.is_cancelled();
        assert!(evicted(&places[0]) && !places[1..].iter().any(evicted) && !evicted(&newcomer));
        drop(places.split_off(PLACES - 1));
        let _further = lobby.enter();
        assert!(!evicted(&places[1]), "a place was free");
    }
}
