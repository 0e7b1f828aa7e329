//! Repairs messages that have too few copies, a pass over the registry after the other.
//!
//! A pass counts first, and then copies: messages without a copy that counts come first, then those with one, and so on.
//! No message is remembered between two passes. What makes a pass necessary is told by
//! [`Registry::doubts`] and by the datanodes' [`Discounts`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::store::types::{NodeName, RegistryEntry};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::copies::{CopyTally, Discounts};
use crate::metrics::HeadnodeMetrics;
use crate::placer::Placer;
use crate::registry::{PAGE_LINES, Registry};

/// How many messages are copied at the same time.
const IN_FLIGHT: usize = 256;
/// Memory for messages that are copied, in bytes.
const IN_FLIGHT_BYTES: usize = 4 * 1024 * 1024;
/// How fast messages are copied. Each counts [`OVERHEAD_BYTES`] more than its text, for the work that it makes.
const BYTES_PER_SECOND: f64 = 8.0 * 1024.0 * 1024.0;
const OVERHEAD_BYTES: usize = 512;
/// While a pass leaves messages behind, the next one comes after a pause. Each pause is twice as long as the one before.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Counting takes at most one part in this many of the time.
const COUNTS_ONE_IN: u32 = 10;

/// How far repair has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairProgress {
    /// The datanodes whose copies did not count in this pass.
    pub discounts: Discounts,
    /// Messages that can be read and have too few copies, or a copy that is lost.
    pub needing: u64,
    /// Those of them that are on a datanode that is drained.
    pub on_draining: BTreeMap<NodeName, u64>,
    /// Messages whose lines in the registry are damaged: nobody knows where they are until the headnode is started again.
    pub unreadable: u64,
}

/// What a pass has counted.
#[derive(Debug)]
struct CopyCensus {
    /// Messages that need repair, by the number of copies that count. The last number stands for all higher ones.
    by_live: Vec<u64>,
    progress: RepairProgress,
}

/// Repairs messages while that is allowed.
pub struct Repairer {
    pub placer: Arc<Placer>,
    pub registry: Registry,
    pub discounts: watch::Receiver<Discounts>,
    pub may_repair: watch::Receiver<bool>,
    pub replicas: usize,
    pub progress: watch::Sender<RepairProgress>,
    pub metrics: HeadnodeMetrics,
}

impl Repairer {
    /// Runs until the keeper has ended. What is being copied then is copied and registered first.
    pub async fn run(mut self) {
        let mut doubts = self.registry.doubts();
        let mut pause = SHORTEST_PAUSE;
        while self.may_repair.wait_for(|may| *may).await.is_ok() {
            doubts.borrow_and_update();
            let begun = Instant::now();
            let (is_done, repaired) = match self.pass().await {
                Ok(outcome) => outcome,
                Err(error) => {
                    tracing::error!(%error, "cannot read registro_server.txt to repair messages");
                    (false, 0)
                }
            };
            pause = if is_done || repaired > 0 { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            // Many messages may give rise to doubt at the same time.
            let rest = if repaired == 0 { begun.elapsed() * COUNTS_ONE_IN } else { Duration::ZERO };
            let (doubted, next_try) = (doubts.changed(), pause);
            let wake = async move {
                sleep(rest.max(SHORTEST_PAUSE)).await;
                tokio::select! {
                    biased;
                    _ = doubted => {}
                    () = sleep(next_try), if !is_done => {}
                }
            };
            tokio::select! {
                biased;
                changed = self.discounts.changed() => match changed {
                    Ok(()) => pause = SHORTEST_PAUSE,
                    Err(_) => return,
                },
                () = wake => {}
            }
        }
    }

    /// Repairs every message that needs it. Returns whether none did, and how many were repaired.
    async fn pass(&mut self) -> io::Result<(bool, u64)> {
        let discounts = self.discounts.borrow_and_update().clone();
        // What is stored from now on is stored where copies count. If they do not any more, the next pass is about it.
        let end = self.registry.bytes()?;
        let CopyCensus { by_live, progress } = self.count(&discounts).await?;
        let needing = progress.needing;
        self.progress.send_replace(progress);
        if needing == 0 {
            return Ok((true, 0));
        }
        let mut repaired = 0;
        for (live, _) in by_live.iter().enumerate().filter(|(_, count)| **count > 0) {
            repaired += self.repair_with(live, end, &discounts).await?;
        }
        if repaired > 0 {
            let left = needing.saturating_sub(repaired);
            tracing::info!(needing, repaired, left, "messages were repaired");
        }
        Ok((false, repaired))
    }

    async fn count(&self, discounts: &Discounts) -> io::Result<CopyCensus> {
        let replicas = self.replicas;
        let mut by_live = vec![0; replicas + 1];
        let mut progress = RepairProgress { discounts: discounts.clone(), ..RepairProgress::default() };
        // Messages that are stored meanwhile only add to those that are counted.
        let (registered, mut counted) = (self.registry.messages(), 0);
        let counting = self.registry.for_each(|holdings, key| {
            counted += 1;
            let tally = CopyTally::of(&key.places, holdings, discounts);
            if tally.needs_repair(replicas) {
                by_live[tally.live.min(replicas)] += 1;
                progress.needing += 1;
                let is_there = |name: &&NodeName| key.places.iter().any(|place| &place.datanode == *name);
                if tally.live < replicas {
                    for name in discounts.draining().filter(is_there) {
                        *progress.on_draining.entry(name.clone()).or_default() += 1;
                    }
                }
            }
        });
        counting.await?;
        progress.unreadable = registered.saturating_sub(counted);
        Ok(CopyCensus { by_live, progress })
    }

    /// Repairs the messages in front of `end` with so many copies that count. Returns how many were repaired.
    async fn repair_with(&self, live: usize, end: u64, discounts: &Discounts) -> io::Result<u64> {
        let (mut repaired, mut next, mut most) = (0, Some(0), IN_FLIGHT);
        while let Some(from) = next {
            let page = self.registry.page(from, PAGE_LINES, |holdings, key| {
                let tally = CopyTally::of(&key.places, holdings, discounts);
                tally.needs_repair(self.replicas) && tally.live.min(self.replicas) == live
            })?;
            next = page.next.filter(|next| *next < end);
            let mut entries = &page.entries[..];
            while !entries.is_empty() {
                if !*self.may_repair.borrow() || self.discounts.has_changed().unwrap_or(true) {
                    return Ok(repaired);
                }
                let (batch, rest) = entries.split_at(most.min(entries.len()));
                entries = rest;
                let outcome = self.repair_batch(batch).await;
                repaired += outcome.repaired;
                most = outcome.next_batch;
            }
            tokio::task::yield_now().await;
        }
        Ok(repaired)
    }

    /// Repairs some messages at the same time, and rests as long as the limits ask for it.
    async fn repair_batch(&self, entries: &[RegistryEntry]) -> BatchOutcome {
        let (begun, saved) = (Instant::now(), self.metrics.put.saved.get());
        let repairing = entries.iter().cloned().map(|entry| {
            let id = entry.id;
            async move {
                let outcome = self.placer.repair(entry).await;
                outcome.inspect_err(|error| tracing::debug!(%id, %error, "not repaired for now"))
            }
        });
        let copied: Vec<_> = join_all(repairing).await.into_iter().flatten().collect();
        self.metrics.repaired.inc_by(copied.len() as u64);
        let worked = begun.elapsed();
        let bytes = copied.iter().map(|bytes| bytes + OVERHEAD_BYTES).sum::<usize>();
        let slot = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        // Clients come first: while they store messages, repair rests as long as it works.
        let clients_store = self.metrics.put.saved.get() > saved;
        let rest = slot.saturating_sub(worked).max(if clients_store { worked } else { Duration::ZERO });
        if !rest.is_zero() {
            sleep(rest).await;
        }
        // Long messages are copied fewer at a time, so that they do not fill the memory.
        let longest = copied.iter().max().map_or(0, |bytes| bytes + OVERHEAD_BYTES);
        let next_batch =
            IN_FLIGHT_BYTES.checked_div(longest).map_or(IN_FLIGHT, |most| most.clamp(1, IN_FLIGHT));
        BatchOutcome { repaired: copied.len() as u64, next_batch }
    }
}

struct BatchOutcome {
    repaired: u64,
    /// How many messages the next batch may have.
    next_batch: usize,
}
