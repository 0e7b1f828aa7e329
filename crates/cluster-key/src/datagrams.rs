//! Datagrams with or without a key.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service::net::Datagrams;
use tokio::time::{Instant, sleep_until};

use crate::sealed::{DatagramSeal, SEAL_BYTES, Unsealed};

/// How many refused datagrams are looked at in each [`PERIOD`]. Then nothing is received until the next one begins: what comes
/// meanwhile waits in the system's buffer, or is lost, as on any network.
const REFUSED: u32 = 1_000;
const PERIOD: Duration = Duration::from_millis(50);

/// Sends and receives datagrams. With keys, what is sent is sealed, a datagram of others arrives as
/// an empty one, and a repeated one does not arrive.
#[derive(Debug)]
pub struct KeyedDatagrams<D> {
    datagrams: D,
    seal: Option<Arc<DatagramSeal>>,
    flood: Mutex<Flood>,
}

/// How many datagrams were refused lately.
#[derive(Debug)]
struct Flood {
    since: Instant,
    refused: u32,
}

impl Flood {
    /// Counts a refused datagram.
    fn note(&mut self, now: Instant) {
        if now >= self.since + PERIOD {
            (self.since, self.refused) = (now, 0);
        }
        self.refused += 1;
    }

    /// Returns when receiving goes on.
    fn pause(&self) -> Option<Instant> {
        (self.refused >= REFUSED).then(|| self.since + PERIOD)
    }
}

impl<D> KeyedDatagrams<D> {
    /// Returns the datagrams of a holder of the seal, or of a program without a key.
    pub fn new(datagrams: D, seal: Option<Arc<DatagramSeal>>) -> Self {
        Self { datagrams, seal, flood: Mutex::new(Flood { since: Instant::now(), refused: 0 }) }
    }

    fn flood(&self) -> std::sync::MutexGuard<'_, Flood> {
        // No code that holds the lock can panic in the middle of a change.
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Datagrams> Datagrams for KeyedDatagrams<D> {
    /// Does what the trait says. With keys, `buffer` needs room for a seal besides the content: a longer datagram is refused.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let Some(seal) = &self.seal else { return self.datagrams.receive(buffer).await };
        loop {
            let pause = self.flood().pause();
            if let Some(pause) = pause {
                sleep_until(pause).await;
            }
            let (length, from) = self.datagrams.receive(buffer).await?;
            match seal.open(&buffer[..length]).map(<[u8]>::len) {
                Ok(content) => {
                    buffer.copy_within(SEAL_BYTES..SEAL_BYTES + content, 0);
                    return Ok((content, from));
                }
                Err(reason) => {
                    self.flood().note(Instant::now());
                    // A datagram may reach a program on several ways, so a repetition is nothing to be told.
                    if reason != Unsealed::Replayed {
                        return Ok((0, from));
                    }
                }
            }
        }
    }

    async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        match &self.seal {
            Some(seal) => self.datagrams.send(&seal.seal(datagram), to).await,
            None => self.datagrams.send(datagram, to).await,
        }
    }

    async fn multicast(&self, datagram: &[u8], group: SocketAddrV4) -> io::Result<()> {
        match &self.seal {
            Some(seal) => self.datagrams.multicast(&seal.seal(datagram), group).await,
            None => self.datagrams.multicast(datagram, group).await,
        }
    }

    /// Does what the trait says, and reads the file of keys again: programs call this in every round of the heartbeat.
    fn refresh(&self) {
        self.datagrams.refresh();
        if let Some(seal) = &self.seal {
            seal.reload_keys();
        }
    }
}
