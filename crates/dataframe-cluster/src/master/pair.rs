//! A pair of masters: one leads, and the other one stands by, watches it, and takes over when it is gone.
//!
//! | who | does |
//! | --- | --- |
//! | standby | asks the leader to be told of it (`watch`), and hears of it five times a second |
//! | standby | takes over when the leader is gone: with a higher term, at its own address or at the broker |
//! | leader | tells the other master once a second that it leads (`supersede`) |
//! | old leader that comes back, such as one that was only cut off | hears of the newer lead, steps down, and stands by |
//!
//! Workers join the master that leads, and clients send their jobs to it, under the same ids. What both masters do while neither
//! knows of the other is done twice and is the same, because tasks only read; a client takes the first result.

use std::time::{Duration, Instant};

use dataframe_jobs::failure::FailureCode;
use dataframe_jobs::message::{Lead, Reply, Request};
use dataframe_jobs::packet;
use futures_util::StreamExt;
use middleware::{Endpoint, SharedTransport, TransportError};

use crate::ask::{AskError, ask};

/// Between two calls of a leader to the other master.
const REMIND: Duration = Duration::from_secs(1);

/// How much longer a master that has just begun to stand by waits for the first word of a leader.
const FIRST_PATIENCE: u32 = 3;

/// Before a leader is asked again whose words have ended, or a broker that is away.
const PAUSE: Duration = Duration::from_millis(100);

/// What a master of a pair needs to know.
#[derive(Debug, Clone)]
pub struct PairConfig {
    /// The address of the other master, where the middleware calls it directly. Otherwise both meet at the broker.
    pub peer: Option<String>,
    /// A leader that is silent for so long is gone.
    pub takeover_after: Duration,
}

impl PairConfig {
    /// Where the other master is asked. At a broker, whoever leads answers.
    fn endpoint(&self) -> Endpoint {
        Endpoint::Master(self.peer.clone().unwrap_or_default())
    }
}

/// Waits until no master leads. Returns the term of the lead that begins then, which is higher than `heard` and than those of all
/// leaders that were heard of meanwhile.
pub(crate) async fn stand_by(transport: &SharedTransport, pair: &PairConfig, heard: u64) -> u64 {
    let mut watcher = LeaderWatch { transport, pair, term: heard, heard: Instant::now(), has_heard: false };
    while watcher.watch().await == Outlook::Leader {}
    // A term comes from the network. Whoever claims the last one that there is must not end this program.
    let term = watcher.term.saturating_add(1);
    tracing::warn!(term, peer = pair.peer, "taking over: no master leads");
    term
}

/// What is known of the leader after its words have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// There may be one.
    Leader,
    /// There is none.
    Gone,
}

struct LeaderWatch<'a> {
    transport: &'a SharedTransport,
    pair: &'a PairConfig,
    /// The highest term that was heard of.
    term: u64,
    /// When something was heard last, or when the wait began.
    heard: Instant,
    /// Whether a leader was heard since the wait began.
    has_heard: bool,
}

impl LeaderWatch<'_> {
    /// Listens to a leader for as long as it speaks.
    async fn watch(&mut self) -> Outlook {
        let patience = self.pair.takeover_after;
        let request = packet::encode(&Request::Watch, &[]);
        let leader = self.pair.endpoint();
        let asked = self.transport.request(&leader, request);
        let mut words = match tokio::time::timeout(patience, asked).await {
            Ok(Ok(words)) => words,
            Ok(Err(error)) => return self.not_reached(&error).await,
            Err(_) => return self.silent(),
        };
        loop {
            match tokio::time::timeout(patience, words.next()).await {
                Ok(Some(Ok(word))) => match packet::decode(&word) {
                    Ok((Reply::Leads(lead), _)) => self.hear(&lead),
                    Ok((Reply::Failed(failure), _)) => {
                        tracing::warn!(%failure, "the leader does not let this master watch it");
                        self.heard = Instant::now();
                        return self.again().await;
                    }
                    Ok(_) => self.heard = Instant::now(),
                    Err(error) => {
                        tracing::warn!(%error, "the other master does not speak this protocol");
                        return self.again().await;
                    }
                },
                // The connection broke. The next request tells whether a master is there.
                Ok(Some(Err(_)) | None) => return self.again().await,
                Err(_) => return self.silent(),
            }
        }
    }

    fn hear(&mut self, lead: &Lead) {
        self.heard = Instant::now();
        self.term = self.term.max(lead.term);
        if !std::mem::replace(&mut self.has_heard, true) {
            tracing::info!(term = lead.term, peer = self.pair.peer, "standing by");
        }
    }

    async fn not_reached(&mut self, error: &TransportError) -> Outlook {
        tracing::debug!(%error, "the other master is not reached");
        if self.pair.peer.is_some() {
            // Nobody listens at its address.
            return Outlook::Gone;
        }
        // A broker that is away says nothing about the master behind it.
        self.heard = Instant::now();
        self.again().await
    }

    /// Asks again after a pause.
    async fn again(&self) -> Outlook {
        tokio::time::sleep(PAUSE).await;
        Outlook::Leader
    }

    fn silent(&self) -> Outlook {
        let patience = match self.has_heard {
            true => self.pair.takeover_after,
            // At a broker, the first question may have gone to a master that ended at the same time, such as this one before it stepped
            // down. Then it is delivered again.
            false => self.pair.takeover_after * FIRST_PATIENCE,
        };
        if self.heard.elapsed() < patience { Outlook::Leader } else { Outlook::Gone }
    }
}

/// Tells the other master of this lead, again and again. Returns the newer lead when there is one.
pub(crate) async fn hold_lead(transport: SharedTransport, pair: PairConfig, own: Lead) -> Lead {
    let mut ticks = tokio::time::interval(REMIND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request = Request::Supersede(own.clone());
        match ask(&transport, &pair.endpoint(), &request, REMIND).await {
            Ok((Reply::Leads(lead), _)) if lead > own => return lead,
            // A master that stands by does not listen.
            Ok(_) | Err(AskError::Transport(_) | AskError::Timeout(_) | AskError::Ended) => {}
            Err(AskError::Failed(failure)) if failure.code == FailureCode::Refused => {
                tracing::warn!(%failure, "the other master does not know that it is one of a pair");
            }
            Err(error) => tracing::warn!(%error, "the other master answers with nonsense"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::stream;
    use middleware::{Capabilities, Pieces, Requests, Transport};

    use super::*;

    /// The other master: says once that it leads, and is gone.
    struct LastWords {
        term: u64,
        is_gone: AtomicBool,
    }

    #[async_trait]
    impl Transport for LastWords {
        fn capabilities(&self) -> Capabilities {
            Capabilities {
                name: "test",
                shared_queue: false,
                calls_workers_directly: true,
                starts_functions: false,
                max_bytes: 1 << 20,
            }
        }

        async fn request(&self, _: &Endpoint, _: Bytes) -> Result<Pieces, TransportError> {
            if self.is_gone.swap(true, Ordering::Relaxed) {
                return Err(TransportError::Unreachable { peer: "a:1".to_owned(), cause: "gone".to_owned() });
            }
            let lead = Lead { term: self.term, incarnation: "A".to_owned() };
            Ok(Box::pin(stream::iter([Ok(packet::encode(&Reply::Leads(lead), &[]))])))
        }

        async fn serve(&self, _: &Endpoint, _: usize) -> Result<Box<dyn Requests>, TransportError> {
            Err(TransportError::Invalid("nobody serves in this test".to_owned()))
        }
    }

    /// The term of the lead that follows one of `term`.
    async fn next_term(heard: u64, term: u64) -> u64 {
        let transport: SharedTransport = Arc::new(LastWords { term, is_gone: AtomicBool::new(false) });
        let pair = PairConfig { peer: Some("a:1".to_owned()), takeover_after: Duration::from_secs(10) };
        stand_by(&transport, &pair, heard).await
    }

    #[tokio::test]
    async fn a_lead_has_a_higher_term_than_all_that_were_heard_of() {
        assert_eq!(next_term(0, 4).await, 5);
        assert_eq!(next_term(7, 4).await, 8);
    }

    #[tokio::test]
    async fn a_claim_of_the_last_term_does_not_end_a_master() {
        assert_eq!(next_term(0, u64::MAX).await, u64::MAX);
        assert_eq!(next_term(u64::MAX, 1).await, u64::MAX);
    }
}
