//! What the page and monitors know of a lottery. The store's thread and the connections write down what happens, and the
//! page's thread reads it.
//!
//! A batch costs a few atomic counts. A lock is taken only for what is rare: an event, the first batch of an agency.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use chrono::{DateTime, Utc};
use page::history::Ring;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::event::{LotteryEvent, LotteryHappening, RefusedCause};
use super::metrics::LotteryMetrics;

/// How many events are kept.
pub const EVENTS: usize = 256;
/// How many agencies the board keeps: those that began last. The store knows all.
const AGENCIES: usize = 1000;

/// What an agency has sent.
#[derive(Debug)]
pub struct AgencyTally {
    name: Arc<str>,
    bets: AtomicU64,
    batches: AtomicU64,
    /// When its last batch came, in milliseconds since 1970; 0 if none came in this run.
    last_batch: AtomicI64,
    state: AtomicU8,
    is_listed: AtomicBool,
    counter: OnceLock<Counter>,
}

/// How far an agency is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum AgencyState {
    /// It has not said that all its bets are sent.
    Sending,
    /// All its bets are sent.
    Finished,
    /// It was sent its winners in this run.
    Told,
}

impl AgencyTally {
    /// Returns the tally of an agency that has sent nothing yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            bets: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            last_batch: AtomicI64::new(0),
            state: AtomicU8::new(AgencyState::Sending as u8),
            is_listed: AtomicBool::new(false),
            counter: OnceLock::new(),
        }
    }

    /// Adds a batch that was found in the files.
    pub fn recover(&self, bets: u32) {
        self.bets.fetch_add(bets.into(), Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that all its bets are sent.
    pub fn finish(&self) {
        self.reach(AgencyState::Finished);
    }

    /// Notes a state, unless the agency is further.
    fn reach(&self, state: AgencyState) {
        self.state.fetch_max(state as u8, Ordering::Relaxed);
    }

    fn state(&self) -> AgencyState {
        match self.state.load(Ordering::Relaxed) {
            0 => AgencyState::Sending,
            1 => AgencyState::Finished,
            _ => AgencyState::Told,
        }
    }

    fn status(&self) -> AgencyStatus {
        let last = self.last_batch.load(Ordering::Relaxed);
        AgencyStatus {
            name: self.name.clone(),
            state: self.state(),
            bets: self.bets.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            last_batch: DateTime::from_timestamp_millis(last).filter(|_| last > 0),
        }
    }
}

/// An agency at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgencyStatus {
    pub name: Arc<str>,
    pub state: AgencyState,
    pub bets: u64,
    pub batches: u64,
    /// When its last batch came, if one came in this run.
    pub last_batch: Option<DateTime<Utc>>,
}

/// The draw, as the board knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrawStatus {
    /// It is not due, or about to be held.
    #[default]
    Waiting,
    /// It could not be held, and is tried again.
    Failed,
    /// It is held.
    Held {
        /// The number of winning bets.
        winners: u64,
        /// When that was, unless it was in an earlier run.
        time: Option<DateTime<Utc>>,
    },
}

/// What is known of a lottery.
#[derive(Debug)]
pub struct LotteryBoard {
    pub metrics: LotteryMetrics,
    agencies: Mutex<VecDeque<Arc<AgencyTally>>>,
    events: Mutex<Ring<LotteryEvent>>,
    draw: Mutex<DrawStatus>,
    is_disk_full: AtomicBool,
}

impl LotteryBoard {
    /// Returns the board of a lottery whose draw waits for `expected` agencies.
    pub fn new(expected: usize) -> Self {
        let metrics = LotteryMetrics::new();
        metrics.agencies.expected.set(whole(expected as u64));
        Self {
            metrics,
            agencies: Mutex::default(),
            events: Mutex::new(Ring::new(EVENTS)),
            draw: Mutex::default(),
            is_disk_full: AtomicBool::new(false),
        }
    }

    /// Lists an agency, unless it is listed.
    pub fn list(&self, tally: &Arc<AgencyTally>) {
        if tally.is_listed.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut agencies = lock(&self.agencies);
        if agencies.len() == AGENCIES
            && let Some(oldest) = agencies.pop_front()
        {
            oldest.is_listed.store(false, Ordering::Relaxed);
        }
        agencies.push_back(tally.clone());
    }

    /// Notes how many agencies and bets the store knows.
    pub fn set_totals(&self, known: usize, finished: usize, bets: u64) {
        self.metrics.agencies.known.set(whole(known as u64));
        self.metrics.agencies.finished.set(whole(finished as u64));
        self.metrics.bets_in_file.set(whole(bets));
    }

    /// Notes that a batch of an agency is on disk, and `new` of its bets were new.
    pub fn stored(&self, tally: &Arc<AgencyTally>, new: u32, now: DateTime<Utc>) {
        let metrics = &self.metrics;
        self.has_room();
        let counter = tally.counter.get_or_init(|| metrics.agency_bets.of(&tally.name));
        counter.inc_by(new.into());
        metrics.bets.inc_by(new.into());
        metrics.batches.stored.inc();
        tally.bets.fetch_add(new.into(), Ordering::Relaxed);
        tally.batches.fetch_add(1, Ordering::Relaxed);
        tally.last_batch.store(now.timestamp_millis(), Ordering::Relaxed);
        self.list(tally);
    }

    /// Notes that all bets of a batch were stored before.
    pub fn repeated(&self, tally: &Arc<AgencyTally>, now: DateTime<Utc>) {
        self.metrics.batches.repeated.inc();
        tally.last_batch.store(now.timestamp_millis(), Ordering::Relaxed);
        self.list(tally);
    }

    /// Notes that the end of an agency is on disk.
    pub fn finished(&self, tally: &Arc<AgencyTally>) {
        self.has_room();
        tally.finish();
        self.list(tally);
        self.note(Some(tally.name.clone()), LotteryHappening::Finished);
    }

    /// Notes that a batch was refused.
    pub fn refused(&self, agency: Option<Arc<str>>, cause: RefusedCause) {
        let batches = &self.metrics.batches;
        match cause {
            RefusedCause::Done | RefusedCause::Drawn | RefusedCause::Full => batches.refused.inc(),
            RefusedCause::OtherAgency | RefusedCause::Malformed | RefusedCause::Rejected => {
                batches.invalid.inc()
            }
        };
        self.note(agency, LotteryHappening::Refused(cause));
    }

    /// Notes that there was no room for a batch, or for the end of an agency.
    pub fn disk_full(&self, agency: Arc<str>, is_batch: bool) {
        self.metrics.batches.disk_full.inc_by(is_batch.into());
        // A full disk is one event, however many batches it fails.
        if !self.is_disk_full.swap(true, Ordering::Relaxed) {
            self.note(Some(agency), LotteryHappening::DiskFull);
        }
    }

    fn has_room(&self) {
        // A plain read costs other processors nothing, and it is all that is done almost always.
        if self.is_disk_full.load(Ordering::Relaxed) && self.is_disk_full.swap(false, Ordering::Relaxed) {
            self.note(None, LotteryHappening::DiskHasRoom);
        }
    }

    /// Notes that the draw is held now, or was held in an earlier run.
    pub fn drawn(&self, winners: u64, is_now: bool) {
        let time = is_now.then(Utc::now);
        self.metrics.draws.winners.set(whole(winners));
        *lock(&self.draw) = DrawStatus::Held { winners, time };
        if is_now {
            self.metrics.draws.held.inc();
            self.note(None, LotteryHappening::Drawn(winners));
        }
    }

    /// Notes that the draw could not be held.
    pub fn draw_failed(&self) {
        self.metrics.draws.failed.inc();
        let before = std::mem::replace(&mut *lock(&self.draw), DrawStatus::Failed);
        if before != DrawStatus::Failed {
            self.note(None, LotteryHappening::DrawFailed);
        }
    }

    /// Notes that an agency was sent its winners.
    pub fn told(&self, agency: &Arc<str>) {
        self.metrics.winner_requests.told.inc();
        if let Some(tally) = lock(&self.agencies).iter().find(|tally| tally.name == *agency) {
            tally.reach(AgencyState::Told);
        }
        self.note(Some(agency.clone()), LotteryHappening::WinnersTold);
    }

    /// Adds an event.
    pub fn note(&self, agency: Option<Arc<str>>, happening: LotteryHappening) {
        self.metrics.events.inc();
        lock(&self.events).push(LotteryEvent { time: Utc::now(), agency, happening });
    }

    /// Returns the agencies that are listed.
    pub fn agencies(&self) -> Vec<AgencyStatus> {
        lock(&self.agencies).iter().map(|tally| tally.status()).collect()
    }

    /// Returns the number of the last event, and the newest ones above the number `since`, at most `newest`.
    pub fn events(&self, since: u64, newest: usize) -> (u64, Vec<(u64, LotteryEvent)>) {
        let events = lock(&self.events);
        let from = since.max(events.last().saturating_sub(newest as u64));
        (events.last(), events.since(from).map(|(number, event)| (number, event.clone())).collect())
    }

    /// Returns the draw.
    pub fn draw(&self) -> DrawStatus {
        *lock(&self.draw)
    }

    /// Whether the last round found no room.
    pub fn is_disk_full(&self) -> bool {
        self.is_disk_full.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of the locks can panic in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_795_253_400_123).unwrap()
    }

    fn happenings(board: &LotteryBoard) -> Vec<&'static str> {
        board.events(0, EVENTS).1.iter().map(|(_, event)| event.happening.word()).collect()
    }

    #[test]
    fn agencies_beyond_the_bound_push_out_the_oldest_and_come_back_with_all_they_have_sent() {
        let board = LotteryBoard::new(5);
        let tallies: Vec<_> =
            (0..=AGENCIES).map(|number| Arc::new(AgencyTally::new(&number.to_string()))).collect();
        tallies.iter().for_each(|tally| board.stored(tally, 2, now()));
        let names = |board: &LotteryBoard| -> Vec<_> {
            board.agencies().iter().map(|agency| agency.name.parse::<usize>().unwrap()).collect()
        };
        assert_eq!(names(&board), (1..=AGENCIES).collect::<Vec<_>>());
        board.stored(&tallies[0], 3, now());
        let agencies = board.agencies();
        let first = &agencies[AGENCIES - 1];
        assert_eq!((agencies.len(), &*first.name, first.bets, first.batches), (AGENCIES, "0", 5, 2));
        assert_eq!(board.metrics.bets.get(), 2 * (AGENCIES as u64 + 1) + 3);
    }

    #[test]
    fn a_full_disk_and_a_draw_that_fails_are_one_event_each() {
        let board = LotteryBoard::new(5);
        let tally = Arc::new(AgencyTally::new("1"));
        for _ in 0..3 {
            board.disk_full("1".into(), true);
            board.draw_failed();
        }
        assert!(board.is_disk_full());
        board.stored(&tally, 1, now());
        board.stored(&tally, 1, now());
        board.drawn(7, true);
        assert_eq!(happenings(&board), ["disk-full", "draw-failed", "disk-has-room", "drawn"]);
        assert_eq!((board.metrics.batches.disk_full.get(), board.metrics.draws.failed.get()), (3, 3));
        assert!(
            !board.is_disk_full() && matches!(board.draw(), DrawStatus::Held { winners: 7, time: Some(_) })
        );
        assert_eq!(board.events(3, EVENTS).1.len(), 1);
        assert_eq!(board.events(0, 2).1[0].0, 3);
    }

    #[test]
    fn an_agency_never_goes_back() {
        let board = LotteryBoard::new(1);
        let tally = Arc::new(AgencyTally::new("1"));
        tally.recover(9);
        board.list(&tally);
        assert_eq!((board.agencies()[0].state, board.agencies()[0].last_batch), (AgencyState::Sending, None));
        board.finished(&tally);
        board.told(&"1".into());
        board.finished(&tally);
        assert_eq!((board.agencies()[0].state, board.agencies()[0].bets), (AgencyState::Told, 9));
        assert_eq!(happenings(&board), ["finished", "winners-told", "finished"]);
    }
}
