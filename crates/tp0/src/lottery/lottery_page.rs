//! The lottery as its page and monitors see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use page::{Check, FrameStamp, Health, RawFile, Source, json};
use prometheus_client::registry::Registry;
use service::new_ulid;
use tokio::sync::Mutex;

use super::board::{DrawStatus, EVENTS, LotteryBoard};
use super::frame::{self, LotteryCounts, LotteryState, NEW_EVENTS};
use super::history::LotteryHistory;
use super::store::{BetStore, JOURNAL_FILE};
use crate::monitor::RuntimeCheck;

/// What the page and monitors can read of a lottery server.
#[derive(Debug)]
pub struct LotteryPage {
    board: Arc<LotteryBoard>,
    store: BetStore,
    registry: Registry,
    runtime: RuntimeCheck,
    run: String,
    timeout: Duration,
    folder: PathBuf,
    started: Instant,
    history: Mutex<LotteryHistory>,
}

impl LotteryPage {
    /// Returns what can be read of a server that is starting on the present runtime. An agency that is silent for longer
    /// than `timeout` is worth a warning.
    pub fn new(board: Arc<LotteryBoard>, store: BetStore, folder: PathBuf, timeout: Duration) -> Self {
        let (registry, history) = (board.metrics.registry(), LotteryHistory::new(&board.metrics));
        Self {
            board,
            store,
            registry,
            runtime: RuntimeCheck::of_present(),
            run: new_ulid(rand::random()).to_string(),
            timeout,
            folder,
            started: Instant::now(),
            history: Mutex::new(history),
        }
    }

    async fn state(&self) -> LotteryState {
        let board = &self.board;
        let metrics = &board.metrics;
        let (rounds, syncs) = self.history.lock().await.recent();
        let (last_event, events) = board.events(0, NEW_EVENTS);
        let whole = |value: i64| u64::try_from(value).unwrap_or(0);
        LotteryState {
            run: self.run.clone(),
            now: Utc::now(),
            up: self.started.elapsed(),
            timeout: self.timeout,
            expected: whole(metrics.agencies.expected.get()),
            known: whole(metrics.agencies.known.get()),
            finished: whole(metrics.agencies.finished.get()),
            bets: whole(metrics.bets_in_file.get()),
            connections: metrics.connections.now(),
            counts: LotteryCounts {
                bets: metrics.bets.get(),
                stored: metrics.batches.stored.get(),
                repeated: metrics.batches.repeated.get(),
                refused: metrics.batches.refused.get(),
                disk_full: metrics.batches.disk_full.get(),
                invalid: metrics.batches.invalid.get(),
                told: metrics.winner_requests.told.get(),
            },
            rounds,
            syncs,
            draw: board.draw(),
            is_disk_full: board.is_disk_full(),
            agencies: board.agencies(),
            last_event,
            events,
            files: self.files().into_iter().map(|file| file.name).collect(),
        }
    }

    fn events(&self, since: u64) -> Option<Vec<u8>> {
        let (_, events) = self.board.events(since, EVENTS);
        let events: Vec<_> = events.iter().map(|(n, event)| frame::shown_event(*n, event)).collect();
        json(&serde_json::json!({ "run": self.run, "events": events }))
    }
}

impl Source for LotteryPage {
    const HAS_PAGE: bool = true;

    fn metrics(&self) -> &Registry {
        &self.registry
    }

    async fn health(&self) -> Health {
        let failure = self.store.failure().get();
        let seen = failure.as_ref().map_or("ok".to_owned(), ToString::to_string);
        let store = Check { name: "store", passed: failure.is_none(), seen };
        let runtime = self.runtime.check().await;
        let is_full = self.board.is_disk_full();
        let disk = Check {
            name: "disk",
            passed: !is_full,
            seen: if is_full { "full: bets are refused" } else { "ok" }.to_owned(),
        };
        let draw = self.board.draw();
        let agencies = &self.board.metrics.agencies;
        let draw = Check {
            name: "draw",
            passed: draw != DrawStatus::Failed,
            seen: match draw {
                DrawStatus::Waiting => {
                    format!("{} of {} agencies finished", agencies.finished.get(), agencies.expected.get())
                }
                DrawStatus::Failed => "it failed, and is tried again".to_owned(),
                DrawStatus::Held { .. } => "held".to_owned(),
            },
        };
        Health { live: vec![store.clone(), runtime.clone()], ready: vec![store, runtime, disk, draw] }
    }

    fn run(&self) -> String {
        self.run.clone()
    }

    async fn frame(&self, stamp: FrameStamp) -> serde_json::Result<Vec<u8>> {
        frame::frame(&self.state().await, stamp)
    }

    async fn query(&self, what: &str, argument: Option<&str>) -> Option<Vec<u8>> {
        match what {
            "events" => self.events(argument.and_then(|number| number.parse().ok()).unwrap_or(0)),
            "history" => json(&self.history.lock().await.report(&self.run)),
            _ => None,
        }
    }

    async fn sample(&self) {
        self.history.lock().await.sample(Utc::now(), &self.board.metrics);
    }

    fn files(&self) -> Vec<RawFile> {
        // The other files tell who has bet, and who has won.
        vec![RawFile { name: JOURNAL_FILE.to_owned(), path: self.folder.join(JOURNAL_FILE) }]
    }
}
