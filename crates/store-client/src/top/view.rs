//! What the answers of the headnode say about the store, now and over the last minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use protocol::store::client_api::StoreStatus;
use protocol::store::types::NodeName;
use text::Shown;

use super::watch::StatusAnswer;

/// Time over which the datanodes' shares are counted: a random choice is even only in the long run.
const SHARES_OVER: Duration = Duration::from_secs(60);
/// Time over which messages a second are counted.
const RATE_OVER: Duration = Duration::from_secs(10);
/// An answer that is late by less is not worth a word.
const LATE: Duration = Duration::from_secs(2);

/// What is known of the store.
#[derive(Debug, Clone)]
pub struct TopView {
    /// The headnode's address as a terminal may show it.
    pub headnode: String,
    /// The newest answer, and when it came.
    pub newest: Option<(Instant, StoreStatus)>,
    /// Why there is no answer now, as a terminal may show it.
    pub trouble: Option<String>,
    interval: Duration,
    /// The counts of the answers of the last minute, at least of the last two.
    counts: VecDeque<Counts>,
}

/// What an answer counted.
#[derive(Debug, Clone)]
struct Counts {
    at: Instant,
    messages: u64,
    records: BTreeMap<NodeName, u64>,
}

impl TopView {
    /// Returns a view of the headnode at this address, of which nothing is known yet. An answer is due every `interval`.
    pub fn new(headnode: &str, interval: Duration) -> Self {
        let headnode = Shown(headnode).to_string();
        Self { headnode, newest: None, trouble: None, interval, counts: VecDeque::new() }
    }

    /// Notes an answer.
    pub fn note(&mut self, at: Instant, answer: StatusAnswer) {
        let status = match answer {
            Ok(status) => status,
            Err(trouble) => {
                self.trouble = Some(Shown(&trouble).to_string());
                return;
            }
        };
        self.trouble = None;
        let is_another_run = self
            .newest
            .as_ref()
            .is_some_and(|(_, before)| status.round < before.round || status.messages < before.messages);
        if is_another_run {
            self.counts.clear();
        }
        let records = status.datanodes.iter().map(|node| (node.name.clone(), node.records)).collect();
        self.counts.push_back(Counts { at, messages: status.messages, records });
        while self.counts.len() > 2 && at.saturating_duration_since(self.counts[0].at) > SHARES_OVER {
            self.counts.pop_front();
        }
        self.newest = Some((at, status));
    }

    /// Returns how many messages were stored in a second, on average over the last answers. It is not known before the
    /// second one.
    pub fn messages_per_second(&self) -> Option<f64> {
        let mut counts = self.counts.iter().rev();
        let (last, before) = (counts.next()?, counts.next()?);
        let recent = |counts: &&Counts| last.at.saturating_duration_since(counts.at) <= RATE_OVER;
        let first = counts.take_while(recent).last().unwrap_or(before);
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        (seconds > 0.0).then(|| last.messages.saturating_sub(first.messages) as f64 / seconds)
    }

    /// Returns which part of the records of the last minute each datanode stored. It is not known if there were none.
    pub fn shares(&self) -> Option<BTreeMap<&NodeName, f64>> {
        let (first, last) = (self.counts.front()?, self.counts.back()?);
        let new: BTreeMap<_, _> = last
            .records
            .iter()
            .filter_map(|(name, records)| Some((name, records.saturating_sub(*first.records.get(name)?))))
            .collect();
        let all: f64 = new.values().map(|new| *new as f64).sum();
        (all > 0.0).then(|| new.into_iter().map(|(name, new)| (name, new as f64 / all)).collect())
    }

    /// Returns the share that each available datanode has in the long run, as each message goes to datanodes that are
    /// chosen at random.
    pub fn fair_share(&self) -> Option<f64> {
        let (_, status) = self.newest.as_ref()?;
        (status.available > 0).then(|| 1.0 / status.available as f64)
    }

    /// Returns the age of the newest answer if a newer one should be there.
    pub fn age_if_old(&self, now: Instant) -> Option<Duration> {
        let (at, _) = self.newest.as_ref()?;
        let age = now.saturating_duration_since(*at);
        (self.trouble.is_some() || age > self.interval.saturating_add(LATE)).then_some(age)
    }
}
